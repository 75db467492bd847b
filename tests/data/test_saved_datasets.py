import json
import shutil
import sys

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.check import check
from llmrec.data.dataset_objects import (
    catalog_from_dataset,
    catalog_to_dataset,
    interactions_from_dataset,
    interactions_to_dataset,
)
from llmrec.data.folder import load_data
from llmrec.data.prepare import prepare
from llmrec.data.readers import read_interactions, read_items
from llmrec.data.saved_datasets import read_saved_dataset
from llmrec.errors import ConfigError, DataError
from tests.apps.calling import call

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def saved(movielens, tmp_path_factory):
    """Real films and ratings of MovieLens-100K as two folders that `datasets` saved, the events in three Arrow files."""
    data, folder = load_data(movielens), tmp_path_factory.mktemp("saved")
    events = interactions_to_dataset(data.interactions, data.catalog, data.user_ids)
    catalog_to_dataset(data.catalog).save_to_disk(folder / "items")
    events.save_to_disk(folder / "events", num_shards=3)
    return folder


def test_a_saved_dataset_gives_the_data_folder_that_its_rows_give(saved, movielens, tmp_path):
    expected = load_data(movielens)
    data = prepare(saved / "items", saved / "events", tmp_path / "data")
    assert len(list((saved / "events").glob("*.arrow"))) == 3
    assert data.content_hash() == expected.content_hash() and data.interactions.num_events == 100_000


def test_a_saved_folder_is_read_as_its_own_library_reads_it(saved):
    table = read_items(saved / "items")
    assert table.to_pylist() == datasets.load_from_disk(saved / "items").to_list()


def test_columns_of_a_saved_dataset_come_in_one_piece(saved):
    """It is written a thousand rows a piece, and over pieces the ids of three million events took thirty times as long to number."""
    pieces = datasets.load_from_disk(saved / "events").data["item_id"].num_chunks
    table = read_saved_dataset(saved / "events")
    assert pieces > 50 and {column.num_chunks for column in table.columns} == {1}


def test_datasets_in_memory_go_to_our_types_and_back_unchanged(movielens):
    data = load_data(movielens)
    items = catalog_to_dataset(data.catalog)
    assert items.features["genres"] == datasets.List(datasets.Value("string"))
    catalog = catalog_from_dataset(items)
    assert catalog.content_hash == data.catalog.content_hash
    rows = interactions_to_dataset(data.interactions, data.catalog, data.user_ids)
    assert rows[0] == {
        "user_id": data.user_ids[0],
        "item_id": catalog.item_id(data.interactions.items[0]),
        "timestamp": data.interactions.times[0],
        "rating": data.interactions.ratings[0],
    }
    interactions, user_ids = interactions_from_dataset(rows, catalog)
    assert user_ids == data.user_ids
    for name in ("indptr", "items", "times", "ratings"):
        np.testing.assert_array_equal(getattr(interactions, name), getattr(data.interactions, name))


def test_a_dataset_that_was_filtered_and_shuffled_gives_its_own_rows_in_its_own_order(movielens):
    catalog = load_data(movielens).catalog
    part = catalog_to_dataset(catalog).shuffle(seed=3).select(range(5))
    assert catalog_from_dataset(part).item_ids == part["item_id"][:] != catalog.item_ids[:5]


def test_events_of_items_that_the_catalog_lacks_are_refused(movielens):
    rows = datasets.Dataset.from_dict({"user_id": ["1"], "item_id": ["no film"]})
    with pytest.raises(DataError, match="no film"):
        interactions_from_dataset(rows, load_data(movielens).catalog)


def test_labels_are_their_names_in_columns_and_in_lists(tmp_path):
    label = datasets.ClassLabel(names=["Drama", "War"])
    features = {"item_id": datasets.Value("int64"), "title": datasets.Value("string"), "kind": label}
    features |= {"genres": datasets.List(label), "vector": datasets.Array2D((1, 2), "float32")}
    columns = {"item_id": [7, 8, 9], "title": ["a", "b", "c"], "kind": [1, -1, None], "genres": [[0, 1], None, []]}
    columns |= {"vector": [[[0.5, 1.0]]] * 3}
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).save_to_disk(tmp_path / "items")
    table = read_items(tmp_path / "items")
    assert table["kind"].to_pylist() == ["War", None, None]
    assert table["genres"].to_pylist() == [["Drama", "War"], None, []]
    assert Catalog(table).item_ids == ["7", "8", "9"]


def test_without_the_package_saved_folders_are_read_and_the_hub_is_refused_in_words(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # importing it fails
    assert read_items(saved / "items").num_rows == 1682
    with pytest.raises(ConfigError, match=r"pip install 'llmrec\[datasets\]'"):
        read_items("hf:owner/name")


def test_of_several_splits_one_has_to_be_named(saved, tmp_path):
    items = datasets.load_from_disk(saved / "items")
    datasets.DatasetDict({"train": items, "test": items.select([0])}).save_to_disk(tmp_path / "both")
    datasets.DatasetDict({"train": items}).save_to_disk(tmp_path / "one")
    with pytest.raises(DataError, match="2 splits: train, test"):
        read_items(tmp_path / "both")
    assert read_items(tmp_path / "both" / "test").num_rows == 1
    assert read_items(tmp_path / "one").num_rows == items.num_rows


def test_images_in_a_dataset_are_refused_by_name(tmp_path):
    from PIL import Image

    features = {"item_id": datasets.Value("string"), "title": datasets.Value("string"), "poster": datasets.Image()}
    rows = {"item_id": ["1"], "title": ["a"], "poster": [Image.new("RGB", (4, 4))]}
    datasets.Dataset.from_dict(rows, features=datasets.Features(features)).save_to_disk(tmp_path / "items")
    with pytest.raises(DataError, match=r"'poster' holds data of the kind Image.*remove_columns"):
        read_items(tmp_path / "items")


def changed(saved, tmp_path, **state):
    folder = tmp_path / "changed"
    shutil.copytree(saved / "items", folder)
    said = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(said | state))
    return folder


@pytest.mark.parametrize("name", ["../items/data-00000-of-00001.arrow", "/etc/passwd", "..", "a\0b", 7, None])
def test_no_file_outside_the_folder_is_opened(saved, tmp_path, name):
    with pytest.raises(DataError, match="in that folder"):
        read_items(changed(saved, tmp_path, _data_files=[{"filename": name}]))


def test_a_pickled_type_is_refused_and_nothing_is_unpickled(saved, tmp_path):
    folder = changed(saved, tmp_path)
    file = next(folder.glob("*.arrow"))
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "opened").encode() + b"'\ntR."
    extension = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": bomb}
    schema = pa.schema([("item_id", pa.string()), pa.field("title", pa.string(), metadata=extension)])
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        stream.write_table(pa.table([["1"], ["a"]], schema=schema))
    with pytest.raises(DataError, match="pickled type"):
        read_items(folder)
    assert not (tmp_path / "opened").exists()


def test_what_is_no_saved_dataset_is_refused_in_words(saved, movielens, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no dataset that dataset\.save_to_disk has written"):
        read_items(tmp_path / "empty")
    with pytest.raises(DataError, match="prepared data folder already"):
        read_items(movielens)
    with pytest.raises(DataError, match="old version of datasets"):
        read_items(changed(saved, tmp_path, _indices_data_files=[{"filename": "indices.arrow"}]))
    next((tmp_path / "changed").glob("*.arrow")).unlink()
    shutil.copy(saved / "items" / "state.json", tmp_path / "changed")
    report = check(tmp_path / "changed", saved / "events")
    assert not report["ok"] and "there is no file" in report["problems"][0]["message"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("hf:", "is written hf:owner/name"),
        ("hf:owner/name?split", "is written hf:owner/name"),
        ("hf:owner/name?split=", "is written hf:owner/name"),
        ("hf:owner/name?revision=main", "is written hf:owner/name"),
        ("hf:owner/name?split=a&split=b", "is written hf:owner/name"),
        ("hf:../secret", "is written hf:owner/name"),
    ],
)
def test_a_hub_dataset_that_is_written_wrongly_is_refused_before_the_network(source, sentence):
    with pytest.raises(DataError, match=sentence):
        read_items(source)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network is asked; `datasets` finds folders owner/name below the working folder, as it does before it asks the hub."""
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_hub_dataset_that_cannot_be_reached_is_one_sentence(offline):
    with pytest.raises(DataError, match=r"'hf:owner/name' .*Check the name and the network\.") as error:
        read_items("hf:owner/name")
    assert "\n" not in str(error.value)


def test_a_repository_of_tables_is_read_by_split_and_configuration(offline, movielens, capsys):
    data = load_data(movielens)
    rows = interactions_to_dataset(data.interactions, data.catalog, data.user_ids)
    repository = offline / "owner" / "films"
    repository.mkdir(parents=True)
    catalog_to_dataset(data.catalog).to_parquet(repository / "items.parquet")
    rows.select(range(900)).to_parquet(repository / "train.parquet")
    rows.select(range(900, 1000)).to_parquet(repository / "test.parquet")
    (repository / "README.md").write_text(
        "---\nconfigs:\n- config_name: items\n  data_files: items.parquet\n- config_name: events\n  data_files:\n"
        "  - split: train\n    path: train.parquet\n  - split: test\n    path: test.parquet\n---\n"
    )
    items = "hf:owner/films?config=items"
    events = "hf:owner/films?config=events"
    made = call(capsys, "data", "prepare", "--items", items, "--interactions", f"{events}&split=test", "--out", "mine")
    assert made.status == 0, made.err
    mine = load_data("mine")
    assert mine.interactions.num_events == 100 and mine.catalog.content_hash == data.catalog.content_hash
    assert mine.card["sources"]["items"] == items
    with pytest.raises(DataError, match=r"2 splits: train, test.*config=events&split=train"):
        read_interactions(events)
    with pytest.raises(DataError, match="no split 'valid'"):
        read_interactions("hf:owner/films?config=events&split=valid")
    with pytest.raises(DataError, match=r"items.*events"):  # which configurations there are
        read_interactions("hf:owner/films")
