"""A user's own matrix: rows find their items, and what does not fit is refused in one sentence."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from llmrec.data.catalog import Catalog
from llmrec.data.feature_files import read_features
from llmrec.data.features import Features
from llmrec.errors import DataError

CATALOG = Catalog.from_rows([{"item_id": item_id, "title": "t"} for item_id in ("007", "b", "c")])
ROWS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def test_arrays_stand_in_the_order_of_the_catalogue(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)
    save_file({"anything": ROWS.astype(np.float16)}, tmp_path / "b.safetensors")
    for file in ("a.npy", "b.safetensors"):
        found = read_features("mine", tmp_path / file, CATALOG)
        assert (
            found["mine"].tolist() == ROWS.tolist()
            and found["mine"].dtype == np.float32
            and found.present["mine"].all()
        )


def test_what_features_save_wrote_is_read_with_its_presence(tmp_path):
    features = Features(3)
    features.add("x", ROWS, np.array([True, False, True]))
    features.save(tmp_path)
    found = read_features("mine", tmp_path / "x.safetensors", CATALOG)
    assert found.present["mine"].tolist() == [True, False, True] and (found["mine"] == features["x"]).all()


@pytest.mark.parametrize("kind", ["csv", "wide", "lists", "fixed", "jsonl"])
def test_rows_of_a_table_find_their_items_and_the_others_are_absent(tmp_path, kind):
    path = tmp_path / ("a.csv" if kind == "csv" else "a.jsonl" if kind == "jsonl" else "a.parquet")
    ids, vectors = ["c", "007"], [[5.0, 6.0], [1.0, 2.0]]
    if kind == "csv":
        path.write_text("x,item_id,y\n5,c,6.0\n1e0,007,2\n")
    elif kind == "jsonl":
        path.write_text('{"item_id": "c", "v": [5, 6]}\n{"item_id": "007", "v": [1, 2.0]}\n')
    elif kind == "wide":
        pq.write_table(pa.table({"x": [5, 1], "item_id": pa.array(ids).dictionary_encode(), "y": [6.0, 2.0]}), path)
    else:
        of = pa.list_(pa.float32(), 2) if kind == "fixed" else pa.list_(pa.float32())
        pq.write_table(pa.table({"item_id": ids, "vector": pa.array(vectors, of)}), path)
    found = read_features("mine", path, CATALOG)
    assert found["mine"].tolist() == [[1, 2], [0, 0], [5, 6]]
    assert found.present["mine"].tolist() == [True, False, True]


def test_whole_numbers_are_ids_too(tmp_path):
    catalog = Catalog.from_rows([{"item_id": str(number), "title": "t"} for number in (10, 20)])
    pq.write_table(pa.table({"item_id": [20], "x": [1.5]}), tmp_path / "a.parquet")
    assert read_features("mine", tmp_path / "a.parquet", catalog)["mine"].tolist() == [[0], [1.5]]


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (ROWS[:2], "one row for each of the 3 items, but their shape is"),
        (ROWS[0], "one row for each of the 3 items"),
        (np.where(ROWS == 3, np.nan, ROWS), "finite, but 1 items have NaN or infinity"),
        (ROWS * 1e300, "finite, but 3 items have NaN or infinity"),
        (np.array([["a"], ["b"], ["c"]]), "should hold numbers, but it holds <U1"),
        (np.array([[1j], [1j], [1j]]), "should hold numbers, but it holds complex128"),
        (np.array([[1], ["a"], [None]], dtype=object), "Object arrays .* as numbers and not as Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, array, sentence):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=sentence):
        read_features("mine", tmp_path / "a.npy", CATALOG)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("item_id,x\n007,1\nz,2\nbb,3\n", "2 ids that are not in the catalog .the first is 'z'; the nearest known: "),
        ("item_id,x\n007,1\nb,2\n007,3\n", "1 ids more than once .the first is '007'."),
        ("item_id,x\n007,1\nb,\n", "empty, NaN or infinite values in 1 rows .the first is item 'b'."),
        ("item_id,x\n007,1\nb,inf\n", "empty, NaN or infinite values in 1 rows"),
        (
            "item_id,x\n007,1\nb,red\n",
            "could not be read as a table of numbers in the column 'x': .* Remove or convert that column",
        ),
        ("id,x\n007,1\n", "needs a column item_id and the numbers next to it, but has: id, x"),
        ("item_id\n007\n", "needs a column item_id and the numbers next to it"),
        ("item_id,x\n", "has a header but no rows"),
        ("item_id,x\n,1\n", "item_id is missing .empty or NaN. in 1 of 1 rows"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, text, sentence):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_features("mine", tmp_path / "a.csv", CATALOG)


def test_lists_of_unequal_length_and_lists_next_to_numbers_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"item_id": ["b", "c"], "v": [[1.0, 2.0], [3.0]]}), path)
    with pytest.raises(
        DataError, match="every list in 'v' should have the same number of numbers, but they have from 1 to 2"
    ):
        read_features("mine", path, CATALOG)
    pq.write_table(pa.table({"item_id": ["b", "c"], "v": [[1.0, 2.0], None]}), path)
    with pytest.raises(DataError, match="from 0 to 2"):
        read_features("mine", path, CATALOG)
    pq.write_table(pa.table({"item_id": ["b", "c"], "v": [[1.0, None], [2.0, 3.0]]}), path)
    with pytest.raises(DataError, match="empty, NaN or infinite values in 1 rows"):
        read_features("mine", path, CATALOG)
    pq.write_table(pa.table({"item_id": ["b"], "v": [[1.0]], "x": [1.0]}), path)
    with pytest.raises(DataError, match="has both: v, x"):
        read_features("mine", path, CATALOG)


def test_files_that_are_missing_broken_or_of_another_kind_are_refused(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'")
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 40)
    for number, header in enumerate(
        ("(" * 200, "{'descr': '<f4', 'fortran_order': False, 'shape': (10**15,)}", "{1: 2}", "[")
    ):
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        (tmp_path / f"header{number}.npy").write_bytes(content)
    (tmp_path / "a.bin").write_bytes(b"1")
    np.savez(tmp_path / "b.npz", a=ROWS)
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    save_torch({"a": torch.ones(3, 2), "b": torch.ones(3, 2)}, tmp_path / "two.safetensors")
    save_torch({"a": torch.ones(3, 2, dtype=torch.bfloat16)}, tmp_path / "half.safetensors")
    for file, sentence in {
        "half.safetensors": "could not be read as a whole .safetensors file that numpy can read.*bfloat16.* Save it again, as float32",
        "a.npy": "could not be read as an .npy file of numbers",
        **{f"header{number}.npy": "could not be read as an .npy file of numbers" for number in range(4)},
        "b.npy": "holds several arrays",
        "a.safetensors": "could not be read as a whole .safetensors file",
        "two.safetensors": "should hold one tensor, or 'vectors' and 'present', but holds: a, b",
        "a.bin": r"should end in one of \.npy, \.safetensors, \.csv",
        "gone.npy": "there is no file",
    }.items():
        with pytest.raises(DataError, match=sentence):
            read_features("mine", tmp_path / file, CATALOG)


def test_an_index_of_a_data_frame_is_no_feature_and_half_floats_are_numbers(tmp_path):
    (tmp_path / "a.csv").write_text(",item_id,x\n0,007,1\n1,b,2\n")
    assert read_features("mine", tmp_path / "a.csv", CATALOG)["mine"].shape[1] == 1
    pq.write_table(pa.table({"item_id": ["b"], "x": pa.array(np.array([1.5], np.float16))}), tmp_path / "a.parquet")
    assert read_features("mine", tmp_path / "a.parquet", CATALOG)["mine"].max() == 1.5
