"""Asked about one item at a time: probabilities, the whole catalogue, batches, models that cannot share a beginning."""

import numpy as np
import pytest
import torch

from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import ClickExamples
from llmrec.data.interactions import Histories
from llmrec.errors import RequestError
from llmrec.items.forms import text_tokens
from llmrec.prompting.answer_words import AnswerWords
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import load_prompt
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.language_model import LanguageModel, ready_to_serve
from llmrec.recommenders.pointwise import PointwiseRecommender, liked_logits
from llmrec.recommenders.requests import Requests
from tests.tiny import tiny_backbone

TITLES = ["Alien", "Brazil", "Casablanca", "Dune", "Alien"]
CATALOG = Catalog.from_rows([{"item_id": f"m{item}", "title": title} for item, title in enumerate(TITLES)])
REQUESTS = Requests(Histories.from_lists([[0, 2], [], [1, 3, 2]]))


def model_of(family):
    backbone = tiny_backbone(family).eval()
    tokens = text_tokens(TITLES, backbone.tokenizer, backbone.base_vocab_size, item_ids=CATALOG.item_ids)
    encoder = PromptEncoder(
        load_prompt("click/instruction"), backbone.tokenizer, tokens, CATALOG, max_history=3, max_tokens=250
    )
    return LanguageModel(backbone, tokens, encoder, CATALOG, "vocabulary")


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_the_score_is_a_sigmoid_of_two_logits_whatever_else_is_in_the_batch(family):
    model = model_of(family)
    recommender = recommender_of(model)
    assert isinstance(recommender, PointwiseRecommender)
    scores = recommender.score(REQUESTS, np.array([3, 1, 4, 0]))
    _, liked, disliked = model.encoder.answer_words
    for row in range(3):
        for place, item in enumerate((3, 1, 4, 0)):
            ids = model.encoder.encode(REQUESTS.histories[row], candidate=item).astype(np.int64)
            with torch.no_grad():
                logits = model.backbone.logits(model.backbone.hidden_states(torch.from_numpy(ids[None]))[:, -1])[0]
            assert scores[row, place] == pytest.approx(float(torch.sigmoid(logits[liked] - logits[disliked])), abs=2e-5)
            alone = recommender.score(REQUESTS.take([row]), np.array([item]))
            assert alone[0, 0] == pytest.approx(scores[row, place], abs=2e-5)


def test_the_catalogue_is_ranked_by_the_same_scores():
    recommender = recommender_of(model_of("llama"))
    scores = recommender.scores(REQUESTS)
    assert scores.shape == (3, 5) and scores[0, 0] == pytest.approx(scores[0, 4], abs=1e-6)  # one title, one prompt
    ranking = recommender.rank(REQUESTS, 2, exclude_seen=True, candidates=np.array([0, 1, 3]))
    assert ranking.items[0].tolist() == sorted([1, 3], key=lambda item: -scores[0, item])
    assert ranking.items[2].tolist() == [0, -1]


def test_items_outside_of_the_catalogue_and_none_at_all():
    recommender = recommender_of(model_of("llama"))
    with pytest.raises(RequestError, match=r"candidates should be items 0\.\.4"):
        recommender.score(REQUESTS, np.array([5]))
    assert recommender.score(REQUESTS, np.zeros((3, 0), np.int64)).shape == (3, 0)


def test_liked_stands_first_whichever_token_is_lower():
    backbone = tiny_backbone("llama").eval()
    hidden = torch.randn(2, backbone.dim)
    expected = backbone.logits(hidden)
    for liked, disliked in ((7, 20), (20, 7)):
        found = liked_logits(backbone, hidden, AnswerWords((), liked, disliked))
        torch.testing.assert_close(found, expected[:, [liked, disliked]])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_rows_of_one_history_are_scored_together_as_each_alone(family):
    recommender = recommender_of(model_of(family))
    histories = np.array([[-1, 0, 2]] * 4 + [[-1, -1, -1]] + [[1, 3, 2]] * 4, dtype=np.int32)
    items = np.array([0, 1, 3, 4, 2, 1, 0, 2, 4], dtype=np.int32)
    none = np.zeros(9, np.int32)
    rows = ClickExamples(none, items, items > 1, histories, none, none, None)
    together = recommender.score_rows(rows)
    alone = [
        recommender.score(Requests(Histories.from_lists([history[history >= 0].tolist()])), np.array([item]))[0, 0]
        for history, item in zip(histories, items, strict=True)
    ]
    np.testing.assert_allclose(together, alone, atol=2e-5)
    np.testing.assert_allclose(recommender.score_rows(rows.take(np.arange(9)[::-1])), together[::-1], atol=2e-5)


def test_layers_that_were_fused_to_serve_score_rows_without_packing():
    model = model_of("llama")
    rows = ClickExamples(
        *(np.array([3, 1], np.int32),) * 2, np.array([True, False]), np.array([[0, 2]] * 2, np.int32), None, None, None
    )
    before = recommender_of(model).score_rows(rows)
    served = recommender_of(ready_to_serve(model, prompt_cache_bytes=0))
    np.testing.assert_allclose(served.score_rows(rows), before, atol=2e-5)
