"""Whole runs against a real server: what is asked, what is kept, what is asked again."""

import pytest

from llmrec.enrich.run import Enrichment, enrich
from llmrec.enrich.settings import EnrichSettings
from llmrec.errors import ModelError
from llmrec.text_models.openai import OpenAIModel
from llmrec.text_models.protocol import ProviderError
from tests.enrich.conftest import film_data
from tests.enrich.serving import DROP, ChatServer, Reply, completion, good_text, question


def enrichment(data, server: ChatServer, tmp_path, **values) -> Enrichment:
    settings = EnrichSettings(model="m", prompt=values.pop("prompt", "enrich/film_knowledge"), **values)
    model = OpenAIModel("m", server.url, first_wait=0.01, timeout=5, concurrency=4)
    return Enrichment(data, settings, model, cache_path=tmp_path / "answers.sqlite")


def many_films(number: int = 40):
    return film_data([{"title": f"Film {n}", "year": "1990", "genres": ["Drama"]} for n in range(number)])


def test_every_item_gets_its_text_and_equal_items_are_asked_about_once(films, tmp_path):
    with ChatServer(good_text) as server:
        generated_texts = enrichment(films, server, tmp_path).run()
    assert len(server.bodies) == 4 and generated_texts.texts[1] == generated_texts.texts[3]
    assert None not in generated_texts.texts and set(generated_texts.statuses) == {"ok"}
    assert generated_texts.card["counts"] == {
        "asked_about": 5,
        "different_questions": 4,
        "retried": 0,
        "statuses": {"ok": 5},
    }


def test_a_second_run_asks_nothing_and_gives_the_same(films, tmp_path):
    with ChatServer(good_text) as server:
        first = enrichment(films, server, tmp_path).run()
        again = enrichment(films, server, tmp_path)
        estimate = again.plan(probe=False)
        assert (estimate.num_calls, estimate.num_cached, estimate.seconds) == (0, 4, 0.0)
        assert again.run() == first and len(server.bodies) == 4


def test_one_changed_item_is_one_more_call_and_another_prompt_all_of_them(films, tmp_path):
    with ChatServer(good_text) as server:
        enrichment(films, server, tmp_path).run()
        rows = films.catalog.table.to_pylist()
        rows[0]["year"] = "1972"
        enrichment(film_data(rows), server, tmp_path).run()
        assert len(server.bodies) == 5
        enrichment(films, server, tmp_path, prompt="enrich/item_knowledge").run()
        assert len(server.bodies) == 9


def test_bad_texts_are_asked_for_again_with_other_seeds_and_the_first_good_one_is_kept(films, tmp_path):
    def slow_learner(body: dict, number: int) -> str:
        if "Heat" not in question(body):
            return good_text(body)
        return (
            good_text(body)
            if body["temperature"] > 0 and len(seeds) == 2
            else seeds.append(body["seed"]) or "no no no no"
        )

    seeds: list[int] = []
    with ChatServer(slow_learner) as server:
        one = enrichment(films, server, tmp_path, retries=2)
        generated_texts = one.run()
    assert generated_texts.statuses[0] == "ok" and one.tally.retried == 1 and len(set(seeds)) == 2
    assert len(server.bodies) == 6


def test_what_stays_bad_is_flagged_and_kept_out_unless_asked_for(films, tmp_path):
    texts = {
        "Heat": "I'm sorry, I can't help with that.",
        "Fargo": "",
        "Toy": "fine, fine, fine, fine, it is",
        "Duck": "A film with",
    }

    def bad(body: dict, number: int) -> Reply:
        name = question(body).split()[0]
        return completion(texts[name], "length" if name == "Duck" else "stop")

    with ChatServer(bad) as server:
        generated_texts = enrichment(films, server, tmp_path, retries=1).run()
        assert (
            generated_texts.statuses == ["refusal", "empty", "looping", "empty", "cut_off"]
            and generated_texts.texts == [None] * 5
        )
        assert generated_texts.all_texts[0] == texts["Heat"] and len(server.bodies) == 8
        kept = enrichment(films, server, tmp_path, retries=1, keep_flagged=True).run()
    assert kept.texts == [texts["Heat"], None, texts["Toy"], None, "A film with"] and len(server.bodies) == 8


def test_the_same_words_about_different_items_are_kept_once(films, tmp_path):
    with ChatServer(lambda body, n: "A film that everybody should see.") as server:
        generated_texts = enrichment(films, server, tmp_path, retries=1).run()
    assert generated_texts.statuses == ["ok", "duplicate", "duplicate", "duplicate", "duplicate"]
    assert len(server.bodies) == 4 + 3  # three of four different questions once more


def test_a_question_without_an_answer_is_a_failure_that_the_next_run_asks_again(films, tmp_path):
    with ChatServer(lambda body, n: Reply(400, b"bad") if "Heat" in question(body) else good_text(body)) as server:
        one = enrichment(films, server, tmp_path)
        generated_texts = one.run()
        assert generated_texts.statuses == ["failed", "ok", "ok", "ok", "ok"] and generated_texts.texts[0] is None
        assert len(one.tally.failures) == 1 and "status 400" in str(one.tally.failures)
        server.answer = good_text
        assert enrichment(films, server, tmp_path).run().statuses == ["ok"] * 5 and len(server.bodies) == 5


def test_a_failure_that_another_try_mends_is_none(films, tmp_path):
    with ChatServer(lambda body, n: Reply(400) if n == 0 else good_text(body)) as server:
        one = enrichment(films, server, tmp_path)
        one.plan(probe=True)
        assert len(one.tally.failures) == 1
        assert one.run().statuses == ["ok"] * 5 and one.tally.failures == {} and len(server.bodies) == 5


def test_a_server_that_dies_midway_is_one_sentence_and_what_it_said_is_kept(tmp_path):
    data = many_films()
    with ChatServer(lambda body, n: good_text(body) if n < 20 else Reply(DROP)) as server:
        with pytest.raises(ProviderError, match="no usable answer 5 times in a row") as caught:
            enrichment(data, server, tmp_path).run()
        assert "20 of 40 answers are kept; the same command goes on from there." in str(caught.value)
        before = len(server.bodies)
        server.answer = good_text
        generated_texts = enrichment(data, server, tmp_path).run()
        assert len(server.bodies) - before == 20 and set(generated_texts.statuses) == {"ok"}


def test_the_budget_of_tokens_is_never_exceeded_and_the_rest_is_not_asked(tmp_path):
    data = many_films()

    def honest(body: dict, number: int) -> Reply:
        return Reply(body=completion(good_text(body)).body.replace(b'"prompt_tokens": 11', b'"prompt_tokens": 200'))

    with ChatServer(honest) as server:
        one = enrichment(data, server, tmp_path, max_tokens=6_000)
        generated_texts = one.run()
        asked = len(server.bodies)
        assert 0 < asked < 40 and len(one.tally.unasked) == 40 - asked
        assert one.tally.prompt_tokens + one.tally.new_tokens <= 6_000
        assert (
            generated_texts.statuses.count(None) == 40 - asked
            and generated_texts.card["counts"]["asked_about"] == asked
        )
        assert set(enrichment(data, server, tmp_path).run().statuses) == {"ok"} and len(server.bodies) == 40


def test_the_estimate_counts_what_the_run_then_does(tmp_path):
    data = many_films(10)
    with ChatServer(good_text) as server:
        one = enrichment(data, server, tmp_path, retries=0)
        estimate = one.plan(probe=True)
        assert len(server.bodies) == 4 and estimate.num_calls == 6 and estimate.seconds > 0  # a first batch of four
        assert estimate.most_new_tokens == 6 * 64 and estimate.num_rows == estimate.num_different == 10
        one.run()
        assert len(server.bodies) == 10 and one.tally.calls == 10


def test_a_prompt_longer_than_the_model_reads_is_not_asked(films, tmp_path, tiny_chat_model):
    from llmrec.text_models.transformers import TransformersModel

    model = TransformersModel.load(tiny_chat_model, dtype="float32")
    model.max_tokens = 300
    rows = [{"title": "short"}, {"title": "a long title " * 30}]
    generated_texts = enrich(
        film_data(rows),
        EnrichSettings(model="m", max_new_tokens=4, retries=0),
        model,
        cache_path=tmp_path / "a.sqlite",
    )
    assert generated_texts.statuses[1] == "too_long" and generated_texts.statuses[0] not in (None, "too_long", "failed")


def test_a_model_without_a_chat_template_is_refused(films, tmp_path, tiny_model):
    from llmrec.text_models.transformers import TransformersModel

    model = TransformersModel.load(tiny_model, dtype="float32")
    with pytest.raises(ModelError, match="has no chat template, so it cannot be asked in messages"):
        Enrichment(films, EnrichSettings(model="m"), model, cache_path=tmp_path / "a.sqlite")


def test_profiles_of_users_are_written_for_these_very_events(films, tmp_path):
    with ChatServer(good_text) as server:
        generated_texts = enrichment(films, server, tmp_path, about="users", prompt=None).run()
    assert generated_texts.statuses == ["ok", "ok", None]
    assert generated_texts.card["split"] == {"policy": "leave_one_out", "fit": "train"}
    assert generated_texts.card["content_hash"] == films.content_hash()


@pytest.mark.parametrize("opening", ["<think>\n", ""])
def test_a_model_that_was_still_thinking_is_asked_again_with_more_tokens(films, tmp_path, opening):
    """With no opening mark (it stands in the template) another answer's end mark tells that the model thinks."""

    def reasoning(body: dict, number: int) -> Reply:
        if "Heat" in question(body) and body["max_tokens"] < 200:
            return completion(f"{opening}Okay, the user wants a film. I should recall the plot first. It may", "length")
        return completion(f"{opening}Okay.\n</think>\n\n{good_text(body)}")

    with ChatServer(reasoning) as server:
        run = enrichment(films, server, tmp_path, max_new_tokens=64)
        generated_texts = run.run()
    assert set(generated_texts.statuses) == {"ok"} and not any("Okay" in text for text in generated_texts.texts)
    asked = [(body["max_tokens"], body["temperature"]) for body in server.bodies if "Heat" in question(body)]
    assert asked == [(64, 0.0), (256, 0.0)]
    assert len(run.tally.cut_in_thought) == 1 and run.tally.most_new_tokens == 256
