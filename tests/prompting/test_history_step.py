"""prompt.history_step: a history that is cut drops so many items at once and keeps its beginning in between."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.artifacts.run_folder import load_artifact, read_manifest
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories
from llmrec.errors import ConfigError
from llmrec.items.forms import ItemTokens, semantic_id_tokens, text_tokens
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.prompting.collators import AllPositionExamples, LastItemExamples
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.packing import MIN_SHARED, place_rows
from llmrec.prompting.templates import load_prompt
from tests.recipes.running import run_here
from tests.recipes.running import settings as run_settings

NUM_ITEMS = 64
V = 49152
CATALOG = Catalog.from_rows([{"item_id": f"id{i}", "title": "Film " * (1 + i % 5) + str(i)} for i in range(NUM_ITEMS)])
PROMPTS = ["next_item/bare", "next_item/chat", "next_item/instruction"]


@pytest.fixture(scope="module")
def codes() -> ItemTokens:
    digits = np.stack(np.unravel_index(np.arange(NUM_ITEMS), (4, 4, 4)), axis=1)
    return semantic_id_tokens(SemanticIDs(digits, (4, 4, 4)), V)


@pytest.fixture(scope="module")
def titles(smollm2_tokenizer) -> ItemTokens:
    return text_tokens(CATALOG.titles, smollm2_tokenizer, V, item_ids=CATALOG.item_ids)


def encoder_of(tokenizer, items, prompt="next_item/bare", max_history=50, max_tokens=2000, step=10) -> PromptEncoder:
    limits = {"max_history": max_history, "max_tokens": max_tokens, "history_step": step}
    return PromptEncoder(load_prompt(prompt), tokenizer, items, CATALOG, **limits)


def num_shared(first, second) -> int:
    shorter = min(len(first), len(second))
    return int(np.append(first[:shorter] == second[:shorter], False).argmin())


def test_a_full_history_starts_at_multiples_of_the_step(smollm2_tokenizer, codes):
    starts = {
        step: [n - encoder_of(smollm2_tokenizer, codes, max_history=5, step=step).num_shown(n) for n in range(13)]
        for step in (1, 3, 5)
    }
    assert starts[1] == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert starts[3] == [0, 0, 0, 0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert starts[5] == [0, 0, 0, 0, 0, 0, 5, 5, 5, 5, 5, 10, 10]


def test_two_new_events_of_a_long_history_cost_their_own_tokens(smollm2_tokenizer, codes):
    history = np.arange(60)
    stepped, sliding = (encoder_of(smollm2_tokenizer, codes, step=step) for step in (10, 1))
    shared = {
        name: [num_shared(each.encode(history[:n]), each.encode(history[: n + 2])) for n in (30, 51, 57)]
        for name, each in (("stepped", stepped), ("sliding", sliding))
    }
    # a start token, three codes an item; 51 events show 41 items, 57 show 47
    assert shared["stepped"] == [1 + 3 * 30, 1 + 3 * 41, 1 + 3 * 47]
    assert (
        shared["sliding"][0] == 1 + 3 * 30 and max(shared["sliding"][1:]) <= 1 + 2
    )  # first codes that happen to agree


@pytest.mark.parametrize("prompt", PROMPTS)
def test_for_a_step_of_events_the_prompt_begins_alike_up_to_the_last_item(smollm2_tokenizer, codes, prompt):
    encoder, history = encoder_of(smollm2_tokenizer, codes, prompt, max_history=12, step=5), np.arange(40)
    before, num_kept = encoder.encode_with_spans(history[:12]), 0
    for num_events in range(13, 41):
        now = encoder.encode_with_spans(history[:num_events])
        assert 12 - 5 + 1 <= len(now.item_spans) <= 12
        if len(now.item_spans) > len(before.item_spans):
            assert num_shared(before.input_ids, now.input_ids) >= before.item_spans[-1, 1]
            num_kept += 1
        before = now
    assert num_kept == 28 - 6  # of 28 events, the beginning moved at six


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(PROMPTS),
    st.lists(st.integers(0, NUM_ITEMS - 1), max_size=30),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(100, 260),
)
def test_max_tokens_too_cut_at_multiples_and_no_more_than_they_must(
    smollm2_tokenizer, titles, prompt, history, one, other, max_tokens
):
    max_history, step = max(one, other), min(one, other)
    encoder = encoder_of(smollm2_tokenizer, titles, prompt, max_history, max_tokens, step)
    ample = encoder_of(smollm2_tokenizer, titles, prompt, 100, 4000, 1)
    ids = encoder.encode(history)

    def fits(start):
        return len(history) - start <= max_history and len(ample.encode(history[start:])) <= encoder.room

    multiples = range(0, max(len(history), 1), step)
    allowed = [*multiples, *range(multiples[-1] + 1, len(history) + 1)]
    start = next(start for start in allowed if fits(start))
    assert ids.tolist() == ample.encode(history[start:]).tolist()


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=30), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(70, 200),
)
def test_an_all_position_example_is_the_prompt_of_serving_and_every_event_a_target_once(
    smollm2_tokenizer, titles, lists, one, other, max_tokens
):
    encoder = encoder_of(
        smollm2_tokenizer, titles, max_history=max(one, other), max_tokens=max_tokens, step=min(one, other)
    )
    rows, targets = AllPositionExamples(encoder, Histories.from_lists(lists)), [[] for _ in lists]
    for (user, _, first_target, end), row in zip(rows.windows, rows, strict=True):
        targets[user] += range(first_target, end)
        target = titles[lists[user][end - 1]].tolist()
        assert row["input_ids"].tolist() == encoder.encode(lists[user][: end - 1]).tolist() + target
    assert [sorted(each) for each in targets] == [list(range(len(events))) for events in lists]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_answer_rows_are_the_prompts_of_serving_and_pack_into_fewer_tokens(smollm2_tokenizer, codes, prompt):
    history, packed = np.random.default_rng(0).permutation(NUM_ITEMS)[:40], {}
    for step in (1, 5):
        encoder = encoder_of(smollm2_tokenizer, codes, prompt, max_history=12, step=step)
        rows = LastItemExamples(encoder, Histories.from_lists([history]))
        for cut, row in enumerate(rows, start=1):
            expected = [*encoder.encode(history[:cut]), *codes[history[cut]]]
            assert row["input_ids"].tolist() == expected
        assert rows.lengths == [len(encoder.encode_with_spans(history[:cut]).item_spans) for cut in range(1, 40)]
        ids = [row["input_ids"] for row in rows]
        places, packed[step] = place_rows(ids, min_shared=MIN_SHARED)
        together = np.zeros(packed[step], dtype=np.int32)
        for row, place in zip(ids, places, strict=True):
            together[place] = row
        assert all((together[place] == row).all() for row, place in zip(ids, places, strict=True))
    assert packed[5] < 0.6 * packed[1]


@pytest.mark.parametrize("step", [0, -3, 9])
def test_a_step_of_no_item_or_of_more_than_a_history_is_refused(smollm2_tokenizer, codes, step):
    with pytest.raises(ConfigError, match=rf"history_step counts .* 1 to max_history=8; it is {step}\."):
        encoder_of(smollm2_tokenizer, codes, max_history=8, step=step)


def test_serving_repeats_the_step_of_training(few_users, tiny_model, tmp_path):
    run_here(
        run_settings(
            few_users, tiny_model, tmp_path / "run", "prompt.history_step=6", "training.max_steps=1",
            "training.evaluate_every=1", "validation.max_users=2",
        )
    )  # fmt: skip
    assert read_manifest(tmp_path / "run")["history_step"] == 6
    encoder = load_artifact(tmp_path / "run").encoder
    assert encoder.history_step == 6 and len(encoder.encode(range(21))) == 1 + 15


def test_a_run_from_before_the_setting_drops_one_item_at_a_time(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest.pop("history_step") == 1
    (tmp_path / "model" / "manifest.json").write_text(json.dumps(manifest))
    old, new = (load_artifact(run).encoder for run in (tmp_path, tiny_run))
    assert old.history_step == 1
    assert old.encode(range(33)).tolist() == new.encode(range(33)).tolist()
