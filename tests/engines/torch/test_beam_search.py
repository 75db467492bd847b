"""The beam search against transformers' own, against brute force, and against itself."""

import numpy as np
import pytest
import torch

from llmrec.backbones.adapters import add_lora, lora_parameters
from llmrec.backbones.export import plain_model as exported_model
from llmrec.backbones.serving import pack
from llmrec.engines.allowed_items import AllowedItems, ItemBitmap
from llmrec.engines.torch.beam_search import beam_search
from llmrec.engines.trie import TokenTrie
from llmrec.errors import ModelError, RequestError
from llmrec.items.forms import unique_id_tokens
from tests.engines.tiny_models import (
    BASE,
    CONFIGS,
    WINDOW,
    as_backbone,
    brute_force,
    code_items,
    generate,
    plain_model,
    prompts_of,
    random_words,
    word_items,
)

LONG = 2 * WINDOW + 3  # tokens of a prompt that does not fit a window


def only(trie, allowed):
    """Rules that let the items of bool (B, N) out."""
    return AllowedItems(trie, len(allowed), ItemBitmap.of(trie, allowed), None)


def assert_same_beams(items, scores, expected):
    """Same items in the same order, scores to 1e-4."""
    assert items.tolist() == [item for item, _ in expected]
    np.testing.assert_allclose(scores.numpy(), [score for _, score in expected], rtol=1e-5, atol=1e-4)


@pytest.fixture(scope="module")
def llama():
    """A backbone with an item table, its items and their trie."""
    items = code_items(60)
    return as_backbone(plain_model("llama"), items), items, TokenTrie.from_item_tokens(items)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_beams_equal_those_of_generate_with_a_prefix_function(name, attention):
    items = code_items(60)
    model = plain_model(name, BASE + items.num_rows, attention)
    prompts = prompts_of(LONG, 5)
    found, scores = beam_search(as_backbone(model), TokenTrie.from_item_tokens(items), prompts, 8, num_beams=8)
    for row, prompt in enumerate(prompts):
        expected = generate(model, items, prompt, num_beams=8)
        assert len(expected) == 8
        assert_same_beams(found[row], scores[row], expected)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "gpt2"])
def test_lora_and_an_item_table_give_the_beams_of_generate_on_the_exported_model(name):
    items = code_items(60)
    backbone = as_backbone(plain_model(name), items)
    add_lora(backbone, rank=4, alpha=8, dropout=0.5)
    torch.manual_seed(1)
    for parameter in lora_parameters(backbone):
        torch.nn.init.normal_(parameter, std=0.2)
    backbone.eval()
    prompts = [np.concatenate([prompt, items.flatten(np.array([4, 9]))]) for prompt in prompts_of(LONG, 3)]
    found, scores = beam_search(backbone, TokenTrie.from_item_tokens(items), prompts, 8, num_beams=8)
    exported = exported_model(backbone)
    for row, prompt in enumerate(prompts):
        assert_same_beams(found[row], scores[row], generate(exported, items, prompt, num_beams=8))


@pytest.mark.parametrize("name", ["gemma3", "mistral"])
def test_a_window_shorter_than_the_answer_still_equals_generate(name):
    items = code_items(40, (3, 3, 3, 3))
    model = plain_model(name, BASE + items.num_rows, sliding_window=2)
    (prompt,) = prompts_of(LONG)
    found, scores = beam_search(as_backbone(model), TokenTrie.from_item_tokens(items), [prompt], 6, num_beams=6)
    assert_same_beams(found[0], scores[0], generate(model, items, prompt, num_beams=6))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("num_beams", [2, 6])
def test_answers_of_any_length_equal_those_of_generate(name, num_beams):
    items = random_words(40)
    assert len(set(items.lengths.tolist())) > 2
    model = plain_model(name)
    for seed in range(3):
        (prompt,) = prompts_of(LONG, seed=seed)
        found, scores = beam_search(
            as_backbone(model), TokenTrie.from_item_tokens(items), [prompt], num_beams, num_beams=num_beams
        )
        assert_same_beams(found[0], scores[0], generate(model, items, prompt, num_beams))


@pytest.mark.parametrize("name", ["llama", "qwen2_with_a_window", "gemma2", "gemma3", "gpt2"])
def test_rule_trie_equals_generate_with_renormalised_logits(name):
    items = code_items(60)
    model = plain_model(name, BASE + items.num_rows)
    prompts = prompts_of(LONG, 5)
    trie = TokenTrie.from_item_tokens(items)
    found, scores = beam_search(as_backbone(model), trie, prompts, 8, num_beams=8, softmax_scope="trie")
    for row, prompt in enumerate(prompts):
        expected = generate(model, items, prompt, num_beams=8, renormalize=True)
        assert_same_beams(found[row], scores[row], expected)


def test_rule_trie_equals_generate_with_renormalised_logits_for_answers_of_any_length():
    items = random_words(40)
    model = plain_model("llama")
    trie = TokenTrie.from_item_tokens(items)
    (prompt,) = prompts_of(LONG)
    found, scores = beam_search(as_backbone(model), trie, [prompt], 6, num_beams=6, softmax_scope="trie")
    assert_same_beams(found[0], scores[0], generate(model, items, prompt, 6, renormalize=True))


def test_under_rule_trie_a_beam_with_one_item_below_it_is_read_no_more(monkeypatch):
    items = code_items(60, (6, 30, 30, 30))  # two codes tell nearly all 60 items apart
    backbone = as_backbone(plain_model("llama"), items)
    prompts = prompts_of(11, 7)
    expected = [brute_force(backbone, items, prompt, "trie") for prompt in prompts]
    shapes = record_passes(backbone, monkeypatch)
    found, scores = beam_search(backbone, TokenTrie.from_item_tokens(items), prompts, 60, softmax_scope="trie")
    assert shapes[:2] == [(2, 11), (2, 6)] and all(rows < 12 for _, rows in shapes[2:])
    for row in range(2):
        np.testing.assert_allclose(scores[row].numpy(), -np.sort(-expected[row]), atol=1e-4)
        np.testing.assert_allclose(expected[row][found[row]], scores[row].numpy(), atol=1e-4)


@pytest.mark.parametrize("scope", ["vocabulary", "level", "trie"])
def test_a_filter_never_changes_the_score_of_an_item(scope, llama):
    backbone, _, trie = llama
    prompts = prompts_of(9)
    found, scores = beam_search(backbone, trie, prompts, 60, softmax_scope=scope)
    allowed = np.random.default_rng(2).random((1, 60)) < 0.2
    some, some_scores = beam_search(backbone, trie, prompts, 60, allowed_items=only(trie, allowed), softmax_scope=scope)
    kept = torch.from_numpy(allowed[0])[found[0].long()]
    np.testing.assert_allclose(some_scores[0, : kept.sum()].numpy(), scores[0][kept].numpy(), atol=1e-5)
    assert sorted(some[0, : kept.sum()].tolist()) == np.flatnonzero(allowed[0]).tolist()


def test_allowed_items_equal_generate_under_the_same_restriction():
    items = code_items(60)
    model = plain_model("qwen3", BASE + items.num_rows)
    allowed = np.random.default_rng(0).random((1, 60)) < 0.3
    (prompt,) = prompts_of(7)
    trie = TokenTrie.from_item_tokens(items)
    found, scores = beam_search(as_backbone(model), trie, [prompt], 5, num_beams=5, allowed_items=only(trie, allowed))
    assert_same_beams(found[0], scores[0], generate(model, items, prompt, 5, allowed[0]))


@pytest.mark.parametrize("scope", ["vocabulary", "level", "trie"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "gpt2"])
def test_keeping_all_beams_equals_brute_force_over_every_item(name, scope):
    items = code_items(30)
    backbone = as_backbone(plain_model(name), items)
    prompts = prompts_of(LONG, 4)
    found, scores = beam_search(backbone, TokenTrie.from_item_tokens(items), prompts, 30, softmax_scope=scope)
    for row, prompt in enumerate(prompts):
        expected = brute_force(backbone, items, prompt, scope)
        assert found[row].tolist() == np.argsort(-expected).tolist()
        np.testing.assert_allclose(scores[row].numpy(), expected[found[row]], atol=1e-4)


@pytest.mark.parametrize("scope", ["vocabulary", "trie"])
def test_keeping_all_beams_equals_brute_force_for_answers_of_any_length(scope):
    items = random_words(40)
    backbone = as_backbone(plain_model("llama"))
    (prompt,) = prompts_of(9)
    found, scores = beam_search(
        backbone, TokenTrie.from_item_tokens(items), [prompt], items.num_items, softmax_scope=scope
    )
    expected = brute_force(backbone, items, prompt, scope)
    assert found[0].tolist() == np.argsort(-expected).tolist()
    np.testing.assert_allclose(scores[0].numpy(), expected[found[0]], atol=1e-4)


@pytest.mark.parametrize("scope", ["vocabulary", "level"])
def test_unique_ids_are_ranked_by_the_prompts_last_hidden_state_alone(scope, monkeypatch):
    items = unique_id_tokens(50, BASE)
    backbone = as_backbone(plain_model("llama"), items)
    prompts = prompts_of(6, 9)
    expected = [brute_force(backbone, items, prompt, scope) for prompt in prompts]
    shapes = record_passes(backbone, monkeypatch)
    found, scores = beam_search(backbone, TokenTrie.from_item_tokens(items), prompts, 5, softmax_scope=scope)
    assert shapes == [(2, 9)]
    for row in range(2):
        assert found[row].tolist() == np.argsort(-expected[row])[:5].tolist()
        np.testing.assert_allclose(scores[row].numpy(), expected[row][found[row]], atol=1e-4)


@pytest.mark.parametrize("served", [False, True])
def test_a_peft_model_is_taken_as_it_is(served):
    from peft import LoraConfig, get_peft_model

    items = code_items(60)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(plain_model("llama", BASE + items.num_rows), config).eval()
    expected = [generate(model, items, prompt, num_beams=8) for prompt in prompts_of(11, 5)]
    backbone = as_backbone(model)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    if served:
        pack(backbone)
    found, scores = beam_search(backbone, TokenTrie.from_item_tokens(items), prompts_of(11, 5), 8, num_beams=8)
    for row, each in enumerate(expected):
        assert_same_beams(found[row], scores[row], each)


def test_a_peft_model_with_tokens_of_its_own_is_refused():
    from peft import PrefixTuningConfig, get_peft_model

    model = get_peft_model(plain_model("llama"), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ModelError, match="got PREFIX_TUNING, which adds"):
        as_backbone(model)


def record_passes(backbone, monkeypatch):
    """The shapes of all token batches the model is given from now on."""
    shapes, read = [], backbone.hidden_states
    monkeypatch.setattr(
        backbone, "hidden_states", lambda ids, **rest: shapes.append(tuple(ids.shape)) or read(ids, **rest)
    )
    return shapes


def test_the_prompt_is_read_once_and_each_beam_one_token_a_level(llama, monkeypatch):
    backbone, _, trie = llama
    shapes = record_passes(backbone, monkeypatch)
    beam_search(backbone, trie, prompts_of(11, 7), 7, num_beams=7)
    # four codes on the first level, so four beams; seven after that; the last level is scored, not read
    assert shapes == [(2, 11), (2, 4), (2, 7)]


def test_answers_are_read_to_their_ends_once_hardly_a_choice_is_left(monkeypatch):
    items = code_items(60, (6, 30, 30, 30))  # two codes tell nearly all 60 items apart
    backbone = as_backbone(plain_model("llama"), items)
    shapes = record_passes(backbone, monkeypatch)
    beam_search(backbone, TokenTrie.from_item_tokens(items), prompts_of(11), 10, num_beams=10)
    assert [rows for _, rows in shapes[:2]] == [11, 6] and len(shapes) == 3 and 20 <= shapes[2][1] <= 25


def test_the_vocabulary_is_multiplied_once_a_pass(monkeypatch):
    items = code_items(60, (6, 30, 30, 30))
    backbone = as_backbone(plain_model("llama"), items)
    rows, word_logits = [], backbone.word_logits
    monkeypatch.setattr(backbone, "word_logits", lambda hidden: rows.append(len(hidden)) or word_logits(hidden))
    shapes = record_passes(backbone, monkeypatch)
    beam_search(backbone, TokenTrie.from_item_tokens(items), prompts_of(11), 10, num_beams=10)
    first, *later = (read for _, read in shapes[1:])
    assert rows == [first + 1, *later]  # of the prompt only the last state, and that with the first beams


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "mistral", "gpt2"])
@pytest.mark.parametrize("scope", ["vocabulary", "level"])
def test_reading_ahead_changes_no_beam(name, scope):
    items = code_items(60, (6, 30, 30, 30))
    backbone = as_backbone(plain_model(name), items)
    prompts = prompts_of(LONG, 3, 7)
    trie = TokenTrie.from_item_tokens(items)
    some = only(trie, np.random.default_rng(3).random((3, 60)) < np.array([[1.1], [0.4], [0.05]]))
    for num_beams, allowed_items in [(9, None), (60, None), (9, some)]:
        found = beam_search(
            backbone, trie, prompts, 9, num_beams=num_beams, allowed_items=allowed_items, softmax_scope=scope
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("llmrec.engines.torch.beam_reader._ITEMS_A_BEAM", 0)
            expected = beam_search(
                backbone, trie, prompts, 9, num_beams=num_beams, allowed_items=allowed_items, softmax_scope=scope
            )
        assert found[0].equal(expected[0])
        np.testing.assert_allclose(found[1].numpy(), expected[1].numpy(), atol=1e-4)


def test_long_titles_are_read_in_few_passes_and_equal_generate(monkeypatch):
    rng = np.random.default_rng(5)
    items = word_items([rng.integers(2, BASE, rng.integers(1, 12)).tolist() for _ in range(30)] + [[5, 6], [5, 6]])
    model = plain_model("llama")
    backbone, (prompt,) = as_backbone(model), prompts_of(LONG)
    shapes = record_passes(backbone, monkeypatch)
    found, scores = beam_search(backbone, TokenTrie.from_item_tokens(items), [prompt], 32, num_beams=32)
    assert len(shapes) <= 4
    expected = brute_force(as_backbone(model), items, prompt)
    np.testing.assert_allclose(expected[found[0]], scores[0].numpy(), atol=1e-4)
    assert sorted(found[0].tolist()) == list(range(32)) and (scores[0, 1:] <= scores[0, :-1]).all()


def test_every_beam_is_a_catalogue_item_and_none_comes_twice(llama):
    backbone, items, trie = llama
    found, scores = beam_search(backbone, trie, prompts_of(*range(1, 17)), 20)
    assert found.dtype == torch.int32 and scores.dtype == torch.float32 and found.shape == scores.shape == (16, 20)
    assert all(len(set(row)) == 20 and set(row) <= set(range(items.num_items)) for row in found.tolist())
    assert (scores[:, 1:] <= scores[:, :-1]).all()


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2"])
def test_a_batch_of_unequal_prompts_equals_single_requests(name):
    items = code_items(60)
    backbone = as_backbone(plain_model(name), items)
    trie = TokenTrie.from_item_tokens(items)
    prompts = prompts_of(1, 6, LONG, WINDOW, 13)
    allowed = np.random.default_rng(1).random((5, 60)) < np.array([[0.05], [1.1], [0.3], [0.5], [0.02]])
    found, scores = beam_search(backbone, trie, prompts, 6, num_beams=6, allowed_items=only(trie, allowed))
    for row, prompt in enumerate(prompts):
        alone, alone_scores = beam_search(
            backbone, trie, [prompt], 6, num_beams=6, allowed_items=only(trie, allowed[row : row + 1])
        )
        assert found[row].tolist() == alone[0].tolist()
        np.testing.assert_allclose(scores[row].numpy(), alone_scores[0].numpy(), atol=1e-4)


def test_k_items_come_out_whenever_k_exist_also_with_700_seen():
    items = code_items(800, (8, 16, 16))
    backbone = as_backbone(plain_model("llama"), items)
    rng = np.random.default_rng(0)
    allowed = np.ones((4, 800), dtype=bool)
    for row in allowed:
        row[rng.choice(800, 700, replace=False)] = False
    allowed[3, np.flatnonzero(allowed[3])[20:]] = False  # just 20 are left
    trie = TokenTrie.from_item_tokens(items)
    found, _ = beam_search(backbone, trie, prompts_of(9, 4, 12, 6), 20, allowed_items=only(trie, allowed))
    assert all(len(set(row)) == 20 for row in found.tolist())
    assert np.take_along_axis(allowed, found.numpy(), axis=1).all()


def test_a_handful_of_candidates_all_come_out_in_order_and_the_rest_is_padding(llama):
    backbone, items, trie = llama
    candidates = [3, 17, 18, 40, 59]
    allowed = np.zeros((2, 60), dtype=bool)
    allowed[0, candidates] = True  # the second request has nothing to receive
    prompts = prompts_of(9, 9)
    found, scores = beam_search(backbone, trie, prompts, 8, num_beams=8, allowed_items=only(trie, allowed))
    expected = brute_force(backbone, items, prompts[0])[candidates]
    assert found[0].tolist() == [candidates[i] for i in np.argsort(-expected)] + [-1] * 3
    np.testing.assert_allclose(scores[0, :5].numpy(), -np.sort(-expected), atol=1e-4)
    assert found[1].tolist() == [-1] * 8
    assert scores[0, 5:].eq(-torch.inf).all() and scores[1].eq(-torch.inf).all()


def test_more_items_than_beams_widens_the_beam(llama):
    backbone, _, trie = llama
    found, _ = beam_search(backbone, trie, prompts_of(5), 60, num_beams=2)
    assert sorted(found[0].tolist()) == list(range(60))
    found, _ = beam_search(backbone, trie, prompts_of(5), 80, num_beams=2)
    assert sorted(found[0].tolist()) == [-1] * 20 + list(range(60))


def test_items_with_one_title_come_out_together_with_one_score():
    items = word_items([[5, 6], [7], [5, 6], [9, 3, 4], [5, 6]])
    backbone = as_backbone(plain_model("llama"))
    trie = TokenTrie.from_item_tokens(items)
    (prompt,) = prompts_of(6)
    found, scores = beam_search(backbone, trie, [prompt], 5)
    first = found[0].tolist().index(0)
    assert found[0, first : first + 3].tolist() == [0, 2, 4]
    assert len(set(scores[0, first : first + 3].tolist())) == 1
    allowed = np.array([[False, True, True, False, True]])
    found, _ = beam_search(backbone, trie, [prompt], 5, allowed_items=only(trie, allowed))
    assert sorted(found[0].tolist()) == [-1, -1, 1, 2, 4]


def test_bfloat16_finds_nearly_the_same_items():
    items = code_items(60)
    backbone = as_backbone(plain_model("llama"), items)
    trie = TokenTrie.from_item_tokens(items)
    prompts = prompts_of(9, 12)
    exact, _ = beam_search(backbone, trie, prompts, 20, softmax_scope="level")
    backbone.causal_lm.to(torch.bfloat16)
    found, scores = beam_search(backbone, trie, prompts, 20, softmax_scope="level")
    assert scores.isfinite().all() and scores.dtype == torch.float32
    assert all(len(set(a) & set(b)) >= 15 for a, b in zip(exact.tolist(), found.tolist(), strict=True))


def test_rule_level_is_refused_for_titles():
    trie = TokenTrie.from_item_tokens(word_items([[5, 6], [7]]))
    with pytest.raises(ModelError, match="as titles do; use the scope 'vocabulary' or 'trie'"):
        beam_search(as_backbone(plain_model("llama")), trie, prompts_of(4), 1, softmax_scope="level")


def test_items_of_another_model_are_refused():
    trie = TokenTrie.from_item_tokens(code_items(10, base=500))
    with pytest.raises(ModelError, match=r"the model has only 30 tokens"):
        beam_search(as_backbone(plain_model("llama")), trie, prompts_of(4), 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prompts": [np.array([3]), np.array([], dtype=int)]}, "prompt of request 1 is empty"),
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": prompts_of(5, 63)}, "prompt of request 1 has 63 tokens, .* 64 positions"),
        ({"k": 0}, "k and num_beams of at least 1"),
    ],
)
def test_requests_that_cannot_be_answered_are_refused_in_words(llama, arguments, sentence):
    backbone, _, trie = llama
    with pytest.raises(RequestError, match=sentence):
        beam_search(backbone, trie, **{"prompts": prompts_of(5), "k": 3, **arguments})


def test_the_longest_prompt_that_fits_is_answered(llama):
    backbone, items, trie = llama
    prompts = prompts_of(62)
    found, _ = beam_search(backbone, trie, prompts, 60)
    assert found[0].tolist() == np.argsort(-brute_force(backbone, items, prompts[0])).tolist()
