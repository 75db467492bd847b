"""Clicks asked of a real HTTP server that speaks chat completions: with log-probabilities, without, late, and in rubbish."""

import json
import math

import numpy as np
import pytest

from llmrec.errors import ConfigError
from llmrec.evaluation.asked.clicks import open_asked_clicks
from llmrec.evaluation.asked.server import ServerClicks
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.evaluation.names import name_in_words
from llmrec.text_models.openai import OpenAIModel
from llmrec.text_models.protocol import ProviderError
from tests.enrich.serving import ChatServer, Reply, completion, question
from tests.evaluation.asked.test_clicks import TEST, data, split_of  # noqa: F401


def with_log_probs(tokens):
    """A good answer with the first token's candidates, (text, probability)."""
    top = [{"token": token, "logprob": math.log(p)} for token, p in tokens]
    value = json.loads(completion(tokens[0][0]).body)
    value["choices"][0]["logprobs"] = {"content": [{"token": tokens[0][0], "top_logprobs": top}]}
    return Reply(body=json.dumps(value).encode())


def clicks(server, data, **settings):  # noqa: F811
    settings = AskedSettings(model="model", provider="openai", base_url=server.url, **settings)
    model = OpenAIModel("model", server.url, first_wait=0.01, timeout=settings.timeout)
    return ServerClicks(settings, data, split_of(), model)


def candidate(body):
    return question(body).split("Candidate: ")[1].split("\n")[0]


def test_the_words_share_is_counted_over_their_spellings(data):  # noqa: F811
    told = {
        "Heat": [("Yes", 0.5), (" yes", 0.1), ("No", 0.2)],  # .6 of .8
        "Insomnia": [("No", 0.9), ("Well", 0.05)],  # yes has at most the .05 of the least token told
        "Fargo": [("Perhaps", 0.6), ("I", 0.4)],
    }
    with ChatServer(lambda body, n: with_log_probs(told.get(candidate(body), [("Yes", 0.3), ("No", 0.1)]))) as server:
        settings = AskedSettings(model="model", provider="openai", base_url=server.url)
        scorer = open_asked_clicks(settings, data, split_of())
        before = scorer.card
        scores = scorer.score_rows(TEST)
    assert scores == pytest.approx([0.75, 0.05 / 0.95, 0.5, 0.75, 0.75])
    assert before["scored_by"] == "probability of the two answer words" and "asked" not in before
    assert scorer.card["asked"] == {"rows": 5, "neither": 1, "unanswered": 0}
    body = server.bodies[0]
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert "1. Brazil\n2. Casablanca\n3. Dune\nCandidate: Heat\n" in body["messages"][1]["content"]


def test_a_server_without_log_probabilities_is_scored_by_its_answers_and_says_so(data):  # noqa: F811
    said = {"Heat": "Yes.", "Insomnia": "no", "Fargo": "**No**, not at all", "Jaws": "Hard to say", "Brazil": ""}
    with ChatServer(lambda body, n: said[candidate(body)]) as server:
        scorer = clicks(server, data)
        scores = scorer.score_rows(TEST)
    assert scores.tolist() == [1.0, 0.0, 0.0, 0.5, 0.5]
    assert scorer.card["scored_by"] == "answers" and scorer.card["asked"] == {"rows": 5, "neither": 2, "unanswered": 0}
    assert name_in_words({"name": "llm", **scorer.card}) == "model (zero-shot, by its answers)"


@pytest.mark.parametrize("most", [5, 0])
def test_a_server_that_refuses_so_many_is_asked_for_fewer(data, most):  # noqa: F811
    def answer(body, n):
        if body.get("top_logprobs", 0) > most:
            return Reply(400, b"too many logprobs")
        return with_log_probs([("No", 0.6), ("Yes", 0.2)]) if most else "No"

    with ChatServer(answer) as server:
        scorer = clicks(server, data)
        scores = scorer.score_rows(TEST)
    assert scores == pytest.approx(np.full(5, 0.25 if most else 0.0)) and scorer.card["likeliest_tokens"] == most


def test_late_and_garbled_answers_are_counted_and_their_rows_are_undecided(data):  # noqa: F811
    def answer(body, n):
        if candidate(body) == "Insomnia":
            return Reply(200, b"<html>busy</html>")
        if candidate(body) == "Jaws":
            return Reply(wait=0.6)
        if candidate(body) == "Brazil":
            return Reply(body=completion("Yes").body.replace(b'"finish', b'"logprobs": {"content": [7]}, "finish'))
        return with_log_probs([("Yes", 0.6), ("No", 0.2)])

    with ChatServer(answer) as server:
        scorer = clicks(server, data, timeout=0.3)
        scores = scorer.score_rows(TEST)
    assert scores == pytest.approx([0.75, 0.5, 0.75, 0.5, 0.5])
    assert scorer.card["asked"] == {"rows": 5, "neither": 0, "unanswered": 3}


def test_a_server_that_answers_nothing_is_an_error_in_a_sentence(data):  # noqa: F811
    with (
        ChatServer(lambda body, n: Reply(200, b"{}")) as server,
        pytest.raises(ProviderError, match="no chat completion"),
    ):
        clicks(server, data).score_rows(TEST)
    with (
        ChatServer(lambda body, n: Reply(401, b"no key")) as server,
        pytest.raises(ProviderError, match="refuses: status 401"),
    ):
        clicks(server, data).score_rows(TEST)
    with pytest.raises(ProviderError, match="no connection"):
        clicks(server, data).score_rows(TEST)


def test_examples_are_earlier_turns(data):  # noqa: F811
    with ChatServer(lambda body, n: "Yes") as server:
        clicks(server, data, shots=2).score_rows(TEST.take(np.array([0])))
    roles = [message["role"] for message in server.bodies[0]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert {server.bodies[0]["messages"][place]["content"] for place in (2, 4)} == {"Yes", "No"}


def test_a_server_takes_no_plain_prompt(data):  # noqa: F811
    with ChatServer(lambda body, n: "Yes") as server, pytest.raises(ConfigError, match="is no chat"):
        clicks(server, data, prompt="click/recbench_plain")
