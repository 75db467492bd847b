"""Data folders of published sets: their splits are the published rows, and what is no such set is refused."""

import gzip
import json

import numpy as np
import pytest

from llmrec.data.added_parts import added_parts
from llmrec.data.click_examples import PADDING
from llmrec.data.click_files import given_click_split
from llmrec.data.folder import load_data
from llmrec.data.given_splits import find_given_split, read_split_card, read_user_tables
from llmrec.data.prepare import prepare
from llmrec.data.published import collm, microlens, tallrec
from llmrec.data.published.sets import SETS, publish
from llmrec.errors import ConfigError, DataError


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(text)


def write_lines(path, rows):
    write(path, "".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def microlens_source(tmp_path):
    """Five users of five items each, u0 with items 0..4 and so on; the last two are asked."""
    source = tmp_path / "source"
    write_lines(source / "items.jsonl.gz", [{"item_id": f"i{item}", "title": f"Video {item}"} for item in range(12)])
    events = [f"u{user}\ti{user + step}\t{step}\n" for user in range(5) for step in range(5)]
    write(source / "interactions.tsv.gz", "user_id\titem_id\tstep\n" + "".join(events))
    header = "user_id\titem_id\tlabel\n"
    rows = [
        f"u{user}\ti{user + 3}\t1\nu{user}\ti{user + 4}\t1\nu{user}\ti11\t0\nu{user}\ti10\t0\n" for user in range(5)
    ]
    write(source / "recbench_ctr" / "finetune.tsv.gz", header + "".join(rows[:3]))
    write(source / "recbench_ctr" / "test.tsv.gz", header + "".join(rows[3:]))
    write(source / "recbench_ctr" / "valid_users.txt.gz", "u1\n")
    write(source / "recbench_seq" / "finetune_users.txt.gz", "u0\nu1\nu2\nu3\n")
    write(source / "recbench_seq" / "test_users.txt.gz", "u4\n")
    return source


@pytest.fixture
def collm_source(tmp_path):
    source = tmp_path / "collm"
    write_lines(source / "items.jsonl.gz", [{"item_id": item, "title": f"Film {item}"} for item in (7, 3, 5)])
    row = {"user": 1, "item": 3, "label": 1, "timestamp": 10, "his": [0, 7]}
    other = {"user": 0, "item": 5, "label": 0, "timestamp": 20, "his": [0, 7, 3]}
    for part in ("train", "valid", "test"):
        write_lines(source / f"{part}.jsonl.gz", [row, other])
    return source


def test_rows_of_microlens_read_all_but_the_last_two_events(microlens_source, tmp_path):
    microlens.make(microlens_source, tmp_path / "data", "microlens50k", "terms")
    data = load_data(tmp_path / "data")
    split = given_click_split(data, "recbench", max_history=2)
    assert [len(split.train), len(split.valid), len(split.test)] == [8, 4, 8]
    assert set(split.valid.users) == {1} and set(split.test.users) == {3, 4}
    for rows in (split.train, split.valid, split.test):
        for user, item, label, history in zip(rows.users, rows.items, rows.labels, rows.histories, strict=True):
            assert history.tolist() == [user + 1, user + 2]  # of items user..user+4, the last two asked, two kept
            assert label == (item in (user + 3, user + 4))
    assert split.events.lengths.tolist() == [3] * 5  # what nobody asks about
    assert split.card["name"] == "recbench" and len(split.card["content"].split(", ")) == 3


def test_a_tenth_of_the_users_to_learn_from_validates(microlens_source, tmp_path):
    source = microlens_source
    events = [f"u{user}\ti{step}\t{step}\n" for user in range(24) for step in range(5)]
    write(source / "interactions.tsv.gz", "user_id\titem_id\tstep\n" + "".join(events))
    write(source / "recbench_seq" / "finetune_users.txt.gz", "\n".join(f"u{user}" for user in range(4, 24)))
    write(source / "recbench_seq" / "test_users.txt.gz", "u1\nu0\n")
    microlens.make(source, tmp_path / "data", "microlens50k", "terms")
    data = load_data(tmp_path / "data")
    users = read_user_tables(find_given_split(data, "recbench_users", "test_users.parquet"), 24)
    assert users["test"].tolist() == [0, 1] and len(users["valid"]) == 2 and len(users["train"]) == 18
    assert sorted([*users["train"], *users["valid"]]) == list(range(4, 24))


def test_files_that_do_not_belong_together_are_refused(microlens_source, tmp_path):
    write(microlens_source / "recbench_ctr" / "valid_users.txt.gz", "nobody\n")
    with pytest.raises(DataError, match=r"users that its interactions lack \(nobody\)"):
        microlens.make(microlens_source, tmp_path / "data", "microlens50k", "terms")
    write(microlens_source / "recbench_ctr" / "test.tsv.gz", "user_id\titem_id\tlabel\nu1\ti1\tyes\n")
    with pytest.raises(DataError, match="label should be 0 or 1 in every row, but there is yes"):
        microlens.make(microlens_source, tmp_path / "data", "microlens50k", "terms")
    write(microlens_source / "recbench_ctr" / "test.tsv.gz", "user_id\titem_id\tlabel\nu1\ti99\t1\n")
    with pytest.raises(DataError, match="asks about the item i99, which the items lack"):
        microlens.make(microlens_source, tmp_path / "data", "microlens50k", "terms")
    (microlens_source / "recbench_ctr" / "test.tsv.gz").unlink()
    with pytest.raises(DataError, match=r"there is no file .*test\.tsv\.gz"):
        microlens.make(microlens_source, tmp_path / "data", "microlens50k", "terms")


def test_collm_events_are_the_liked_training_rows_and_a_leading_zero_is_padding(collm_source, tmp_path):
    collm.make(collm_source, tmp_path / "data", "collm_ml1m", "terms")
    data = load_data(tmp_path / "data")
    split = given_click_split(data, "collm_ml1m", max_history=3)
    assert data.catalog.item_ids == ["7", "3", "5"]
    assert split.train.histories.tolist() == [[PADDING, PADDING, 0], [PADDING, 0, 1]]
    assert split.events.lengths.tolist() == [0, 1] and split.events.items.tolist() == [1]
    row = {"user": 1, "item": 9, "label": 1, "timestamp": 10, "his": [0]}
    write_lines(collm_source / "test.jsonl.gz", [row])
    with pytest.raises(DataError, match="names the item 9"):
        collm.make(collm_source, tmp_path / "other", "collm_ml1m", "terms")


def test_rows_of_tallrec_that_go_on_are_one_user_s_and_keep_what_was_disliked(tmp_path):
    first = {"liked": ["A", "B"], "disliked": ["C"], "target": "D", "label": 1}
    second = {"liked": ["B", "D"], "disliked": ["C"], "target": "E", "label": 0}
    other = {"liked": ["E"], "disliked": ["A", "B"], "target": "C", "label": 1}
    for part, rows in (("valid", [first, second, other, other | {"label": 0}]), ("test", [first, second])):
        write_lines(tmp_path / "source" / f"{part}.jsonl.gz", rows)
    tallrec.make(tmp_path / "source", tmp_path / "data", "tallrec_movie", "terms")
    split = given_click_split(load_data(tmp_path / "data"), "tallrec_movie", max_history=4)
    assert split.train.users.tolist() == [0, 0] and split.valid.users.tolist() == [1, 2]
    assert split.test.users.tolist() == [3, 3]
    assert split.test.histories.tolist() == [[-1, -1, 0, 1], [-1, -1, 1, 3]]
    assert split.test.disliked.tolist() == [[-1, -1, -1, 2]] * 2
    assert split.test.answered.tolist() == [3, 3] and split.test.liked.tolist() == [2, 2]
    assert split.test.take([1]).disliked.tolist() == [[-1, -1, -1, 2]]


def test_a_source_that_is_not_that_set_is_refused_and_leaves_nothing(collm_source, tmp_path):
    with pytest.raises(
        DataError, match=r"is not 'collm_ml1m': it gives 2 users, 3 items and 1 events, but that set has 839"
    ):
        publish("collm_ml1m", collm_source, tmp_path / "data")
    with pytest.raises(ConfigError, match="no published set 'collm'"):
        publish("collm", collm_source, tmp_path / "data")
    with pytest.raises(DataError, match="should be the folder of its files"):
        publish("collm_ml1m", collm_source / "items.jsonl.gz", tmp_path / "data")
    with pytest.raises(DataError, match=r"there is no file .*valid"):
        publish("tallrec_movie", tmp_path, tmp_path / "data")
    with pytest.raises(DataError, match="should have the columns liked, disliked, target, label, but lacks liked"):
        publish("tallrec_movie", collm_source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_split_stays_with_its_data_and_is_lost_only_by_force(microlens_source, tmp_path, monkeypatch):
    monkeypatch.setitem(SETS, "microlens50k", type(SETS["microlens50k"])(microlens.make, "terms", (5, 12, 25), ""))
    out = tmp_path / "data"
    publish("microlens50k", microlens_source, out)
    publish("microlens50k", microlens_source, out)  # over its own folder: the splits are made anew
    files = (microlens_source / "items.jsonl.gz", microlens_source / "interactions.tsv.gz", out)
    prepare(*files)
    assert [str(part) for part in added_parts(out)] == ["the split 'recbench'", "the split 'recbench_users'"]
    (tmp_path / "fewer.tsv").write_text("user_id\titem_id\tstep\nu0\ti1\t0\n")
    with pytest.raises(DataError, match="does not fit these: the split 'recbench', the split 'recbench_users'"):
        prepare(files[0], tmp_path / "fewer.tsv", out)
    assert len(added_parts(out)) == 2
    prepare(files[0], tmp_path / "fewer.tsv", out, force=True)
    assert not added_parts(out)
    with pytest.raises(DataError, match=r"no split 'recbench' with a table test\.parquet \(it has none\)"):
        given_click_split(load_data(out), "recbench", max_history=2)


def test_a_split_of_other_data_is_refused_when_it_is_read(microlens_source, tmp_path):
    microlens.make(microlens_source, tmp_path / "data", "microlens50k", "terms")
    data = load_data(tmp_path / "data")
    card = tmp_path / "data" / "splits" / "recbench" / "split.json"
    values = json.loads(card.read_text())
    card.write_text(json.dumps(values | {"content_hash": "0" * 16}))
    with pytest.raises(DataError, match="was made for other data"):
        given_click_split(data, "recbench", max_history=2)
    card.write_text(json.dumps(values | {"asked_events": -1}))
    with pytest.raises(DataError, match="should say asked_events"):
        read_split_card(card.parent, data)


@pytest.mark.parametrize("name", ["collm_ml1m", "tallrec_movie", "amazon14_sports"])
def test_a_published_set_is_what_it_is_known_as(name, tmp_path, bench_data):
    data = publish(name, bench_data / name, tmp_path / "data")
    assert data.card["name"] == name and data.catalog.num_untitled == 0
    with pytest.raises(DataError, match=r"no file|needs a column 'title'"):
        publish("amazon14_toys", bench_data / name, tmp_path / "data")
    assert np.diff(load_data(tmp_path / "data").interactions.indptr).max() > 0  # the older folder is as it was
