import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from llmrec.data.added_parts import added_parts
from llmrec.data.check import check
from llmrec.data.features import Features
from llmrec.data.folder import load_data
from llmrec.data.prepare import prepare
from llmrec.enrich.generated_texts import GeneratedTexts, load_generated_texts
from llmrec.errors import ConfigError, DataError, LlmrecError
from llmrec.files import unfinished, write_json
from llmrec.items.codes_folder import codes_of, find_codes
from llmrec.items.semantic_ids import SemanticIDs

ITEMS = "item_id,title\na,Alien\nb,Brazil\nc,Casablanca\n"
EVENTS = "user_id,item_id,rating,timestamp\nu2,b,5,20\nu1,a,4,10\nu2,a,2,20\nu1,c,5,5\nu2,c,4,10\n"


def write_files(folder: Path, items: str = ITEMS, events: str = EVENTS) -> tuple[Path, Path]:
    (folder / "items.csv").write_text(items)
    (folder / "events.csv").write_text(events)
    return folder / "items.csv", folder / "events.csv"


def sequences(data) -> list[list[int]]:
    return [row.tolist() for row in data.interactions.histories]


def read_as_the_reference_does(folder: Path) -> list[list[int]]:
    """By user in order of appearance, a stable sort by time or step: events of one second keep the file's order."""
    with gzip.open(folder / "items.jsonl.gz", "rt") as file:
        index = {json.loads(line)["item_id"]: item for item, line in enumerate(file)}
    users = {}
    with gzip.open(folder / "interactions.tsv.gz", "rt") as file:
        header = file.readline().rstrip("\n").split("\t")
        for line in file:
            row = dict(zip(header, line.rstrip("\n").split("\t"), strict=True))
            time = int(row.get("timestamp") or row["step"])
            users.setdefault(row["user_id"], []).append((time, index[row["item_id"]]))
    return [[item for _, item in sorted(events, key=lambda event: event[0])] for events in users.values()]


def test_events_go_by_user_and_time_and_ties_keep_the_files_order(tmp_path):
    data = prepare(*write_files(tmp_path), tmp_path / "out")
    assert data.user_ids == ["u2", "u1"]
    assert sequences(data) == [[2, 1, 0], [2, 0]]
    assert data.interactions.times.tolist() == [10, 20, 20, 5, 10]
    assert data.interactions.ratings.tolist() == [4, 5, 2, 5, 4]
    assert data.card["ties"] == {"policy": "file"} and data.card["ratings"] == {"policy": "all"}
    assert data.card["counts"]["tied_events"] == 1 and data.card["counts"]["users_with_tied_last_event"] == 1
    assert data.card["sources"] == {"items": "items.csv", "interactions": "events.csv"} and data.card["name"] == "out"
    assert sequences(load_data(tmp_path / "out")) == sequences(data)


def test_the_same_files_give_the_same_content_hash_and_other_settings_another(tmp_path):
    files = write_files(tmp_path)
    hashes = [prepare(*files, tmp_path / out).card["content_hash"] for out in ("one", "two")]
    other = prepare(*files, tmp_path / "three", rating_threshold=4).card["content_hash"]
    assert hashes[0] == hashes[1] != other


@pytest.mark.parametrize("name", ["amazon14_beauty", "ml100k_posters", "microlens50k"])
def test_real_sets_have_exactly_the_reference_sequences(bench_data, tmp_path, name):
    folder = bench_data / name
    data = prepare(folder / "items.jsonl.gz", folder / "interactions.tsv.gz", tmp_path / "out")
    assert sequences(data) == read_as_the_reference_does(folder)
    assert (data.interactions.times is None) == (name != "ml100k_posters")


def test_shuffled_ties_move_nothing_but_ties_and_repeat_by_seed(bench_data, tmp_path):
    folder = bench_data / "amazon14_beauty_ts"
    files = folder / "items.jsonl.gz", folder / "interactions.tsv.gz"
    kept = prepare(*files, tmp_path / "file")
    shuffled = [prepare(*files, tmp_path / "s", ties="shuffle", seed=seed) for seed in (1, 1, 2)]
    first, again, other = (data.interactions for data in shuffled)
    assert (first.items == again.items).all() and (first.items != other.items).any()
    assert (first.times == kept.interactions.times).all() and shuffled[0].card["ties"] == {
        "policy": "shuffle",
        "seed": 1,
    }
    for now in (first, other):
        moved = now.items != kept.interactions.items
        alone = np.ones(now.num_events, bool)
        same = np.flatnonzero(np.diff(now.times) == 0)
        alone[same] = alone[same + 1] = False
        assert not moved[alone].any() and 0.2 < moved.mean() < 0.5
        assert (np.sort(now.items) == np.sort(kept.interactions.items)).all()


def test_a_rating_threshold_keeps_positives_and_the_images_come_along(bench_data, tmp_path):
    folder = bench_data / "ml100k_posters"
    files = folder / "items.jsonl.gz", folder / "interactions.tsv.gz"
    data = prepare(*files, tmp_path / "out", rating_threshold=4)
    assert (data.interactions.ratings >= 4).all() and data.interactions.num_events == 55_375
    assert data.card["counts"]["dropped_events"] == {"unknown_item": 0, "rating": 44_625}
    assert data.interactions.num_users == 942 and data.catalog.num_items == 1682
    images = [path for path in data.catalog.table["image"].to_pylist() if path]
    assert len(images) == data.card["counts"]["images"] == 1127
    assert all((data.folder / path).read_bytes() == (folder / path).read_bytes() for path in images[:20])


def test_keywords_may_serve_as_titles(bench_data, tmp_path):
    folder = bench_data / "amazon14_sports"
    files = folder / "items.jsonl.gz", folder / "interactions.tsv.gz"
    with pytest.raises(DataError, match=r"needs a column 'title', but has only: item_id, keywords"):
        prepare(*files, tmp_path / "out")
    data = prepare(*files, tmp_path / "out", title_column="keywords")
    assert (data.catalog.num_items, data.interactions.num_events) == (18_357, 296_337)
    assert data.catalog.fields == ["title"] and data.catalog.num_untitled == 0


def test_unknown_items_stop_it_or_are_left_out_and_counted(tmp_path):
    files = write_files(tmp_path, events=EVENTS + "u3,brazli,3,1\nu3,b,3,2\n")
    files[0].write_text(ITEMS.replace("b,", "brazil,"))
    files[1].write_text(files[1].read_text().replace(",b,", ",brazil,"))
    sentence = r"1 of 7 interactions are with 1 item ids that the items lack, such as 'brazli' \(nearest: 'brazil'"
    with pytest.raises(DataError, match=sentence):
        prepare(*files, tmp_path / "out")
    data = prepare(*files, tmp_path / "out", drop_unknown=True)
    assert data.card["counts"]["dropped_events"] == {"unknown_item": 1} and sequences(data)[2] == [1]


def test_users_with_few_events_may_be_left_out(tmp_path):
    data = prepare(*write_files(tmp_path), tmp_path / "out", min_user_events=3)
    assert data.user_ids == ["u2"] and data.card["counts"]["dropped_events"]["user_with_few_events"] == 2


def test_without_times_the_files_order_counts_and_a_step_orders(tmp_path):
    plain = prepare(*write_files(tmp_path, events="user,item\nu,b\nv,a\nu,a\nu,c\n"), tmp_path / "plain")
    assert sequences(plain) == [[1, 0, 2], [0]] and plain.interactions.times is None and plain.card["order"] == "file"
    steps = prepare(*write_files(tmp_path, events="user,item,step\nu,b,2\nu,a,0\nu,c,1\n"), tmp_path / "steps")
    assert sequences(steps) == [[0, 2, 1]] and steps.interactions.times is None and steps.card["order"] == "step"
    with pytest.raises(DataError, match="has only a step, which is an order and no time"):
        prepare(tmp_path / "items.csv", tmp_path / "events.csv", tmp_path / "out", ties="shuffle")


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"ties": "shuffle", "seed": -1}, ConfigError, "a seed is 0 or more, but it is -1"),
        ({"ties": "random"}, ConfigError, "ties should be 'file' or 'shuffle', but they are 'random'"),
        ({"rating_threshold": 6}, DataError, r"none of 5 interactions is left \(dropped: 5 by rating\)"),
        ({"min_user_events": 9}, DataError, "none of 5 interactions is left"),
        ({"columns": {"timestamp": "when"}}, DataError, "no column 'when' to use as timestamp"),
    ],
)
def test_settings_that_cannot_work_are_refused_and_leave_nothing(tmp_path, settings, error, sentence):
    files = write_files(tmp_path)
    with pytest.raises(error, match=sentence):
        prepare(*files, tmp_path / "out", **settings)
    assert sorted(os.listdir(tmp_path)) == ["events.csv", "items.csv"]


def test_a_threshold_without_ratings_is_refused(tmp_path):
    files = write_files(tmp_path, events="user,item\nu,a\n")
    with pytest.raises(DataError, match="has no rating column, so a rating threshold of 4"):
        prepare(*files, tmp_path / "out", rating_threshold=4)


def test_a_folder_of_the_users_is_never_touched(tmp_path):
    files = write_files(tmp_path)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    for out in (tmp_path / "thesis", tmp_path):
        with pytest.raises(DataError, match=r"nothing of it will be deleted. Name a new folder"):
            prepare(*files, out)
    with pytest.raises(DataError, match="is a file, but a folder will be written there"):
        prepare(*files, files[0])
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"
    prepare(*files, tmp_path / "data")
    (tmp_path / "data" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"did not write \(notes.txt\)"):
        prepare(*files, tmp_path / "data")
    assert (tmp_path / "data" / "notes.txt").read_text() == "mine"


def test_an_older_data_folder_is_replaced_and_kept_when_the_new_one_fails(tmp_path):
    files = write_files(tmp_path)
    before = prepare(*files, tmp_path / "out").card["content_hash"]
    files[1].write_text(EVENTS + "u9,zzz,1,1\n")
    with pytest.raises(DataError):
        prepare(*files, tmp_path / "out")
    assert load_data(tmp_path / "out").card["content_hash"] == before
    files[1].write_text(EVENTS + "u9,a,1,1\n")
    assert prepare(*files, tmp_path / "out").card["content_hash"] != before
    assert sorted(os.listdir(tmp_path)) == ["events.csv", "items.csv", "out"]


def test_an_unwritable_location_is_refused_in_words(tmp_path):
    files = write_files(tmp_path)
    with pytest.raises(LlmrecError, match=r"cannot write '.*': a file lies where a folder should be"):
        prepare(*files, files[0] / "inside" / "out")
    assert sorted(os.listdir(tmp_path)) == ["events.csv", "items.csv"]


def test_images_outside_the_root_are_not_copied_and_lost_ones_are_null(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"s")
    (tmp_path / "shop" / "pics").mkdir(parents=True)
    (tmp_path / "shop" / "pics" / "a.png").write_bytes(b"a")
    items = "item_id,title,image\na,A,pics/a.png\nb,B,../secret.png\nc,C,lost.png\n"
    files = write_files(tmp_path, items=items)
    data = prepare(*files, tmp_path / "out", image_root=tmp_path / "shop")
    assert data.catalog.table["image"].to_pylist() == ["images/pics/a.png", None, None]
    assert (tmp_path / "out" / "images" / "pics" / "a.png").read_bytes() == b"a"
    with pytest.raises(DataError, match=r"the items name 3 image files, but none of them lies under .* --image-root"):
        prepare(*files, tmp_path / "other", image_root=tmp_path / "out")
    assert not (tmp_path / "other").exists()
    files = write_files(tmp_path, items="item_id,title,image\na,A,https://x/a.png\nb,B,\nc,C,\n")
    assert prepare(*files, tmp_path / "urls").card["counts"]["images"] == 0


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"not a prepared data folder \(no such folder\).*llmrec data prepare"):
        load_data(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"not a prepared data folder \(it has no data.json\)"):
        load_data(tmp_path)
    prepare(*write_files(tmp_path), tmp_path / "out")
    events = tmp_path / "out" / "interactions.parquet"
    whole = events.read_bytes()
    events.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="could not be read as a table of a data folder"):
        load_data(tmp_path / "out")
    card = json.loads((tmp_path / "out" / "data.json").read_text())
    (tmp_path / "out" / "data.json").write_text(json.dumps(card | {"format_version": 99}))
    with pytest.raises(DataError, match="format version 99, but this llmrec reads 1"):
        load_data(tmp_path / "out")
    (tmp_path / "out" / "data.json").write_text("{")
    with pytest.raises(DataError, match="is not valid JSON"):
        load_data(tmp_path / "out")


def test_features_added_to_the_folder_come_back(tmp_path):
    data = prepare(*write_files(tmp_path), tmp_path / "out")
    data.features.add("text", np.eye(3))
    data.features.save(data.folder / "features")
    assert load_data(tmp_path / "out").features["text"].tolist() == np.eye(3).tolist()
    prepare(*write_files(tmp_path), tmp_path / "out")  # still a folder of ours


def test_check_says_all_that_stops_prepare_and_what_does_not(tmp_path):
    report = check(*write_files(tmp_path))
    assert report["ok"] and report["problems"] == []
    assert report["counts"] == {
        "items": 3, "events": 5, "users": 2, "tied_events": 1, "users_with_tied_last_event": 1
    }  # fmt: skip
    warnings = " ".join(entry["message"] for entry in report["warnings"])
    assert "1 interactions (20 %) are at the time" in warnings and "1 users have fewer than 3" in warnings
    report = check(*write_files(tmp_path, events=EVENTS + "u1,zz,1,1\nu1,yy,1,1\nu1,zz,1,2\n"))
    assert (
        not report["ok"] and report["problems"][0]["count"] == 3 and report["problems"][0]["examples"] == ["zz", "yy"]
    )
    report = check(*write_files(tmp_path, items="item_id,name\na,A\na,B\n", events="user,time\n1,2\n"))
    messages = [entry["message"] for entry in report["problems"]]
    assert len(messages) == 2 and "'a' (2 times)" in messages[0] and "needs a column 'item_id'" in messages[1]


def test_check_of_a_real_set_finds_its_ties(bench_data):
    folder = bench_data / "amazon14_beauty_ts"
    report = check(folder / "items.jsonl.gz", folder / "interactions.tsv.gz")
    assert report["ok"] and report["counts"]["users_with_tied_last_event"] == 9704
    assert any(
        "9704 users (43 %) have a last event, the test target" in entry["message"] for entry in report["warnings"]
    )


MORE_ITEMS = ITEMS + "d,Dune\n"
TEXTS = {"format_version": 1, "settings": {"keep_flagged": False}}


def with_added_parts(data) -> None:
    """What `features`, `tokenize` and `enrich` add to a data folder, for these data."""
    folder, catalog = data.folder, data.catalog
    features = Features(catalog.num_items)
    features.add("sound", np.eye(catalog.num_items, 2))
    features.save(folder / "features")
    write_json(folder / "features" / "sound.json", {"from": "sound.npy"})
    codes = np.arange(catalog.num_items, dtype=np.int32)[:, None]
    card = {"catalog_hash": catalog.content_hash}
    SemanticIDs(codes, (8,), card=card).save(folder / "semantic_ids" / "mine")
    written = {0: ("about it", "ok")}
    GeneratedTexts.of(
        catalog.num_items, written, TEXTS | card | {"about": "items", "num_rows": catalog.num_items}
    ).save(folder / "generated_texts" / "films")
    GeneratedTexts.of(2, written, TEXTS | {"about": "users", "num_rows": 2, "content_hash": data.content_hash()}).save(
        folder / "generated_texts" / "people"
    )


def names_of_added(folder: Path) -> list[str]:
    return [str(part) for part in added_parts(folder)]


ALL_ADDED = ["features 'sound'", "semantic ids 'mine'", "generated texts 'films'", "generated texts 'people'"]


def test_preparing_the_same_data_again_keeps_all_that_was_added_to_them(tmp_path):
    out = tmp_path / "out"
    with_added_parts(prepare(*write_files(tmp_path), out))
    assert names_of_added(out) == ALL_ADDED
    data = prepare(*write_files(tmp_path), out, name="renamed")
    assert data.card["name"] == "renamed" and names_of_added(out) == ALL_ADDED
    assert data.features["sound"].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert (out / "features" / "sound.json").is_file()
    assert codes_of(out / "semantic_ids" / "mine", data).codes.tolist() == [[0], [1], [2]]
    assert load_generated_texts(data, "films").texts[0] == "about it"
    assert load_generated_texts(data, "people", about="users").texts[0] == "about it"


def test_what_a_killed_command_had_moved_away_is_found_before_a_folder_is_listed(tmp_path):
    """As on file systems that cannot exchange two folders, between the two steps of replacing one."""
    out = tmp_path / "out"
    with_added_parts(prepare(*write_files(tmp_path), out))
    moved = [out / "semantic_ids" / "mine", out / "generated_texts" / "films", out / "generated_texts" / "people"]

    def move_away() -> None:
        for folder in moved:
            folder.rename(folder.with_name(f".{folder.name}.4194305-00000000.old"))

    move_away()
    assert names_of_added(out) == ALL_ADDED
    move_away()
    assert find_codes(None, load_data(out)).num_items == 3
    assert load_generated_texts(load_data(out), None).texts[0] == "about it"
    move_away()
    prepare(*write_files(tmp_path), out)
    assert names_of_added(out) == ALL_ADDED


@pytest.mark.parametrize(
    ("items", "events", "lost"),
    [
        (ITEMS, EVENTS + "u3,a,5,1\n", ["generated texts 'people'"]),
        (MORE_ITEMS, EVENTS, ["features 'sound'", "semantic ids 'mine'", "generated texts 'people'"]),
        (ITEMS.replace("Alien", "Aliens"), EVENTS, ["semantic ids 'mine'", "generated texts 'films'", "generated texts 'people'"]),
        ("item_id,title\nb,Brazil\na,Alien\nc,Casablanca\n", EVENTS, ALL_ADDED),
    ],
    ids=["more events", "more items", "another title", "another order"],
)  # fmt: skip
def test_what_does_not_fit_the_new_data_is_never_lost_in_silence(tmp_path, items, events, lost):
    out = tmp_path / "out"
    before = prepare(*write_files(tmp_path), out)
    with_added_parts(before)
    files = write_files(tmp_path, items, events)
    with pytest.raises(DataError, match=r"does not fit these: .*give --force to lose them") as refused:
        prepare(*files, out)
    assert [name for name in ALL_ADDED if name in str(refused.value)] == lost
    assert names_of_added(out) == ALL_ADDED and load_data(out).content_hash() == before.content_hash()
    data = prepare(*files, out, force=True)
    assert names_of_added(out) == [name for name in ALL_ADDED if name not in lost]
    assert data.content_hash() != before.content_hash() and not unfinished(tmp_path)


def test_parts_that_cannot_be_read_are_not_lost_in_silence_either(tmp_path):
    out = tmp_path / "out"
    with_added_parts(prepare(*write_files(tmp_path), out))
    (out / "generated_texts" / "films" / "card.json").write_text("{")
    (out / "semantic_ids" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"does not fit these: semantic ids 'notes.txt', generated texts 'films'\."):
        prepare(*write_files(tmp_path), out)


def test_what_a_killed_command_left_in_the_folder_bars_nobodys_way(tmp_path):
    out = tmp_path / "out"
    prepare(*write_files(tmp_path), out)
    for left in (out / ".data.json.7-0123abcd.tmp", out / "semantic_ids" / ".mine.7-0123abcd.tmp"):
        left.mkdir(parents=True)
    prepare(*write_files(tmp_path), out)
    assert not list(out.rglob(".*"))
