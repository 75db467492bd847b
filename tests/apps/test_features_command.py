"""`llmrec features` on real films with real posters."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import Data, load_data, save_data
from llmrec.data.interactions import Interactions
from tests.apps.calling import assert_one_sentence, call
from tests.backbones.vision_folders import save_vision_model


@pytest.fixture
def films(bench_data, tmp_path, monkeypatch) -> Data:
    """The first 12 films of MovieLens with their posters, the last without; one event."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    import gzip

    source, folder = bench_data / "ml100k_posters", tmp_path / "films"
    (folder / "images").mkdir(parents=True)
    with gzip.open(source / "items.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(next(lines)) for _ in range(12)]
    for row in rows[:-1]:
        shutil.copy(source / row["image"], folder / row["image"])
    rows[-1]["image"] = None
    events = Interactions(np.array([0, 1]), np.array([0], np.int32), 12)
    save_data(Data(Catalog.from_rows(rows), events, Features(12), ["u"], {}, folder), folder)
    return load_data(folder)


def test_a_matrix_of_ones_own_is_added_and_listed(capsys, films, tmp_path):
    np.save(tmp_path / "a.npy", np.arange(24).reshape(12, 2))
    pq.write_table(pa.table({"item_id": films.catalog.item_ids[:3], "x": [1.0, 2, 3]}), tmp_path / "b.parquet")
    added = call(
        capsys,
        "features",
        films.folder,
        "--add",
        f"colours={tmp_path / 'a.npy'}",
        "--add",
        f"b={tmp_path / 'b.parquet'}",
    )
    assert added.out == (
        "Added 'colours': 2 numbers for 12 of 12 items, from a.npy.\nAdded 'b': 1 numbers for 3 of 12 items, from b.parquet.\n"
    )
    stored = load_data(films.folder).features
    assert stored["b"][:4].tolist() == [[1], [2], [3], [0]] and stored.present["b"].sum() == 3
    listed = call(capsys, "features", films.folder, "--json").json
    assert listed["features"] == [
        {"name": "b", "width": 1, "present": 3, "from": "b.parquet"},
        {"name": "colours", "width": 2, "present": 12, "from": "a.npy"},
    ]
    assert [(row["name"], row["items"], row["encoded"]) for row in listed["encoders"]] == [
        ("text", 12, 0),
        ("image", 11, 0),
    ]
    again = call(capsys, "features", films.folder, "--add", f"colours={tmp_path / 'a.npy'}", "--json").json
    assert again["added"][0]["replaced"] is True
    shown = call(capsys, "features", films.folder).out
    assert "colours" in shown and "b.parquet" in shown and "efficientnet-lite0" in shown


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (np.ones((11, 2)), "one row for each of the 12 items, but their shape is (11, 2)"),
        (np.full((12, 2), np.nan), "finite, but 12 items have NaN or infinity"),
        (np.array([[None]] * 12, dtype=object), "not as Python objects"),
        (pa.table({"item_id": ["1", "1"], "x": [1, 2]}), "1 ids more than once"),
        (pa.table({"item_id": ["nobody"], "x": [1]}), "1 ids that are not in the catalog (the first is 'nobody'"),
    ],
)
def test_what_does_not_fit_leaves_everything_as_it_was(capsys, films, tmp_path, content, sentence):
    good = tmp_path / "good.npy"
    np.save(good, np.ones((12, 3)))
    call(capsys, "features", films.folder, "--add", f"old={good}")
    before = {path.name: path.read_bytes() for path in (films.folder / "features").iterdir()}
    bad = tmp_path / ("bad.npy" if isinstance(content, np.ndarray) else "bad.parquet")
    if isinstance(content, np.ndarray):
        np.save(bad, content, allow_pickle=True)
    else:
        pq.write_table(content, bad)
    refused = call(capsys, "features", films.folder, "--add", f"new={good}", "--add", f"old={bad}")
    assert_one_sentence(refused, sentence)
    assert {path.name: path.read_bytes() for path in (films.folder / "features").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--add", "mine"], "--add is written NAME=FILE"),
        (
            ["--add", "image=x.npy"],
            "the features 'image' are encoded from the catalogue's images. Choose another name",
        ),
        (["--add", "collaborative=x.npy"], "the features 'collaborative' are fitted to the events that a split allows"),
        (["--add", "../x=x.npy"], "there is no file 'x.npy'"),
        (["--encode", "sound"], "--encode makes text or image, but it came as 'sound'"),
        (["--encoder", "x"], "--encoder belongs to one --encode"),
        (["--encode", "text", "--encode", "image", "--encoder", "x"], "--encoder belongs to one --encode"),
        (["--encode", "image", "--field", "title"], "--field chooses what is encoded as text"),
        (["--encode", "image", "--on-broken", "mend"], "--on-broken is 'skip' or 'fail'"),
        (["--encode", "text", "--field", "smell"], "the catalog has no column 'smell'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(capsys, films, arguments, sentence):
    assert_one_sentence(call(capsys, "features", films.folder, *arguments), sentence)
    assert not (films.folder / "features").exists()


def test_images_and_texts_are_encoded_ahead_and_found_again(capsys, films, tmp_path):
    model = save_vision_model("convnext", tmp_path / "model")
    made = call(capsys, "features", films.folder, "--encode", "image", "--encoder", model, "--json").json["encoded"][0]
    assert (made["name"], made["width"], made["present"], made["encoder"]) == ("image", 16, 11, model)
    said = call(capsys, "features", films.folder, "--encode", "text", "--encode", "image")
    assert "Encoded 'text': 384 numbers for 12 of 12 items, by all-MiniLM-L6-v2 in" in said.out
    assert "Encoded 'image': 1,280 numbers for 11 of 12 items, by efficientnet-lite0 in" in said.out
    assert [row["encoded"] for row in call(capsys, "features", films.folder, "--json").json["encoders"]] == [12, 11]


def test_broken_posters_are_skipped_or_fail_as_asked(capsys, films, tmp_path):
    model = save_vision_model("convnext", tmp_path / "model")
    (films.folder / films.catalog.text(4, "image")).write_bytes(b"\xff\xd8\xff\xe0 cut")
    skipped = call(capsys, "features", films.folder, "--encode", "image", "--encoder", model, "--json")
    assert skipped.json["encoded"][0]["present"] == 10
    failed = call(capsys, "features", films.folder, "--encode", "image", "--encoder", model, "--on-broken", "fail")
    assert_one_sentence(failed, f"the image of item '{films.catalog.item_id(4)}'")
