"""Run folders that were changed on their way: any file cut, flipped, emptied or filled with other values."""

import json
import shutil
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from llmrec.artifacts.manifest import SEQUENTIAL
from llmrec.artifacts.run_folder import load_artifact
from llmrec.artifacts.sequential_run import load_sequential
from llmrec.backbones.model_files import weight_checksums
from llmrec.data.interactions import Histories
from llmrec.recommenders.requests import Requests
from tests.fuzz.conftest import fuzzed
from tests.fuzz.outcome import loads_or_says_why
from tests.fuzz.tiny_runs import FORMS, make_runs, make_sequential_run

VALUES = [
    None, True, False, 0, 1, -1, 2, 3, 1.5, float("nan"), float("inf"), -(10**9), 10**9, 10**30, "", "x", "../x", "nf4",
    "text", "soft", "image", "float16", "é\ud800", "(a+)+$", "a" * 3000, [], [1], [[1]], [10**9], {}, {"a": 1}, {"q_proj": 10**8},
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return make_runs(folder) | {SEQUENTIAL: make_sequential_run(folder / SEQUENTIAL)}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("changed") / "run"


def test_every_run_loads_as_it_was_written(runs):
    for form in FORMS:
        assert load_artifact(runs[form]).item_tokens.form == form
    assert load_sequential(runs[SEQUENTIAL]).recommender.card["epochs_chosen"] == 1.5


@given(data=st.data(), form=st.sampled_from([*FORMS, SEQUENTIAL]), as_a_stranger=st.booleans())
@fuzzed(0.1)
def test_a_changed_run_loads_or_is_refused_in_a_sentence(runs, workplace, data, form, as_a_stranger):
    shutil.rmtree(workplace, ignore_errors=True)
    shutil.copytree(runs[form], workplace)
    files = sorted(path for path in workplace.rglob("*") if path.is_file() and path.suffix != ".md")
    path = data.draw(st.sampled_from(files))
    change = data.draw(st.sampled_from([change_bytes, *BY_KIND.get(path.suffix, [])]))
    change(path, data)
    manifest = workplace / "model" / "manifest.json"
    if as_a_stranger and path != manifest:  # who makes a run of others makes its checksums, too
        said = json.loads(manifest.read_text())
        manifest.write_text(json.dumps(said | {"weights": weight_checksums(workplace / "model")}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = loads_or_says_why(lambda: (load_and_ask if form == SEQUENTIAL else load_artifact)(workplace))
    assert not (
        loaded and not as_a_stranger and path.suffix == ".safetensors" and is_other(path, runs[form], workplace)
    )


def load_and_ask(run: Path) -> None:
    """A network of item sequences is small enough to be asked, too, and its words to be read."""
    loaded = load_sequential(run)
    loaded.recommender.scores(Requests(Histories.from_lists([[0, 3], []])))
    for words in loaded.words.values():
        words.encode(["Film drama"])


def is_other(path: Path, run: Path, workplace: Path) -> bool:
    """Whether the file holds other bytes than it was written with."""
    original = run / path.relative_to(workplace)
    return not path.is_file() or path.read_bytes() != original.read_bytes()


def change_bytes(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, max(0, len(content) - 1)))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "empty", "gone", "folder"]))
    if how in ("gone", "folder"):
        path.unlink()
        return path.mkdir() if how == "folder" else None
    if how == "flip" and content:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "insert":
        content[place:place] = data.draw(st.binary(max_size=20))
    else:
        del content[0 if how == "empty" else place :]
    path.write_bytes(content)
    return None


def change_json(path: Path, data: st.DataObject) -> None:
    path.write_text(json.dumps(changed(json.loads(path.read_text()), data)))


def change_yaml(path: Path, data: st.DataObject) -> None:
    path.write_text(yaml.safe_dump(changed(yaml.safe_load(path.read_text()), data)))


def nest(path: Path, data: st.DataObject) -> None:
    path.write_text(data.draw(st.sampled_from(["[", '{"a":'])) * 100_000)


def changed(value, data: st.DataObject):
    """The value with one value somewhere in it replaced, removed or put under another name."""
    if not isinstance(value, dict | list) or not value or data.draw(st.integers(0, 4)) == 0:
        return data.draw(st.sampled_from(VALUES))
    key = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(min(len(value), 300))))
    copy = value.copy()
    if data.draw(st.integers(0, 5)) == 0:
        taken = copy.pop(key)
        if isinstance(copy, dict) and data.draw(st.booleans()):
            copy[data.draw(st.text(max_size=8))] = taken
    else:
        copy[key] = changed(value[key], data)
    return copy


def change_tensors(path: Path, data: st.DataObject) -> None:
    tensors = load_file(path)
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors.pop(name)
    how = data.draw(st.sampled_from(["shorter", "flat", "kind", "name", "gone", "nan", "wide", "number"]))
    if how == "shorter" and tensor.ndim:
        tensor = tensor[: len(tensor) // 2]
    elif how == "flat":
        tensor = tensor.flatten()
    elif how == "kind":
        tensor = tensor.to(data.draw(st.sampled_from([torch.float16, torch.int64, torch.bool, torch.float64])))
    elif how == "nan" and tensor.is_floating_point():
        tensor = tensor * float("nan")
    elif how == "wide":
        tensor = torch.cat([tensor, tensor], dim=-1) if tensor.ndim else tensor[None]
    elif how == "number":
        tensor = torch.tensor(0)
    if how != "gone":
        tensors[data.draw(st.text(max_size=8)) if how == "name" else name] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def change_table(path: Path, data: st.DataObject) -> None:
    table = pq.read_table(path)
    place = data.draw(st.integers(0, table.num_columns - 1))
    name, column = table.column_names[place], table.column(place)
    how = data.draw(st.sampled_from(["drop", "name", "null", "rows", "number", "list"]))
    if how == "drop":
        table = table.drop_columns([name])
    elif how == "name":
        table = table.rename_columns({name: data.draw(st.text(max_size=8))})
    elif how == "rows":
        table = table.slice(data.draw(st.integers(0, 12)))
    else:
        other = {
            "null": pa.nulls(len(column)),
            "number": pa.array(range(len(column))),
            "list": pa.array([[1]] * len(column)),
        }
        table = table.set_column(place, name, other[how])
    pq.write_table(table, path)


BY_KIND = {
    ".json": [change_json, change_json, change_json, nest],
    ".yaml": [change_yaml],
    ".safetensors": [change_tensors],
    ".parquet": [change_table],
}
