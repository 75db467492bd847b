"""Many users: a row each in their order, whole or not at all, asked once whatever happens in between."""

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.data.users import User
from llmrec.errors import ConfigError, DataError, LlmrecError, RequestError
from llmrec.recommender import Recommender
from llmrec.recommenders.filters import Filter
from llmrec.recommenders.requests import DenseRecommender
from llmrec.serving import users_job
from llmrec.serving.asked import Question, Source, answer
from llmrec.serving.users_job import UsersJob, answer_here, run_job
from tests.apps.calling import assert_one_sentence, call

ROWS = [
    {"user_id": "ann", "history": ["50", "181"]},
    {"user_id": "bob", "history": []},
    {"user_id": "cem", "history": ["1"], "candidates": ["2", "3", "4", "1"]},
    {"user_id": "ann", "history": ["7"], "exclude": ["50", "100"]},
    {"user_id": "dia", "history": ["2", "3"], "candidates": ["2", "3"]},
    {"user_id": "eve", "history": [str(item) for item in range(1, 60)]},
    {"user_id": "fay", "history": ["9"], "candidates": ["5"], "exclude": ["5"]},
]


def saved(folder: Path, rows=ROWS, name: str = "users.jsonl") -> Path:
    """A file of users, a JSON object a line."""
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(out: Path) -> list[dict]:
    """The rows of a result."""
    return pq.read_table(out).to_pylist()


def hidden(folder: Path) -> list[str]:
    """What a job leaves behind."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture
def popular(few_users) -> Source:
    """Popularity, learned from the events of 80 users: everybody's answer is known by hand."""
    return Source(baseline="popularity", data=few_users)


@pytest.mark.parametrize("run", ["tiny_run", "tiny_code_run"])
def test_every_user_receives_what_one_alone_would(run, request, tmp_path):
    run = request.getfixturevalue(run)
    job = UsersJob(Source(run), Question(5), tmp_path / "out.parquet", saved(tmp_path), shard=3)
    done = run_job(job)
    recommender, rows = Recommender.from_pretrained(run), read(job.out)
    assert [row["user_id"] for row in rows] == [row["user_id"] for row in ROWS]
    for asked, row in zip(ROWS[:-1], rows[:-1], strict=True):
        own = Filter(exclude=asked.get("exclude", ()), candidates=asked.get("candidates"))
        (alone,) = recommender.recommend_batch([asked["history"]], 5, filters=[own])
        assert row["item_ids"] == [item.item_id for item in alone]
        assert row["scores"] == pytest.approx([item.score for item in alone], abs=1e-4)
    assert rows[4]["item_ids"] == rows[-1]["item_ids"] == [], "seen, or excluded from the only candidates"
    assert (done.num_users, done.num_empty, done.num_kept) == (7, 2, 0)
    assert hidden(tmp_path) == []


def test_rules_for_all_users_are_kept(tiny_code_run, tmp_path):
    rows = [{"user_id": "a", "history": ["50"]}, {"user_id": "b", "history": ["50"], "exclude": ["2"]}]
    question = Question(4, False, where=("genres=Comedy",), exclude=("1",), diversity="mmr:0.5")
    job = UsersJob(Source(tiny_code_run), question, tmp_path / "out.parquet", saved(tmp_path, rows))
    run_job(job)
    recommender = Recommender.from_pretrained(tiny_code_run)
    for asked, row in zip(rows, read(job.out), strict=True):
        rules = vars(question.rules) | {"exclude": ["1", *asked.get("exclude", [])]}
        alone = recommender.recommend(asked["history"], 4, exclude_seen=False, **rules, diversity=question.method)
        assert row["item_ids"] == [item.item_id for item in alone]


class ByWish(DenseRecommender):
    """Ranks the items by how many words of their title stand in the instruction."""

    name = "by wish"

    def __init__(self, titles: list[str]) -> None:
        self.titles, self.num_items = titles, len(titles)

    def scores(self, requests):
        wishes = [text or "" for text in requests.instructions]
        return np.array(
            [[sum(word in wish for word in title.split()) for title in self.titles] for wish in wishes], float
        )


def test_every_user_has_a_wish_of_its_own_or_that_of_all():
    catalog = Catalog.from_rows(
        [{"item_id": f"i{n}", "title": title} for n, title in enumerate(["red", "green", "blue"])]
    )
    users = [User("a", [], instruction="something green"), User("b", []), User("c", [], instruction="blue")]
    answers = answer(Recommender(ByWish(catalog.titles), catalog), users, Question(1, instruction="red")).to_pylist()
    assert [row["item_ids"] for row in answers] == [["i1"], ["i0"], ["i2"]]


def test_a_wish_that_the_run_does_not_take_is_said(tiny_run, tmp_path):
    users = saved(tmp_path, [{"user_id": "a", "history": [], "instruction": "something light"}])
    with pytest.raises(ConfigError, match=r"has no {{ instruction }}"):
        run_job(UsersJob(Source(tiny_run), Question(2), tmp_path / "out.parquet", users))


def test_the_users_of_a_data_folder_are_asked_about_with_all_their_events(popular, few_users, tmp_path):
    job = UsersJob(popular, Question(3), tmp_path / "out.parquet", data=few_users, shard=32)
    assert run_job(job).num_users == 80
    data = load_data(few_users)
    counts, rows = data.interactions.counts(), read(job.out)
    assert [row["user_id"] for row in rows] == data.user_ids
    for user, row in enumerate(rows):
        open_counts = counts.astype(float)
        open_counts[data.interactions.histories[user]] = -1
        assert row["scores"] == sorted(open_counts, reverse=True)[:3]
        assert counts[data.catalog.index(row["item_ids"])].tolist() == row["scores"]


def test_no_more_users_are_in_memory_than_those_of_a_shard(popular, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(users_job, "answer", lambda r, users, q: sizes.append(len(users)) or answer(r, users, q))
    told = []
    run_job(
        UsersJob(popular, Question(2), tmp_path / "out.parquet", saved(tmp_path), shard=3),
        progress=lambda *numbers: told.append(numbers),
    )
    assert sizes == [3, 3, 1] and told == [(0, 7), (3, 7), (6, 7), (7, 7)]


def ending_after(num_shards: int):
    """Answers so many shards and stops, as a process that is killed does."""

    def answering(source, question, work, shards):
        yield from answer_here(source, question, work, shards[:num_shards])
        raise KeyboardInterrupt

    return answering


def interrupted(job: UsersJob, num_shards: int = 2) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_job(job, ending_after(num_shards))
    assert not job.out.exists()


def test_a_job_goes_on_with_the_shards_that_are_left(popular, tmp_path):
    job = UsersJob(popular, Question(2), tmp_path / "out.parquet", saved(tmp_path), shard=2)
    interrupted(job)
    asked = []

    def answering(source, question, work, shards):
        asked.extend(shards)
        return answer_here(source, question, work, shards)

    done = run_job(job, answering)
    assert asked == [2, 3] and done.num_kept == 4
    whole = UsersJob(popular, Question(2), tmp_path / "whole.parquet", job.users)
    run_job(whole)
    assert job.out.read_bytes() == whole.out.read_bytes(), "no byte tells how often it was interrupted, or the shards"
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut short", "another byte"])
def test_the_users_of_a_damaged_shard_are_asked_about_again(popular, tmp_path, damage):
    job = UsersJob(popular, Question(2), tmp_path / "out.parquet", saved(tmp_path), shard=2)
    interrupted(job)
    shard = tmp_path / ".out.parquet.job" / "00001.parquet"
    content = bytearray(shard.read_bytes())
    if damage == "cut short":
        del content[-30:]
    else:
        content[60] ^= 1
    shard.write_bytes(content)
    assert run_job(job).num_kept == 2
    whole = UsersJob(popular, Question(2), tmp_path / "whole.parquet", job.users)
    run_job(whole)
    assert read(job.out) == read(whole.out)


def test_a_job_does_not_go_on_over_anything_else(popular, tiny_run, few_users, tmp_path):
    users = saved(tmp_path)
    job = UsersJob(popular, Question(2), tmp_path / "out.parquet", users, shard=2)
    interrupted(job)
    others = {
        "k": UsersJob(popular, Question(3), job.out, users),
        "exclude seen": UsersJob(popular, Question(2, False), job.out, users),
        "where": UsersJob(popular, Question(2, where=("year>=1990",)), job.out, users),
        "users": UsersJob(popular, Question(2), job.out, saved(tmp_path, ROWS[:-1], "fewer.jsonl")),
        "baseline settings": UsersJob(
            Source(baseline="ease_r", baseline_settings=("regularisation=7",), data=few_users),
            Question(2),
            job.out,
            users,
        ),
        "run": UsersJob(Source(tiny_run), Question(2), job.out, users),
    }
    for word, other in others.items():
        with pytest.raises(ConfigError, match=rf"was begun on something else: .*\b{word}\b.* changed"):
            run_job(other)
    again = tmp_path / "elsewhere.jsonl"
    users.rename(again)  # the same content under another name is the same job
    assert run_job(UsersJob(popular, Question(2), job.out, again)).num_kept == 4


def test_force_drops_an_interrupted_job_and_replaces_the_result(popular, tmp_path):
    users, out = saved(tmp_path), tmp_path / "out.parquet"
    interrupted(UsersJob(popular, Question(2), out, users, shard=2))
    assert run_job(UsersJob(popular, Question(3), out, users, force=True)).num_kept == 0
    assert len(read(out)[0]["item_ids"]) == 3
    with pytest.raises(
        ConfigError, match=r"out.parquet' exists already. Name another file, or replace it with --force"
    ):
        run_job(UsersJob(popular, Question(2), out, users))
    run_job(UsersJob(popular, Question(2), out, users, force=True))
    assert len(read(out)[0]["item_ids"]) == 2


def test_a_job_that_asked_nobody_yet_is_begun_anew_without_a_word(popular, tmp_path):
    users, out = saved(tmp_path), tmp_path / "out.parquet"
    interrupted(UsersJob(popular, Question(2), out, users), 0)
    assert run_job(UsersJob(popular, Question(3), out, users)).num_users == 7


def test_a_process_that_was_killed_after_the_last_rename_has_done_its_work(popular, tmp_path, monkeypatch):
    job = UsersJob(popular, Question(2), tmp_path / "out.parquet", saved(tmp_path))

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(users_job, "remove_folder", killed)
        run_job(job)
    assert hidden(tmp_path) == [".out.parquet.job"] and len(read(job.out)) == 7
    with pytest.raises(ConfigError, match="exists already"):
        run_job(job)
    assert hidden(tmp_path) == []


def test_two_processes_do_not_work_on_one_result(popular, tmp_path):
    job = UsersJob(popular, Question(2), tmp_path / "out.parquet", saved(tmp_path))

    def meanwhile(source, question, work, shards):
        with pytest.raises(LlmrecError, match=r"another process is answering users in '.*\.out\.parquet\.job'"):
            run_job(job)
        return answer_here(source, question, work, shards)

    assert run_job(job, meanwhile).num_users == 7


def test_unknown_items_stop_the_job_before_anybody_is_asked_or_are_left_out(popular, tmp_path):
    rows = [
        {"user_id": "a", "history": ["50", "5000"]},
        {"user_id": "b", "history": ["181x", "1"], "candidates": ["nothing"]},
    ]
    job = UsersJob(popular, Question(2), tmp_path / "out.parquet", saved(tmp_path, rows))
    expected = (
        r"3 of 5 item ids of the users are not in the catalogue of 1682 items, such as '5000' in row 1 \(nearest: '500'"
    )
    with pytest.raises(DataError, match=expected):
        run_job(job)
    assert hidden(tmp_path) == [] and not job.out.exists()
    done = run_job(UsersJob(popular, Question(2), job.out, job.users, drop_unknown=True))
    assert done.num_unknown == 3 and done.num_empty == 1
    assert [len(row["item_ids"]) for row in read(job.out)] == [2, 0]


def test_wrong_rules_are_said_before_the_users_are_read(popular, tmp_path):
    missing = tmp_path / "nowhere.jsonl"
    for question, sentence in [
        (Question(2, where=("genre=Comedy",)), "no column 'genre' to filter by"),
        (Question(2, where=("year>3000",)), "none of the 1682 items is left by: year>3000"),
        (Question(2, exclude=("5000",)), "no item id '5000'"),
    ]:
        with pytest.raises(RequestError, match=sentence):
            run_job(UsersJob(popular, question, tmp_path / "out.parquet", missing))
    with pytest.raises(ConfigError, match="diversity should read like"):
        run_job(UsersJob(popular, Question(2, diversity="dpp"), tmp_path / "out.parquet", missing))


def test_a_result_that_cannot_be_written_is_said_first(popular, tmp_path):
    users = saved(tmp_path)
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file").write_text("")
    for out, sentence in [
        ("out.csv", "the result is a parquet file"),
        ("folder.parquet", "a folder lies there"),
        ("file/out.parquet", "cannot write"),
    ]:
        with pytest.raises(LlmrecError, match=sentence):
            run_job(UsersJob(popular, Question(2), tmp_path / out, users))


def test_a_job_that_is_killed_again_and_again_asks_nobody_twice(popular, tmp_path):
    rows = [{"user_id": f"u{n}", "history": [str(1 + n % 1600)]} for n in range(4000)]
    job = UsersJob(popular, Question(3), tmp_path / "out.parquet", saved(tmp_path, rows), shard=20)
    work, kept = tmp_path / ".out.parquet.job", {}
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(target=run_job, args=(job,))
        process.start()
        while process.is_alive() and len(list(work.glob("0*.parquet"))) < len(kept) + 5:
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL and not job.out.exists()
        there = {path.name: path.stat().st_mtime_ns for path in work.glob("0*.parquet")}
        assert kept.items() < there.items(), "what was answered before has not been written again"
        kept = there
    assert run_job(job).num_kept == 20 * len(kept)
    assert [row["user_id"] for row in read(job.out)] == [row["user_id"] for row in rows]
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["RUN", "--users", "u.jsonl"], "go into a file. Name it: --out FILE.parquet"),
        (["RUN", "--out", "o.parquet"], "--out is for many users, but it is not said which"),
        (["RUN", "--users", "u.jsonl", "--data", "d", "--out", "o.parquet"], "both say whom to recommend to"),
        (["RUN", "--users", "u.jsonl", "--history", "1", "--out", "o.parquet"], "--history is of one user"),
        (["--users", "u.jsonl", "--out", "o.parquet"], "give the folder of a RUN or --baseline NAME, one of both"),
        (
            ["RUN", "--baseline", "popularity", "--data", "d"],
            "give the folder of a RUN or --baseline NAME, one of both",
        ),
        (["--baseline", "popularity", "--users", "u.jsonl", "--out", "o.parquet"], "needs the data to learn from"),
        (["--baseline", "popular", "--data", "d", "--out", "o.parquet"], "there is no baseline 'popular'"),
        (["RUN", "--baseline-setting", "dim=4", "--history", "1"], "--baseline-setting is of a baseline"),
        (["RUN", "--history", "1", "--engine-option", "fast"], "an engine's option reads KEY=VALUE"),
        (["RUN", "--history", "1", "--engine-option", "seed=1"], "but the engine is torch"),
        (["RUN", "--data", "nowhere", "--out", "o.parquet"], "there is no file 'nowhere/items.parquet'"),
        (["RUN", "--users", "nowhere.csv", "--out", "o.parquet"], "there is no file 'nowhere.csv'"),
    ],
)
def test_what_the_command_cannot_do_is_one_sentence(tiny_run, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, name="u.jsonl")
    asked = [str(tiny_run) if word == "RUN" else word for word in arguments]
    assert_one_sentence(call(capsys, "recommend", *asked), sentence)


def test_the_command_says_what_came_of_it(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"user_id": row["user_id"], "history": row["history"], "city": "Bonn"} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), "u.parquet")
    called = call(capsys, "recommend", tiny_run, "--users", "u.parquet", "--out", "o.parquet", "-k", "2")
    assert called.status == 0 and "7 users, " in called.out and "Written to o.parquet" in called.out
    assert called.err.strip() == "columns passed over: city"
    assert [len(row["item_ids"]) for row in read(Path("o.parquet"))] == [2] * 7
    report = call(capsys, "recommend", tiny_run, "--users", "u.parquet", "--out", "p.parquet", "--json").json
    assert (report["out"], report["num_users"], report["passed_over"]) == ("p.parquet", 7, ["city"])


def test_the_module_of_the_job_loads_no_torch():
    program = "import sys, llmrec.data.users, llmrec.serving.work_folder; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
