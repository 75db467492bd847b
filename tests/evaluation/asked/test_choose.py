"""Candidates in a numbered list: scored by the likelihood of their answers, written freely, and in several orders."""

import numpy as np
import pytest
import torch

from llmrec.data.interactions import Histories
from llmrec.errors import ConfigError, RequestError
from llmrec.evaluation.asked.choose import best_places, free_choices, open_asked_candidates, position_bias
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_any_task
from llmrec.recommenders.requests import Requests
from llmrec.text_models.openai import OpenAIModel
from tests.enrich.serving import ChatServer, Reply, question
from tests.evaluation.asked.test_clicks import data  # noqa: F401

REQUESTS = Requests(Histories.from_lists([[0, 2], [4]]))
CANDIDATES = np.array([[3, 1, 6], [8, 7, 5]])


@pytest.fixture(scope="module")
def settings(tiny_model):
    return AskedSettings(model=tiny_model, dtype="float32", device="cpu", max_title_tokens=16, max_tokens=900)


@pytest.mark.parametrize("by", ["number", "title"])
def test_a_candidates_score_is_the_likelihood_of_its_answer_after_the_list(data, settings, by):  # noqa: F811
    ranker = open_asked_candidates(settings.model_copy(update={"prompt": f"choose/{by}_plain"}), data, by=by)
    scores, model = ranker.score(REQUESTS, CANDIDATES), ranker.model
    text = model.backbone.tokenizer.decode(model.encoder.encode(REQUESTS.histories[0], candidate=CANDIDATES[0]))
    assert "Alien\nCasablanca\nCandidates:\n1. Dune\n2. Brazil\n3. Gandhi\n" in text
    if by == "number":  # "1", "2" and "3" are a byte each here, after which only the end can come
        ids = model.encoder.encode(REQUESTS.histories[0], candidate=CANDIDATES[0]).astype(np.int64)
        words = [model.backbone.tokenizer.encode(number, add_special_tokens=False)[0] for number in "123"]
        with torch.no_grad():
            logits = model.backbone.causal_lm(torch.from_numpy(ids[None])).logits[0, -1, words]
        assert scores[0] == pytest.approx(logits.log_softmax(0).numpy(), abs=1e-4)
        assert np.exp(scores).sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert (ranker.rank(REQUESTS, 2, exclude_seen=True, candidates=np.array([3, 0, 4])).items[0] != 0).all()
    assert ranker.score(REQUESTS.take([1]), CANDIDATES[1:])[0] == pytest.approx(scores[1], abs=1e-5)
    with pytest.raises(RequestError, match="none were given"):
        ranker.rank(REQUESTS, 2, exclude_seen=False)


def test_the_evaluator_takes_it_unchanged(few_users, settings):
    from llmrec.data.folder import load_data

    films, task = (
        load_data(few_users),
        load_any_task("sampled_candidates", ["num_candidates=4", "ks=[1,3]", "metrics=[ndcg]"]),
    )
    ranker = open_asked_candidates(
        settings.model_copy(update={"max_history": 3, "prompt": "choose/number_plain"}), films
    )
    result = evaluate(ranker, films, task, max_instances=5)
    assert 0 <= result.metrics["ndcg@3"]["value"] <= 1
    assert result.protocol["recommender"]["decoding"] == "likelihood of each candidate's number"


def test_who_always_takes_the_first_is_found_out():
    requests = Requests(Histories.from_lists([[0]] * 200))
    candidates = np.tile(np.arange(1, 5), (200, 1))
    targets = np.full(200, 2)
    found = position_bias(lambda _, lists: np.zeros(len(lists), int), requests, candidates, targets, orders=4)
    assert found["first_choice_by_position"] == [1.0, 0.0, 0.0, 0.0] and found["chance"] == 0.25
    assert found["accuracy_by_target_position"] == [1.0, 0.0, 0.0, 0.0]
    assert found["accuracy"] == pytest.approx(0.25, abs=0.05) and found["changed"] == pytest.approx(0.75, abs=0.05)
    knows = position_bias(lambda _, lists: np.argmax(lists == 2, axis=1), requests, candidates, targets, orders=4)
    assert knows["accuracy"] == 1.0 and knows["changed"] == 0.0 and knows["no_choice"] == 0.0
    assert knows["first_choice_by_position"] == pytest.approx([0.25] * 4, abs=0.06)
    silent = position_bias(lambda _, lists: np.full(len(lists), -1), requests, candidates, targets, orders=2)
    assert (silent["no_choice"], silent["accuracy"], silent["changed"]) == (1.0, 0.0, 0.0)


def test_the_bias_of_a_model_is_measured_through_its_scores(data, settings):  # noqa: F811
    ranker = open_asked_candidates(settings.model_copy(update={"prompt": "choose/number_plain"}), data)
    found = position_bias(best_places(ranker), REQUESTS, CANDIDATES, np.array([1, 7]), orders=2)
    assert sum(found["first_choice_by_position"]) == pytest.approx(1) and found["instances"] == 2


@pytest.mark.parametrize(
    ("by", "said", "chosen", "counts"),
    [
        ("number", ["2", "Number 7"], [1, -1], {"valid": 1, "repeated": 0, "none": 1}),
        ("title", ["2. Gandhi", "E.T."], [2, -1], {"valid": 1, "repeated": 1, "none": 0}),
        ("title", ['"Dune"', "The Thing"], [0, -1], {"valid": 1, "repeated": 0, "none": 1}),
    ],
)
def test_free_answers_are_read_and_counted(data, by, said, chosen, counts):  # noqa: F811
    with ChatServer(lambda body, n: said[0 if "1. Dune" in question(body) else 1]) as server:
        settings = AskedSettings(model="model", provider="openai", base_url=server.url)
        found, told = free_choices(OpenAIModel("model", server.url), settings, data, REQUESTS, CANDIDATES, by=by)
    assert found.tolist() == chosen
    assert {kind: told[kind] for kind in counts} == counts and told["unanswered"] == 0 and told["validity"] == 0.5


def test_a_question_without_an_answer_is_no_choice(data):  # noqa: F811
    def answer(body, n):
        return "1" if "1. Dune" in question(body) else Reply(400, b"no")

    with ChatServer(answer) as server:
        settings = AskedSettings(model="model", provider="openai", base_url=server.url)
        found, told = free_choices(OpenAIModel("model", server.url), settings, data, REQUESTS, CANDIDATES, by="number")
    assert found.tolist() == [0, -1] and told["unanswered"] == 1


def test_what_does_not_fit_is_refused_in_a_sentence(data, settings):  # noqa: F811
    with pytest.raises(ConfigError, match="needs the model itself"):
        open_asked_candidates(settings.model_copy(update={"provider": "vllm"}), data)
    with pytest.raises(ConfigError, match="without examples"):
        open_asked_candidates(settings.model_copy(update={"shots": 2}), data)
