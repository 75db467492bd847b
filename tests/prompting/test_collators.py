"""Training rows: what is read, what is a target, and that requests see the same tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories
from llmrec.errors import ConfigError
from llmrec.items.forms import NO_TARGET, ItemTokens, semantic_id_tokens, text_tokens, unique_id_tokens
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.prompting.collators import AllPositionExamples, Collator, LastItemExamples
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import list_prompts, load_prompt

NUM_ITEMS = 40
V = 49152
NEXT_ITEM_PROMPTS = [name for name in list_prompts() if name.startswith("next_item/")]
CATALOG = Catalog.from_rows([{"item_id": f"id{i}", "title": "Film " * (1 + i % 5) + str(i)} for i in range(NUM_ITEMS)])


@pytest.fixture(scope="module")
def forms(smollm2_tokenizer) -> dict[str, ItemTokens]:
    codes = np.stack(np.unravel_index(np.arange(NUM_ITEMS), (4, 4, 4)), axis=1)
    return {
        "text": text_tokens(CATALOG.titles, smollm2_tokenizer, V, item_ids=CATALOG.item_ids),
        "unique_id": unique_id_tokens(NUM_ITEMS, V),
        "semantic_id": semantic_id_tokens(SemanticIDs(codes, (4, 4, 4)), V),
    }


def encoder_of(tokenizer, item_tokens, prompt="next_item/bare", max_history=8, max_tokens=400) -> PromptEncoder:
    return PromptEncoder(
        load_prompt(prompt), tokenizer, item_tokens, CATALOG, max_history=max_history, max_tokens=max_tokens
    )


def labelled(row) -> list[int]:
    return row["labels"][row["labels"] != NO_TARGET].tolist()


histories_strategy = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=30), min_size=1, max_size=5)


def test_a_short_history_is_one_all_position_example_with_every_item_a_target(smollm2_tokenizer, forms):
    rows = AllPositionExamples(encoder_of(smollm2_tokenizer, forms["semantic_id"]), Histories.from_lists([[3, 1]]))
    tokens = forms["semantic_id"].flatten(np.array([3, 1])).tolist()
    assert len(rows) == 1
    assert rows[0]["input_ids"].tolist() == [smollm2_tokenizer.bos_token_id, *tokens]
    assert rows[0]["labels"].tolist() == [NO_TARGET, *tokens]


@settings(deadline=None)
@given(
    histories_strategy, st.sampled_from(["text", "unique_id", "semantic_id"]), st.integers(1, 9), st.integers(70, 200)
)
def test_dense_windows_make_every_event_a_target_once(smollm2_tokenizer, forms, lists, form, max_history, max_tokens):
    item_tokens = forms[form]
    encoder = encoder_of(smollm2_tokenizer, item_tokens, max_history=max_history, max_tokens=max_tokens)
    rows = AllPositionExamples(encoder, Histories.from_lists(lists))
    targets = [[] for _ in lists]
    for (user, _, first_target, end), row in zip(rows.windows, rows, strict=True):
        targets[user] += range(first_target, end)
        events = np.array(lists[user][first_target:end], dtype=np.int64)
        assert labelled(row) == item_tokens.flatten(events).tolist()
        assert len(row["input_ids"]) <= max_tokens
    assert [sorted(t) for t in targets] == [list(range(len(events))) for events in lists]


@settings(deadline=None)
@given(
    histories_strategy, st.sampled_from(["text", "unique_id", "semantic_id"]), st.integers(1, 9), st.integers(70, 200)
)
def test_a_request_reads_the_tokens_training_read_before_the_last_target(
    smollm2_tokenizer, forms, lists, form, max_history, max_tokens
):
    encoder = encoder_of(smollm2_tokenizer, forms[form], max_history=max_history, max_tokens=max_tokens)
    rows = AllPositionExamples(encoder, Histories.from_lists(lists))
    for (user, _, _, end), row in zip(rows.windows, rows, strict=True):
        target = forms[form][lists[user][end - 1]].tolist()
        request = encoder.encode(lists[user][: end - 1]).tolist()
        assert row["input_ids"].tolist() == request + target


@pytest.mark.parametrize("prompt", NEXT_ITEM_PROMPTS)
@pytest.mark.parametrize("form", ["text", "unique_id", "semantic_id"])
def test_an_answer_row_is_the_request_and_then_the_target(smollm2_tokenizer, forms, prompt, form):
    encoder = encoder_of(smollm2_tokenizer, forms[form], prompt, max_tokens=160)
    history = [1, 9, 4, 4, 30, 8, 11, 2, 39, 17]
    instances = LastItemExamples(encoder, Histories.from_lists([history, []]), targets=[5, 7])
    for row, events, target in zip(instances, [history, []], [5, 7], strict=True):
        answer = forms[form][target].tolist()
        assert row["input_ids"].tolist() == encoder.encode(events).tolist() + answer
        assert labelled(row) == answer
        assert len(row["input_ids"]) <= 160


def test_without_targets_every_event_after_the_first_is_one(smollm2_tokenizer, forms):
    encoder = encoder_of(smollm2_tokenizer, forms["unique_id"])
    rows = LastItemExamples(encoder, Histories.from_lists([[], [1, 2, 3], [4], [5, 6]]))
    assert [[i - V for i in row["input_ids"][1:]] for row in rows] == [[1, 2], [1, 2, 3], [5, 6]]
    assert [labelled(row) for row in rows] == [[V + 2], [V + 3], [V + 6]]


@pytest.mark.parametrize("prompt", NEXT_ITEM_PROMPTS)
def test_the_history_is_cut_from_its_old_end_and_never_inside_an_item(smollm2_tokenizer, forms, prompt):
    item_tokens = forms["text"]
    encoder = encoder_of(smollm2_tokenizer, item_tokens, prompt, max_history=30, max_tokens=140)
    history = list(range(30))
    rendered = encoder.encode_with_spans(history)
    kept = len(rendered.item_spans)
    assert 1 <= kept < 30
    assert len(rendered.input_ids) + item_tokens.max_length <= 140
    for item, (start, end) in zip(history[-kept:], rendered.item_spans, strict=True):
        whole = item_tokens[item] if encoder.prompt.kind == "bare" else item_tokens.prompt_sequences[item]
        assert rendered.input_ids[start:end].tolist() == whole.tolist()
    one_more = PromptEncoder(
        encoder.prompt, smollm2_tokenizer, item_tokens, CATALOG, max_history=kept + 1, max_tokens=4000
    )
    assert len(one_more.encode(history)) + item_tokens.max_length > 140


def test_an_empty_history_still_leaves_a_token_to_predict_from(smollm2_tokenizer, forms):
    import copy

    tokenizer = copy.deepcopy(smollm2_tokenizer)
    assert encoder_of(tokenizer, forms["unique_id"]).encode([]).tolist() == [1]
    tokenizer.bos_token = None
    assert encoder_of(tokenizer, forms["unique_id"]).encode([]).tolist() == [tokenizer.eos_token_id]
    tokenizer.eos_token = None
    assert encoder_of(tokenizer, forms["unique_id"]).encode([]).tolist() == [1], "the chat's first token"


def test_limits_that_hold_no_item_are_refused(smollm2_tokenizer, forms):
    with pytest.raises(ConfigError, match="must be at least 7 "):
        encoder_of(smollm2_tokenizer, forms["semantic_id"], max_tokens=6)
    encoder_of(smollm2_tokenizer, forms["semantic_id"], max_tokens=7)
    with pytest.raises(ConfigError, match="max_history"):
        encoder_of(smollm2_tokenizer, forms["semantic_id"], max_history=0)


def test_dense_training_needs_a_bare_prompt(smollm2_tokenizer, forms):
    with pytest.raises(ConfigError, match="needs a bare prompt"):
        AllPositionExamples(encoder_of(smollm2_tokenizer, forms["text"], "next_item/chat"), Histories.from_lists([[1]]))


def test_batches_are_padded_on_the_right():
    rows = [
        {"input_ids": np.array([5, 6, 7], np.int32), "labels": np.array([-100, 6, 7])},
        {"input_ids": np.array([8], np.int32), "labels": np.array([8])},
    ]
    batch = Collator(pad_token_id=2)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]
    assert {str(values.dtype) for values in batch.values()} == {"torch.int64"}
