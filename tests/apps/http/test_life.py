"""A server's life: other runs and new items without losing a request, a model that fails, the end."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmrec.apps.listening import is_this_computer
from llmrec.recommender import Recommender
from tests.apps.calling import assert_one_sentence, call, command
from tests.apps.http.running import KEY, Client, serving, wait_until
from tests.recipes.running import run_here
from tests.recipes.running import settings as run_settings


def test_a_reload_loses_no_request(tiny_run):
    with serving(tiny_run, key=KEY) as running:
        statuses, done = [], threading.Event()

        def ask() -> None:
            while not done.is_set():
                statuses.append(running.client.recommend(["50"]).status)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for loads in (2, 3):
            wait_until(lambda: len(statuses) > 3)
            before, answer = len(statuses), running.client.post("/admin/reload", {})
            assert answer.status == 200 and answer.json["num_items"] == 1682, answer
            assert len(statuses) > before, "nobody was answered while the model was loaded"
            assert running.client.metric("llmrec_model_loads") == loads
        done.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}


def test_a_run_of_the_runs_folder_takes_over(tiny_run, growing_run):
    with serving(tiny_run, f"runs_folder={growing_run.parent}", key=KEY) as running:
        answer = running.client.post("/admin/reload", {"run": growing_run.name})
        assert answer.status == 200 and answer.json["num_items"] == 100, answer
        assert running.client.recommend(["1"], k=3).status == 200
        assert "'1682' is no item id" in running.client.recommend(["1682"]).sentence  # of the smaller catalogue


def test_added_items_are_recommended_at_once(growing_run):
    new = {"item_id": "new 1", "title": "A Toy Story of Our Own", "genres": ["Comedy", "Children's"]}
    with serving(growing_run, key=KEY) as running:
        client = running.client
        answer = client.post("/v1/items", {"items": [new]})
        assert answer.status == 200, answer
        assert (answer.json["added"], answer.json["num_items"], answer.json["run"]) == (1, 101, None)
        assert len(answer.json["codes"][0]) >= 2
        listed = client.recommend(["1"], k=5, candidates=["new 1", "2"]).json["recommendations"]
        assert {item["item_id"] for item in listed} == {"new 1", "2"}
        assert client.recommend(["a toy story of our own"], k=1).json["history"] == ["new 1"]
        again = client.post("/v1/items", {"items": [new]})
        assert again.status == 422 and "new 1" in again.sentence
        more = client.post("/v1/items", {"items": [new | {"item_id": "new 2"}]})
        assert more.json["num_items"] == 102
        kept = running.service.holder.model.folder
        assert kept.is_dir()
    assert not kept.exists()  # gone with the server


def test_kept_items_are_a_run_folder(growing_run, tmp_path):
    new = {"item_id": "new 1", "title": "A Toy Story of Our Own", "genres": ["Comedy"]}
    with serving(growing_run, f"keep_items={tmp_path}", key=KEY) as running:
        answer = running.client.post("/v1/items", {"items": [new]})
        assert answer.status == 200, answer
    recommender = Recommender.from_pretrained(answer.json["run"])
    assert recommender.catalog.num_items == 101 and recommender.catalog.contains(["new 1"]).all()


@pytest.mark.parametrize(
    "items",
    [
        [{"item_id": "n"}],
        [{"title": "No id"}],
        [{"item_id": "n", "title": "Twice"}, {"item_id": "n", "title": "Twice"}],
        [{"item_id": {"a": 1}, "title": []}],
    ],
)  # fmt: skip
def test_items_that_cannot_be_added_are_one_sentence(growing, items):
    answer = growing.client.post("/v1/items", {"items": items})
    assert answer.status == 422 and answer.sentence
    assert growing.client.get("/readyz").status == 200


@pytest.fixture(scope="module")
def growing(growing_run):
    with serving(growing_run, key=KEY) as running:
        yield running


def test_vectors_of_new_items_must_fit_them(growing):
    items = [{"item_id": "n", "title": "New"}]
    for rows in ([], [[1.0], [2.0]], [[]]):
        answer = growing.client.post("/v1/items", {"items": items, "features": {"taste": rows}})
        assert answer.status == 422 and answer.sentence, rows


def test_a_run_of_one_token_an_item_takes_no_new_ones(locked):
    answer = locked.client.post("/v1/items", {"items": [{"item_id": "n", "title": "New"}]})
    assert answer.status == 422 and "train again" in answer.sentence


def test_a_model_that_fails_is_said_and_loaded_again(tiny_run):
    with serving(tiny_run) as running:
        client, model = running.client, running.service.holder.model

        def broken(*arguments, **more):
            raise RuntimeError("the engine is gone")

        model.recommender.ranker.rank = model.recommender.ranker.score = broken
        answer = client.recommend(["50"])
        assert answer.status == 503 and "loaded again" in answer.sentence and "retry-after" in answer.headers
        assert client.get("/healthz").status == 200
        wait_until(lambda: client.get("/readyz").status == 200)
        assert client.recommend(["50"]).status == 200
        assert client.metric("llmrec_model_loads") == 2


def test_an_idle_model_that_has_failed_is_noticed_by_the_question_whether_it_is_ready(tiny_run):
    with serving(tiny_run) as running:
        model = running.service.holder.model

        def broken(*arguments, **more):
            raise RuntimeError("the engine is gone")

        model.recommender.ranker.rank = model.recommender.ranker.score = broken
        model.answered_at -= 60
        assert running.client.get("/readyz").status == 503
        wait_until(lambda: running.client.get("/readyz").status == 200)


def test_a_call_that_never_ends_is_given_up_and_holds_no_stop_up(tiny_run):
    with serving(tiny_run, "stuck_seconds=0.5", "batch.size=2") as running:
        model, never = running.service.holder.model, threading.Event()
        model.recommender.ranker.rank = lambda *arguments, **more: never.wait()
        answers = running.client.together([{"history": [item_id]} for item_id in ("1", "2", "3", "4")])
        assert {answer.status for answer in answers} == {503} and "loaded again" in answers[0].sentence
        wait_until(lambda: running.client.get("/readyz").status == 200)
        assert running.client.recommend(["50"]).status == 200
    never.set()


def test_a_model_that_cannot_be_loaded_again_is_tried_again(tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    with serving(run, "recovery_seconds=0.2") as running:
        running.service.holder.model.failed = True
        (run / "model" / "manifest.json").rename(run / "hidden")
        assert running.client.recommend([]).status == 503
        time.sleep(0.5)
        assert running.client.get("/readyz").status == 503
        (run / "hidden").rename(run / "model" / "manifest.json")
        wait_until(lambda: running.client.get("/readyz").status == 200)


def test_a_request_that_breaks_the_code_fails_alone(tiny_run):
    with serving(tiny_run, "batch.window_ms=300", "batch.size=4") as running:
        ranker = running.service.holder.model.recommender.ranker
        rank = ranker.rank

        def fragile(requests, k, **more):
            if any(history.tolist() == [11] for history in requests.histories):
                raise RuntimeError("a case nobody thought of")
            return rank(requests, k, **more)

        ranker.rank = fragile
        answers = running.client.together([{"history": [item_id]} for item_id in ("12", "13", "14", "15")])
        assert [answer.status for answer in answers] == [500, 200, 200, 200]
        assert "its log says more" in answers[0].sentence
        assert running.client.metric("llmrec_model_loads") == 1


def started(*arguments: object) -> tuple[subprocess.Popen, Client]:
    """`llmrec serve` in a process of its own, ready."""
    process = subprocess.Popen(
        command("serve", *arguments, "--port", 0),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for line in process.stderr:
        if line.startswith("Serving at http://127.0.0.1:"):
            return process, Client(int(line.split(";")[0].rpartition(":")[2]))
    raise AssertionError(f"it ended with {process.wait()}")


@pytest.mark.slow
def test_a_stop_finishes_what_was_taken_and_ends_with_0(tiny_run):
    process, client = started(tiny_run, "batch.window_ms=2000")
    try:
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(client.recommend, ["50"])
            wait_until(lambda: client.metric("llmrec_queue_length") == 1)
            process.send_signal(signal.SIGTERM)
            assert answer.result().status == 200
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()


def engines_of(process: subprocess.Popen) -> list[int]:
    """The vLLM processes that a server started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")  # pid (name) state parent ...
            if name.startswith("VLLM") and rest.split()[0] != "Z" and int(rest.split()[1]) == process.pid:
                found.append(int(stat.parent.name))
    return found


@pytest.fixture(scope="module")
def small_run(few_users, tmp_path_factory):
    """Of the real small model: vLLM has no attention for heads as narrow as a tiny one's."""
    run = tmp_path_factory.mktemp("small_run") / "run"
    more = ("backbone.num_layers=2", "training.max_steps=1", "training.evaluate_every=1", "validation.max_users=4")
    run_here(run_settings(few_users, "SmolLM2-135M-Instruct", run, *more))
    return run


@pytest.mark.slow
@pytest.mark.vllm
def test_a_vllm_engine_ends_with_its_server_whatever_ended_it(small_run):
    process, _ = started(small_run, "--engine", "vllm")
    (engine,) = engines_of(process)
    process.kill()
    process.wait()
    wait_until(lambda: not Path(f"/proc/{engine}").exists())


@pytest.mark.slow
@pytest.mark.vllm
def test_a_killed_vllm_engine_is_said_and_replaced(small_run):
    run = small_run
    process, client = started(run, "--engine", "vllm")
    try:
        ids = [item["item_id"] for item in client.recommend(["50", "181"], k=5).json["recommendations"]]
        assert ids == [item.item_id for item in Recommender.from_pretrained(run).recommend(["50", "181"], 5)]
        (engine,) = engines_of(process)
        os.kill(engine, signal.SIGKILL)
        wait_until(lambda: client.get("/readyz").status == 503)
        assert client.recommend(["50"]).status == 503 and client.get("/healthz").status == 200
        wait_until(lambda: client.get("/readyz").status == 200, 240)
        again = [item["item_id"] for item in client.recommend(["50", "181"], k=5).json["recommendations"]]
        assert again == ids and len(engines_of(process)) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0 and not engines_of(process)
    finally:
        process.kill()


def test_a_port_that_is_taken_is_one_sentence(served, tiny_run, capsys):
    assert_one_sentence(call(capsys, "serve", tiny_run, "--port", served.client.port), "is taken by another program")


def test_a_folder_that_is_no_run_ends_the_server_with_a_sentence(tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    called = call(capsys, "serve", tmp_path, "--port", 0)
    assert called.status == 2 and called.out == "" and called.err.splitlines()[0].startswith("Loading")
    assert called.err.splitlines()[1:] and called.err.splitlines()[-1].startswith("llmrec: ")
    assert signal.getsignal(signal.SIGTERM) is before


def test_settings_that_are_none_are_one_sentence(tmp_path, tiny_run, capsys):
    for arguments, sentence in (
        (("batch.sise=3",), "Did you mean 'batch.size'?"),
        (("batch.size=0",), "batch.size"),
        (("--port", "70000"), "port"),
        (("--runs-folder", tmp_path / "none"), "is no folder"),
        (("--api-key-file", tmp_path / "none"), "cannot read the API key"),
        (("--base-url", "http://127.0.0.1:1/v1"), "name the model, too"),
    ):
        assert_one_sentence(call(capsys, "serve", tiny_run, *arguments), sentence)


def test_only_loopback_addresses_are_this_computers():
    assert all(map(is_this_computer, ("127.0.0.1", "localhost", "::1", "127.8.8.8")))
    assert not any(map(is_this_computer, ("0.0.0.0", "::", "192.168.1.2", "example.org")))
