"""`llmrec enrich` as a person runs it, in processes of its own where that matters."""

import json
import os
import signal
import subprocess
import threading

import pyarrow.parquet as pq
import pytest

from llmrec.data.folder import load_data, save_data
from llmrec.enrich.generated_texts import load_generated_texts
from tests.apps.calling import assert_one_sentence, call, call_alone, command
from tests.enrich.conftest import film_data, film_folder, films, tiny_chat_model  # noqa: F401  (fixtures)
from tests.enrich.serving import ChatServer, Reply, completion, good_text

SERVER = ("--model", "m", "--provider", "openai", "--base-url")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def forty(tmp_path):
    folder = tmp_path / "forty"
    folder.mkdir()
    save_data(film_data([{"title": f"Film {n}", "year": "1990"} for n in range(40)]), folder)
    return folder


def test_texts_of_a_real_model_on_this_machine(capsys, cache, film_folder, tiny_chat_model):  # noqa: F811
    model = (
        film_folder,
        "--model",
        tiny_chat_model,
        "--max-new-tokens",
        8,
        "--retries",
        0,
        "--name",
        "tiny",
        "--set",
        "dtype=float32",
    )
    found = call(capsys, "enrich", *model, "--json").json
    assert found["folder"] == str(film_folder / "generated_texts" / "tiny") and found["run"]["calls"] == 4
    assert (
        found["card"]["model"]["provider"] == "transformers" and sum(found["card"]["counts"]["statuses"].values()) == 5
    )
    assert str(tiny_chat_model) not in json.dumps(found["card"]["model"])
    assert load_generated_texts(load_data(film_folder), "tiny").card["prompt"] == "enrich/item_knowledge"
    again = call(capsys, "enrich", *model, "--json").json
    assert again["run"]["calls"] == 0 and again["card"] == found["card"]
    table = pq.read_table(film_folder / "generated_texts" / "tiny" / "texts.parquet")
    assert [(f.name, str(f.type)) for f in table.schema] == [
        ("item", "int32"),
        ("text", "string"),
        ("status", "string"),
    ]


def test_a_dry_run_says_what_it_would_cost_and_asks_a_server_nothing(capsys, cache, forty):
    with ChatServer(good_text) as server:
        called = call(capsys, "enrich", forty, *SERVER, server.url, "--dry-run")
    assert called.status == 0 and server.bodies == [] and not (forty / "generated_texts").exists()
    assert "40 items, 40 different questions, 0 answered already." in called.err
    assert "Left: 40 calls, about " in called.err and "2,560 to write at most" in called.err


def test_what_a_person_reads(capsys, cache, forty):
    with ChatServer(good_text) as server:
        called = call(capsys, "enrich", forty, *SERVER, server.url)
    assert called.status == 0, called.err
    assert called.out.startswith("40 ok. Asked 40 times in ")
    assert called.out.count("It is about") == 3 and f"Written to {forty / 'generated_texts' / 'm'}" in called.out


def test_a_control_character_in_an_answer_does_not_reach_the_terminal(capsys, cache, forty):
    with ChatServer(lambda body, n: good_text(body) + " \x1b[2J\x07 end.") as server:
        called = call(capsys, "enrich", forty, *SERVER, server.url)
    assert "end." in called.out and "\x1b" not in called.out and "\x07" not in called.out


def test_profiles_of_users(capsys, cache, film_folder):  # noqa: F811
    with ChatServer(good_text) as server:
        found = call(capsys, "enrich", film_folder, *SERVER, server.url, "--about", "users", "--json").json
    assert found["folder"].endswith("m-users") and found["card"]["counts"]["asked_about"] == 2
    assert "user" in pq.read_table(film_folder / "generated_texts" / "m-users" / "texts.parquet").column_names


def test_the_budget_is_said_when_it_is_used_up(capsys, cache, forty):
    with ChatServer(good_text) as server:
        called = call(capsys, "enrich", forty, *SERVER, server.url, "--max-tokens", 500, "--set", "batch_size=2")
    assert called.status == 0 and 0 < len(server.bodies) < 40
    assert f"{40 - len(server.bodies)} questions were not asked: the budget of 500 tokens" in called.err


def test_rubbish_for_some_questions_is_one_sentence_at_the_end(capsys, cache, forty):
    with ChatServer(lambda body, n: Reply(400, b"<rubbish>") if "Film 7" in str(body) else good_text(body)) as server:
        called = call(capsys, "enrich", forty, *SERVER, server.url)
    assert called.status == 2 and "llmrec: 1 questions have no answer: " in called.err and "<rubbish>" in called.err
    assert load_generated_texts(load_data(forty), "m").statuses.count("ok") == 39


def test_a_server_that_dies_midway_is_one_sentence(capsys, cache, forty):
    with ChatServer(lambda body, n: good_text(body) if n < 12 else Reply(401, b"no more money")) as server:
        called = call(capsys, "enrich", forty, *SERVER, server.url)
    assert called.status == 2 and called.out == "" and called.err.count("llmrec: ") == 1
    assert "refuses: status 401 'no more money'" in called.err and "answers are kept" in called.err
    assert not (forty / "generated_texts" / "m").exists()


def test_a_killed_run_goes_on_and_repeats_no_finished_call(tmp_path, forty):
    """kill -9 after the 10th question; every question that was answered before is found again."""
    arrived = threading.Event()

    def answer(body: dict, number: int) -> Reply:
        if number >= 10:
            arrived.set()
            return Reply(**vars(completion(good_text(body))) | {"wait": 30})
        return completion(good_text(body))

    with ChatServer(answer) as server:
        arguments = ("enrich", forty, *SERVER, server.url, "--set", "batch_size=1", "--json")
        environment = os.environ | {"LLMREC_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command(*arguments), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert arrived.wait(120), process.stderr.read()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        answered = [json.dumps(body) for body in server.bodies[:10]]
        server.bodies.clear()
        server.answer = good_text
        found = call_alone(*arguments, LLMREC_CACHE=str(tmp_path / "cache")).json
    assert found["run"]["calls"] == 30 and found["card"]["counts"]["statuses"] == {"ok": 40}
    assert not {json.dumps(body) for body in server.bodies} & set(answered)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--model", "m", "--prompt", "enrich/nothing"), "there is no prompt 'enrich/nothing'"),
        (("--model", "m", "--about", "dogs"), "the setting 'about'"),
        (("--model", "m", "--provider", "oracle"), "the setting 'provider'"),
        (("--model", "m", "--set", "temprature=1"), "Did you mean 'temperature'?"),
        (("--model", "m", "--base-url", "http://localhost:1/v1"), "the provider is not openai"),
        (("--model", "m", "--provider", "openai"), "named by its URL"),
        (("--model", "no/such/model/here"), "expected a model folder"),
        (("--model", "m", "--name", "../up"), "the name of generated texts"),
        (("--model", "m", "--prompt", "enrich/film_knowledge", "--about", "users"), "is about one item"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, cache, film_folder, arguments, sentence):  # noqa: F811
    assert_one_sentence(call(capsys, "enrich", film_folder, *arguments), sentence)


def test_vllm_that_is_not_installed_is_one_sentence(capsys, cache, film_folder, tiny_chat_model):  # noqa: F811
    try:
        import vllm  # noqa: F401
    except ImportError:
        called = call(capsys, "enrich", film_folder, "--model", tiny_chat_model, "--provider", "vllm")
        assert_one_sentence(called, "needs vLLM, which is not installed")
    else:
        pytest.skip("vLLM is installed here")
