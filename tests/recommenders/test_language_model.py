"""Language-model recommenders: one pass or a beam, the answers are the same, real, and leak nothing."""

import numpy as np
import pytest
import torch

from llmrec.artifacts.run_folder import load_artifact, save_artifact
from llmrec.backbones.packed_linear import PackedLinear
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories
from llmrec.engines.torch import engine as torch_engine
from llmrec.errors import ModelError, RequestError
from llmrec.items.forms import text_tokens, unique_id_tokens
from llmrec.nn.item_table import ItemTable
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import load_prompt
from llmrec.recommenders import generative
from llmrec.recommenders.generative import GenerativeRecommender, recommender_of
from llmrec.recommenders.language_model import LanguageModel, ready_to_serve
from llmrec.recommenders.requests import DenseRecommender, Requests, allowed_items
from tests.tiny import random_item_tokens, tiny_backbone

NUM_ITEMS = 40
HISTORIES = [[1, 2, 3], [], [7], [5, 9, 11, 13, 2, 8], list(range(30))]


def language_model_of(form: str, scope: str = "level", family: str = "llama") -> LanguageModel:
    backbone = tiny_backbone(family)
    catalog = Catalog.from_rows([{"item_id": f"i{item}", "title": f"Item {item}"} for item in range(NUM_ITEMS)])
    if form == "unique_id":
        tokens = unique_id_tokens(NUM_ITEMS, backbone.base_vocab_size)
    elif form == "text":
        tokens = text_tokens(catalog.titles, backbone.tokenizer, backbone.base_vocab_size, item_ids=catalog.item_ids)
    else:
        tokens = random_item_tokens(NUM_ITEMS, levels=3, codebook_size=4, base_vocab_size=backbone.base_vocab_size)
    if form != "text":
        backbone.add_item_table(ItemTable(tokens.row_levels, backbone.dim, norm=backbone.embedding_norm))
    encoder = PromptEncoder(
        load_prompt("next_item/bare"), backbone.tokenizer, tokens, catalog, max_history=20, max_tokens=128
    )
    return LanguageModel(backbone, tokens, encoder, catalog, scope)


@pytest.mark.parametrize("scope", ["level", "vocabulary"])
def test_one_pass_over_unique_ids_equals_the_beam_search(scope):
    model = language_model_of("unique_id", scope)
    requests = Requests(Histories.from_lists(HISTORIES))
    one_pass = recommender_of(model).rank(requests, 10, exclude_seen=True)
    beam = GenerativeRecommender(model).rank(requests, 10, exclude_seen=True)
    assert (one_pass.items == beam.items).all()
    np.testing.assert_allclose(one_pass.scores, beam.scores, atol=1e-4)


@pytest.mark.parametrize("form", ["unique_id", "semantic_id"])
def test_a_batch_gives_what_single_requests_give(form, monkeypatch):
    recommender = recommender_of(language_model_of(form), num_beams=NUM_ITEMS)
    together = recommender.rank(Requests(Histories.from_lists(HISTORIES)), 10, exclude_seen=True)
    monkeypatch.setattr(torch_engine, "TOKENS_A_PASS", 1)  # every request in a pass of its own
    alone = recommender.rank(Requests(Histories.from_lists(HISTORIES)), 10, exclude_seen=True)
    assert (together.items == alone.items).all()
    np.testing.assert_allclose(together.scores, alone.scores, atol=1e-4)
    for row, history in enumerate(HISTORIES):
        assert not set(history) & set(together.items[row]) and (together.items[row] >= 0).all()


@pytest.mark.parametrize("form", ["unique_id", "semantic_id"])
def test_scores_of_candidates_are_the_scores_of_the_ranking(form):
    recommender = recommender_of(language_model_of(form), num_beams=NUM_ITEMS)
    requests = Requests(Histories.from_lists(HISTORIES))
    ranking = recommender.rank(requests, 5, exclude_seen=False)
    np.testing.assert_allclose(recommender.score(requests, ranking.items), ranking.scores, atol=1e-4)


def test_all_items_of_a_catalogue_share_the_probability_of_one():
    scores = recommender_of(language_model_of("unique_id")).scores(Requests(Histories.from_lists(HISTORIES)))
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("scope", ["level", "vocabulary"])
@pytest.mark.parametrize("candidates", [None, np.array([3, 8, 9, 31])])
def test_a_ranking_of_unique_ids_is_that_of_all_their_scores(scope, candidates):
    recommender = recommender_of(language_model_of("unique_id", scope))
    requests = Requests(Histories.from_lists(HISTORIES))
    for exclude_seen in (True, False):
        ranking = recommender.rank(requests, 10, exclude_seen=exclude_seen, candidates=candidates)
        expected = DenseRecommender.rank(recommender, requests, 10, exclude_seen=exclude_seen, candidates=candidates)
        np.testing.assert_array_equal(ranking.items, expected.items)
        np.testing.assert_allclose(ranking.scores, expected.scores, atol=1e-5)


@pytest.mark.parametrize("form", ["unique_id", "semantic_id"])
def test_a_model_made_ready_to_serve_answers_as_before_also_a_returning_user(form):
    histories = [np.random.default_rng(0).integers(0, 40, length).tolist() for length in (17, 18, 20)]
    requests = [Requests(Histories.from_lists([history])) for history in histories]
    plain = recommender_of(language_model_of(form))
    expected = [plain.rank(request, 8, exclude_seen=True) for request in requests]
    model = ready_to_serve(language_model_of(form), prompt_cache_bytes=1 << 20)
    assert any(isinstance(module, PackedLinear) for module in model.backbone.modules())
    serving = recommender_of(model)
    for request, ranking in zip(requests, expected, strict=True):
        found = serving.rank(request, 8, exclude_seen=True)
        np.testing.assert_array_equal(found.items, ranking.items)
        np.testing.assert_allclose(found.scores, ranking.scores, atol=1e-4)
    assert len(model.prompt_cache) > 0


@pytest.mark.parametrize("family", ["llama", "qwen3"])  # a head of its own, and one that is the embedding
@pytest.mark.parametrize("scope", ["trie", "vocabulary"])
def test_a_head_that_only_single_words_are_asked_of_is_not_packed(family, scope):
    requests = Requests(Histories.from_lists([[1, 2], [3, 30, 4]]))
    expected = recommender_of(language_model_of("text", scope, family)).rank(requests, 5, exclude_seen=True)
    model = ready_to_serve(language_model_of("text", scope, family), prompt_cache_bytes=0)
    head = model.backbone.causal_lm.get_output_embeddings()
    assert isinstance(head, PackedLinear) == (scope == "vocabulary")
    found = recommender_of(model).rank(requests, 5, exclude_seen=True)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize("form", ["unique_id", "semantic_id"])
def test_returning_users_and_newcomers_are_read_apart(form):
    model = ready_to_serve(language_model_of(form), prompt_cache_bytes=1 << 20)
    serving, plain = recommender_of(model), recommender_of(language_model_of(form))
    rng = np.random.default_rng(1)
    histories = [rng.integers(0, 40, length).tolist() for length in (18, 19, 1, 20)]
    serving.rank(Requests(Histories.from_lists([history[:17] for history in histories[:2]])), 5, exclude_seen=True)
    requests = Requests(Histories.from_lists(histories))
    found, expected = (each.rank(requests, 8, exclude_seen=True) for each in (serving, plain))
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize("form", ["unique_id", "semantic_id"])
def test_weights_that_are_no_numbers_are_refused_in_words(form):
    model = language_model_of(form)
    with torch.no_grad():
        model.backbone.item_table.weight[3] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        recommender_of(model).rank(Requests(Histories.from_lists(HISTORIES)), 5, exclude_seen=False)


def test_candidates_are_the_only_answers():
    recommender = recommender_of(language_model_of("semantic_id"))
    wanted = np.array([3, 8, 31])
    items = recommender.rank(Requests(Histories.from_lists(HISTORIES)), 5, exclude_seen=False, candidates=wanted).items
    assert all(set(row[:3]) == set(wanted.tolist()) for row in items)
    assert (items[:, 3:] == -1).all()


@pytest.mark.parametrize("form", ["unique_id", "semantic_id"])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_short_lists_rank_as_bitmaps_do(form, exclude_seen, monkeypatch):
    model, rng = language_model_of(form), np.random.default_rng(0)
    recommender = GenerativeRecommender(model, num_beams=NUM_ITEMS)
    exact = recommender_of(model, num_beams=NUM_ITEMS)
    lists = [rng.integers(0, NUM_ITEMS, size).tolist() for size in (0, 3, 39, 7, 1)]
    requests = Requests(Histories.from_lists(HISTORIES), excluded=Histories.from_lists(lists))
    for candidates in (None, rng.integers(0, NUM_ITEMS, 30), np.zeros(0, np.int32)):
        found = recommender.rank(requests, 10, exclude_seen=exclude_seen, candidates=candidates)
        monkeypatch.setattr(generative, "SHORT_LIST", -1)
        by_bitmap = recommender.rank(requests, 10, exclude_seen=exclude_seen, candidates=candidates)
        monkeypatch.undo()
        for other in (by_bitmap, exact.rank(requests, 10, exclude_seen=exclude_seen, candidates=candidates)):
            np.testing.assert_array_equal(found.items, other.items)
            np.testing.assert_allclose(found.scores, other.scores, atol=1e-4)
        allowed = allowed_items(requests, NUM_ITEMS, exclude_seen=exclude_seen, candidates=candidates)
        assert ((found.items >= 0).sum(axis=1) == np.minimum(allowed.sum(axis=1), 10)).all()
        assert all(allowed[row, items[items >= 0]].all() for row, items in enumerate(found.items))


def test_a_short_list_of_candidates_makes_no_bitmap(monkeypatch):
    recommender = GenerativeRecommender(language_model_of("semantic_id"))
    monkeypatch.setattr(generative.ItemBitmap, "of", None)
    recommender.rank(Requests(Histories.from_lists(HISTORIES)), 5, exclude_seen=True, candidates=np.array([3, 8, 31]))
    with pytest.raises(RequestError, match=r"items 0\.\.39, but they reach from 3 to 40"):
        recommender.rank(Requests(Histories.from_lists([[1]])), 5, exclude_seen=True, candidates=np.array([3, 40]))


def test_what_comes_after_a_position_does_not_change_it():
    model = language_model_of("semantic_id")
    ids = torch.as_tensor(model.encoder.encode([1, 2, 3]).astype(np.int64))[None]
    changed = ids.clone()
    changed[0, -3:] = torch.as_tensor(model.item_tokens[17].astype(np.int64))
    with torch.no_grad():
        a, b = model.backbone.hidden_states(ids), model.backbone.hidden_states(changed)
    assert torch.equal(a[0, :-3], b[0, :-3]) and not torch.equal(a[0, -3:], b[0, -3:])


def test_a_saved_model_ranks_as_before(tmp_path, tiny_model):
    from llmrec.backbones.adapters import add_lora
    from llmrec.backbones.pretrained import load_backbone

    model = language_model_of("unique_id")
    backbone = load_backbone(tiny_model)
    backbone.add_item_table(model.backbone.item_table)
    add_lora(backbone, rank=2, alpha=4, dropout=0.0)
    model = LanguageModel(backbone.eval(), model.item_tokens, model.encoder, model.catalog, "level")
    requests = Requests(Histories.from_lists(HISTORIES))
    before = recommender_of(model).rank(requests, 10, exclude_seen=True)
    save_artifact(tmp_path / "run", model, semantic_ids=None, max_title_tokens=32, protocol={"seed": 0})
    after = recommender_of(load_artifact(tmp_path / "run")).rank(requests, 10, exclude_seen=True)
    assert (before.items == after.items).all() and np.allclose(before.scores, after.scores, atol=1e-6)
