"""What the routes answer is what the recommender says."""

import dataclasses
import json

import pytest

from llmrec.apps.http.routes import NO_WORDS
from tests.apps.http.running import Client

STAR_WARS, JEDI, TOY_STORY = "50", "181", "1"


def listed(answer) -> list[tuple[str, float]]:
    assert answer.status == 200, answer
    return [(item["item_id"], item["score"]) for item in answer.json["recommendations"]]


def same(answer, found) -> bool:
    """Whether a list over HTTP is one of Python's: items and order, scores but for rounding."""
    items = listed(answer)
    scores = pytest.approx([item.score for item in found], abs=1e-4)
    return [item_id for item_id, _ in items] == [item.item_id for item in found] and [s for _, s in items] == scores


def test_a_list_is_the_recommenders_own(client: Client, recommender):
    answer = client.recommend([STAR_WARS, JEDI], k=5)
    assert same(answer, recommender.recommend([STAR_WARS, JEDI], 5))
    assert answer.json["model"] == "run" and answer.json["missing"] == 0
    assert [item["rank"] for item in answer.json["recommendations"]] == [1, 2, 3, 4, 5]


def test_a_new_user_gets_a_list_too(client: Client, recommender):
    assert same(client.recommend([]), recommender.recommend([]))


def test_titles_are_read_as_their_items(client: Client):
    by_title = client.recommend(["star wars", "Return of the Jedi"], k=5)
    assert by_title.json["history"] == [STAR_WARS, JEDI]
    assert listed(by_title) == listed(client.recommend([STAR_WARS, JEDI], k=5))


def test_an_unclear_title_is_refused_with_the_nearest(client: Client):
    answer = client.recommend([STAR_WARS, "Jurasic Prk Zwei", "sabrina"])
    assert answer.status == 422 and "Jurasic Prk Zwei" in answer.sentence and "Jurassic Park" in answer.sentence
    named = {entry["name"]: [item["title"] for item in entry["items"]] for entry in answer.json["error"]["nearest"]}
    assert any("Jurassic Park" in title for title in named["Jurasic Prk Zwei"])
    assert len(named["sabrina"]) > 1  # two films of this title


def test_rules_diversity_and_seen_items_hold_as_in_python(client: Client, recommender):
    asked = {"where": ["genres=Comedy|Drama"], "exclude": [TOY_STORY], "exclude_seen": False}
    assert same(client.recommend([STAR_WARS], k=7, **asked), recommender.recommend([STAR_WARS], 7, **asked))
    few = {"candidates": ["1", "2", "3"]}
    answer = client.recommend([STAR_WARS], k=5, **few)
    assert same(answer, recommender.recommend([STAR_WARS], 5, **few)) and answer.json["missing"] == 2
    from llmrec.recommenders.diversity import MMR

    unlike = client.recommend([STAR_WARS], k=5, diversity="mmr:0.9")
    assert same(unlike, recommender.recommend([STAR_WARS], 5, diversity=MMR(0.9)))


def test_users_of_one_batch_receive_what_each_would_alone(client: Client):
    """Different filters, histories, lengths of list: sent together, they share calls of the model."""
    bodies = [
        {"history": [STAR_WARS], "k": 5},
        {"history": [JEDI, TOY_STORY], "k": 5, "where": "genres=Comedy"},
        {"history": [], "k": 5, "exclude": ["50", "100"]},
        {"history": ["100"], "k": 5, "candidates": ["1", "2", "3", "4", "5", "6"]},
        {"history": ["100"], "k": 3},
        {"history": ["100"], "k": 5, "where": "genres=No Such Genre"},
        {"history": ["100"], "k": 5, "diversity": "ssd:0.5"},
        {"history": ["56"], "k": 5, "in_stock": ["1", "2", "3", "no id"]},
    ]
    alone = [client.post("/v1/recommend", body) for body in bodies]
    calls, requests = client.metric("llmrec_call_requests_count"), client.metric("llmrec_call_requests_sum")
    together = client.together(bodies)
    for one, other in zip(alone, together, strict=True):
        assert one.status == other.status
        if one.status == 200:
            assert [item for item, _ in listed(one)] == [item for item, _ in listed(other)]
            assert [s for _, s in listed(one)] == pytest.approx([s for _, s in listed(other)], abs=1e-4)
        else:
            assert one.sentence == other.sentence and "No Such Genre" in one.sentence
    calls = client.metric("llmrec_call_requests_count") - calls
    assert client.metric("llmrec_call_requests_sum") - requests == 8
    assert calls <= 5  # three calls where all meet in one batch: k=5, k=3, and the diverse list


def test_scores_keep_the_order_of_the_candidates(client: Client, recommender):
    answer = client.post(
        "/v1/score", {"history": [STAR_WARS], "candidates": [TOY_STORY, "Return of the Jedi", STAR_WARS]}
    )
    ids = [TOY_STORY, JEDI, STAR_WARS]
    assert [item["item_id"] for item in answer.json["scores"]] == ids
    assert [item["score"] for item in answer.json["scores"]] == pytest.approx(
        recommender.score([STAR_WARS], ids), abs=1e-4
    )


def test_an_explanation_holds_what_was_measured(client: Client, recommender):
    from llmrec.explain.evidence import measure

    answer = client.post("/v1/explain", {"history": [STAR_WARS, TOY_STORY], "item": JEDI})
    assert answer.status == 200 and answer.json["written_by"] == "evidence" and answer.json["text"]
    evidence = json.loads(json.dumps(dataclasses.asdict(measure(recommender, [STAR_WARS, TOY_STORY], JEDI))))
    assert answer.json["evidence"]["rank"] == evidence["rank"]
    assert answer.json["evidence"]["score"] == pytest.approx(evidence["score"], abs=1e-4)
    assert client.post("/v1/explain", {"history": [JEDI], "item": JEDI}).status == 422


def test_a_language_model_is_asked_for_words_on_demand(client: Client, recommender):
    best = recommender.recommend([STAR_WARS, TOY_STORY], 1)[0].item_id
    for _ in range(2):  # loaded, then kept
        answer = client.post("/v1/explain", {"history": [STAR_WARS, TOY_STORY], "item": best, "words": True})
        assert answer.status == 200 and answer.json["note"] != NO_WORDS, answer
        asked = answer.json["language_model"] is not None
        assert asked == (not answer.json["note"])  # where nothing says that the item suits, no model is asked to


def test_titles_can_be_searched(client: Client):
    answer = client.get("/v1/items/search?q=star+wars").json
    assert answer["match"] == "sure" and answer["items"] == [{"item_id": STAR_WARS, "title": "Star Wars"}]
    assert client.get("/v1/items/search?q=").status == 422


def test_the_model_in_service_is_listed_as_openai_lists_models(client: Client):
    listed_models = client.get("/v1/models").json
    assert listed_models["object"] == "list" and [model["id"] for model in listed_models["data"]] == ["run"]


def test_health_readiness_and_figures(client: Client):
    assert client.get("/healthz").json == {"status": "alive"}
    assert client.get("/readyz").json == {"status": "ready", "model": "run"}
    before = client.metric('llmrec_requests_total{route="/v1/recommend",status="422"}')
    client.recommend([STAR_WARS], k=0)
    assert client.metric('llmrec_requests_total{route="/v1/recommend",status="422"}') == before + 1


def test_the_page_of_routes_asks_nothing_of_other_hosts(client: Client):
    page = client.get("/docs").body.decode()
    assert "/v1/recommend" in page and "<script" not in page
    assert f"http://127.0.0.1:{client.port}" in page and page.count("http://") == page.count(
        f"http://127.0.0.1:{client.port}"
    )
    schema = client.get("/openapi.json").json
    examples = schema["components"]["schemas"]["RecommendBody"]["examples"]
    for example in examples:
        example["history"] = [STAR_WARS]  # the titles of the example are those of the demo
        assert client.post("/v1/recommend", example).status == 200
