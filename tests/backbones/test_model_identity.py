"""What tells one model from another: every byte of what transformers reads, and nothing else."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from llmrec.backbones import folder_identity as module
from llmrec.backbones.load import resolve
from llmrec.encoders.text import encode_texts, find_encoder
from llmrec.errors import ModelError
from tests.encoders.test_text import tiny_encoder  # noqa: F401


@pytest.fixture
def twins(tiny_encoder, tmp_path, monkeypatch) -> tuple[Path, Path]:  # noqa: F811
    """Two folders that hold the same encoder."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    return tuple(Path(shutil.copytree(tiny_encoder, tmp_path / name)) for name in ("one", "other"))


def identity(folder: Path) -> str:
    return resolve(str(folder)).identity


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_the_same_files_in_another_folder_are_the_same_encoder(twins):
    one, other = twins
    (other / "README.md").write_text("words about it")
    (other / "training_args.bin").write_bytes(b"what a training leaves behind")
    (other / "onnx").mkdir()
    assert identity(one) == identity(other)


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_one_byte_of_the_weights_makes_another_encoder_wherever_it_is(twins, share):
    one, other = twins
    weights = other / "model.safetensors"
    flip(weights, int(share * (weights.stat().st_size - 1)))
    assert identity(one) != identity(other)


def test_one_rule_of_the_tokenizer_makes_another_encoder_with_vectors_of_its_own(twins):
    one, other = twins
    rules = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps(rules | {"do_lower_case": False}))
    assert identity(one) != identity(other)
    texts = ["Heat and Fargo", "heat and fargo"]
    lower, cased = encode_texts(texts, str(one)), encode_texts(texts, str(other))
    assert np.allclose(lower[0], lower[1], atol=1e-6) and not np.allclose(cased[0], cased[1], atol=1e-3)


def test_one_byte_of_the_vocabulary_makes_another_encoder(twins):
    one, other = twins
    flip(other / "tokenizer.json", -40)
    assert identity(one) != identity(other)


def test_how_images_are_prepared_is_part_of_an_encoder(twins):
    one, other = twins
    for folder, size in ((one, 224), (other, 225)):
        (folder / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    assert identity(one) != identity(other)


def test_a_file_is_read_once_until_it_changes(twins, monkeypatch):
    """Remembered only once its times are old enough to tell a later change."""
    one, _ = twins
    weights, read = one / "model.safetensors", []
    digest = module.hashlib.file_digest
    monkeypatch.setattr(module.hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind))
    first = identity(one)
    assert identity(one) == first and read.count(str(weights)) == 2
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 10)
    for _ in range(3):
        assert identity(one) == first
    assert read.count(str(weights)) == 3
    times = weights.stat()
    flip(weights, -1)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps times
    assert identity(one) != first and read.count(str(weights)) == 4


def test_a_broken_memory_is_none(twins, tmp_path, monkeypatch):
    one, _ = twins
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 10)
    first = identity(one)
    for path in (tmp_path / "cache" / "digests").iterdir():
        path.write_text("{")
    assert identity(one) == first


def test_a_cache_that_cannot_be_written_changes_no_identity(twins, tmp_path, monkeypatch):
    one, _ = twins
    now, first = time.time(), identity(one)
    monkeypatch.setattr(module.time, "time", lambda: now + 10)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "file" / "cache"))
    assert identity(one) == first


def test_weights_that_cannot_be_read_are_one_sentence(twins, monkeypatch):
    def broken(file, _):
        raise OSError(5, "Input/output error", file.name)

    monkeypatch.setattr(module.hashlib, "file_digest", broken)
    with pytest.raises(ModelError, match=r"cannot read the model in '.*one': .*Input/output error"):
        resolve(str(twins[0]))


def test_a_wheels_model_is_known_by_its_version_and_not_read(monkeypatch):
    monkeypatch.setattr(module, "_digest", None)
    assert find_encoder("all-MiniLM-L6-v2").identity == "wheel all-MiniLM-L6-v2 0.1.0"
