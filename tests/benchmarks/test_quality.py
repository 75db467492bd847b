"""What a peer wrote, read as a recommender and ranked by our evaluator; no peer's environment is needed."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import quality
import quality_page
from peer_files import ListsFile, ScoresFile, write_events, write_requests
from quality_plan import PEERS, POPULARITY

from llmrec.baselines.popularity import Popularity
from llmrec.data.prepare import prepare
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.files import write_arrow
from llmrec.recommenders.requests import Requests


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 9, 60)
    users, items = np.repeat(np.arange(60), lengths), rng.integers(0, 30, lengths.sum())
    events = {"user_id": [f"u{u}" for u in users], "item_id": [f"i{i}" for i in items], "step": np.arange(len(users))}
    write_arrow(tmp_path / "events.parquet", pa.table(events))
    names = [f"i{item}" for item in rng.permutation(30)]
    write_arrow(tmp_path / "items.parquet", pa.table({"item_id": names, "title": names}))
    return prepare(tmp_path / "items.parquet", tmp_path / "events.parquet", tmp_path / "data")


@pytest.fixture
def task():
    return load_task("leave_one_out", ["metrics=[recall, ndcg]", "ks=[5, 10]", "interval.resamples=20"])


def written_scores(folder, scores):
    np.save(folder / "test.scores.npy", scores.astype(np.float32), allow_pickle=False)
    return folder / "test.scores.npy"


def test_scores_from_a_file_rank_as_the_recommender_that_wrote_them(data, task, tmp_path):
    split = task.split.make(data.interactions)
    ours = Popularity().fit(split.train)
    order = np.random.default_rng(1).permutation(len(split.test))  # requests may be written in any order of users
    scores = ours.scores(Requests.from_instances(split.test))[order]
    theirs = ScoresFile("theirs", {"a": 1}, written_scores(tmp_path, scores), split.test.users[order], 30)
    found = evaluate(theirs, data, task, split=split)
    assert found.metrics == evaluate(ours, data, task, split=split).metrics
    assert found.protocol["recommender"] == {"name": "theirs", "a": 1}
    assert found.protocol["ranked_by"] == "scores of all items"


def test_a_list_from_a_file_is_ranked_as_the_list_it_is(data, task, tmp_path):
    split = task.split.make(data.interactions)
    ranking = Popularity().fit(split.train).rank(Requests.from_instances(split.test), 10, exclude_seen=True)
    np.save(tmp_path / "test.items.npy", ranking.items.astype(np.int32), allow_pickle=False)
    scores = written_scores(tmp_path, ranking.scores)
    theirs = ListsFile("theirs", {}, tmp_path / "test.items.npy", scores, split.test.users, 30)
    found = evaluate(theirs, data, task, split=split)
    hits = (ranking.items == split.test.targets[:, None]).any(axis=1)
    # popularity ties across the end of the list of ten; within it every tied order has the same hits
    assert found.metrics["recall@10"]["value"] == pytest.approx(hits.mean())
    assert found.protocol["ranked_by"] == "list of 10"
    with pytest.raises(ConfigError, match="lists of 10 without seen items"):
        theirs.rank(Requests.from_instances(split.test), 11, exclude_seen=True)


def test_what_a_peer_reads_holds_no_target(data, task, tmp_path):
    split = task.split.make(data.interactions)
    write_events(tmp_path / "train.parquet", split.train)
    write_requests(tmp_path / "test.parquet", split.test)
    train, asked = pq.read_table(tmp_path / "train.parquet"), pq.read_table(tmp_path / "test.parquet")
    assert train["item"].to_pylist() == split.train.items.tolist()
    assert asked.column_names == ["request", "user", "item"]
    histories = {}
    for request, item in zip(asked["request"].to_pylist(), asked["item"].to_pylist(), strict=True):
        histories.setdefault(request, []).append(item)
    for request, user in enumerate(split.test.users):
        assert histories[request] == data.interactions.histories[int(user)][:-1].tolist()


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (np.zeros((2, 30)), r"should hold float32 \(3, 30\) but holds float32 \(2, 30\)"),
        (np.zeros(5), r"but holds float32 \(5,\)"),
    ],
)
def test_a_file_of_another_shape_is_refused_in_a_sentence(tmp_path, scores, said):
    with pytest.raises(DataError, match=said):
        ScoresFile("theirs", {}, written_scores(tmp_path, scores), np.arange(3), 30)


def test_a_pickled_or_broken_file_is_never_loaded(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    (tmp_path / "broken.npy").write_bytes(b"no array")
    for name in ("objects", "broken", "absent"):
        with pytest.raises(DataError, match="cannot read"):
            ScoresFile("theirs", {}, tmp_path / f"{name}.npy", np.arange(3), 30)


def test_a_user_whom_the_peer_was_not_asked_for_is_an_error(data, task, tmp_path):
    split = task.split.make(data.interactions)
    users = split.test.users[:-1]
    theirs = ScoresFile("theirs", {}, written_scores(tmp_path, np.zeros((len(users), 30))), users, 30)
    with pytest.raises(DataError, match="was not asked for some of these users"):
        evaluate(theirs, data, task, split=split)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "no-such-folder"], "neither a data folder nor one with items.jsonl.gz"),
        (["--peers", "sasrek"], "there is no 'sasrek' to measure"),
    ],
)
def test_wrong_input_ends_with_a_sentence(monkeypatch, tmp_path, capsys, words, said):
    monkeypatch.setattr("sys.argv", ["quality.py", "--work", str(tmp_path), *words])
    monkeypatch.setattr(quality.harness, "with_threads", lambda threads: None)  # it starts the program anew
    with pytest.raises(SystemExit) as end:
        quality.main()
    shown = capsys.readouterr()
    assert (end.value.code, shown.out) == (2, "") and said in shown.err and shown.err.count("\n") == 1


def test_a_finished_row_is_kept_until_something_it_depends_on_changes(data, tmp_path, monkeypatch):
    words = ["--data", str(data.folder), "--work", str(tmp_path / "work"), "--fit", "train"]
    bench = quality.Bench(quality.flags().parse_args(words))
    measured = []
    monkeypatch.setattr(bench, "_peer", lambda name, fit: measured.append(name) or {"facts": {}, "absent": "no"})
    bench.row(POPULARITY, "train", ours=False)
    bench.row(POPULARITY, "train", ours=False)
    assert measured == [POPULARITY]
    bench.options.budget += 1  # what used up its budget has another chance
    bench.row(POPULARITY, "train", ours=False)
    bench.options.seed += 1
    bench.row(POPULARITY, "train", ours=False)
    assert len(measured) == 3


def test_every_peer_has_a_script_that_knows_its_model():
    for plan in PEERS.values():
        script = (quality_page.ROOT / "benchmarks" / "peers" / f"{plan.script}_peer.py").read_text()
        assert f'"{plan.model}": ' in script and "import llmrec" not in script and "from llmrec" not in script
        assert json.loads(json.dumps(plan.settings)) == plan.settings


def test_the_page_holds_the_tables_of_the_results():
    assert quality_page.BEGIN + "\n" + quality_page.section() + "\n" + quality_page.END in quality_page.PAGE.read_text(
        encoding="utf-8"
    )
