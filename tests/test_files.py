import json
import os

import numpy as np
import pyarrow as pa
import pytest

from llmrec.errors import ArtifactError, LlmrecError
from llmrec.files import (
    atomic_folder,
    cache_dir,
    check_writable,
    content_hash,
    read_json,
    write_arrow,
    write_json,
    write_text,
)


def test_what_is_written_is_read_back_and_leaves_nothing_beside_it(tmp_path):
    write_json(tmp_path / "new" / "card.json", {"name": "Nénette", "k": 3})
    assert read_json(tmp_path / "new" / "card.json") == {"name": "Nénette", "k": 3}
    assert os.listdir(tmp_path / "new") == ["card.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "card.json", {"version": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "card.json", {"version": float("nan")})
    assert read_json(tmp_path / "card.json") == {"version": 1}
    assert os.listdir(tmp_path) == ["card.json"]


def test_an_unwritable_place_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for write in (
        lambda path: write_text(path, "x"),
        lambda path: write_arrow(path, pa.table({"a": [1]})),
    ):
        with pytest.raises(
            LlmrecError, match=r"cannot write '.*inside': a file lies where a folder should be. Choose a place"
        ):
            write(tmp_path / "file" / "inside")
    with pytest.raises(LlmrecError, match="cannot write"), atomic_folder(tmp_path / "file" / "folder"):
        pass
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_place_that_cannot_be_written_is_found_before_anything_is_made(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "run")
    check_writable(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(LlmrecError, match=r"cannot write '.*file/run': a file lies where a folder should be"):
        check_writable(tmp_path / "file" / "run")
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # who runs as root may write anywhere
    with pytest.raises(LlmrecError, match=r"cannot write '.*new/run': Permission denied"):
        check_writable(tmp_path / "new" / "run")


def test_a_folder_replaces_the_old_one_only_on_success(tmp_path):
    target = tmp_path / "data"
    with atomic_folder(target) as new:
        write_text(new / "a", "1")
    with pytest.raises(RuntimeError), atomic_folder(target) as new:
        write_text(new / "b", "2")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["data"] and os.listdir(target) == ["a"]
    with atomic_folder(target) as new:
        write_text(new / "b", "2")
    assert os.listdir(tmp_path) == ["data"] and os.listdir(target) == ["b"]


def test_a_folder_written_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_folder(tmp_path / "link") as new:
        write_text(new / "a", "1")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "a").read_text() == "1"


def test_files_get_the_permissions_that_the_umask_gives(tmp_path):
    (tmp_path / "plain").write_text("x")
    write_text(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot read the manifest '.*': No such file"),
        (b'{"a": ', "the manifest '.*' is not valid JSON"),
        (b"\xff\xfe", "the manifest '.*' is not valid JSON"),
        (b"[1]", "should hold a JSON object but holds a list"),
    ],
)
def test_bad_json_is_said_in_the_callers_words(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=sentence):
        read_json(tmp_path / "m.json", "manifest", ArtifactError)


def test_the_hash_depends_on_kind_shape_and_where_parts_end():
    values = np.arange(6, dtype=np.int32)
    hashes = {
        content_hash("ab", "c"),
        content_hash("a", "bc"),
        content_hash("abc"),
        content_hash(b"abc"),
        content_hash(values),
        content_hash(values.astype(np.int64)),
        content_hash(values.reshape(2, 3)),
        content_hash(),
    }
    assert len(hashes) == 8 and all(len(value) == 16 for value in hashes)
    assert content_hash(values.reshape(2, 3).T) == content_hash(values.reshape(2, 3).T.copy())


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("LLMREC_CACHE")
    assert cache_dir().parts[-2:] == (".cache", "llmrec")


def test_written_json_is_readable_by_others(tmp_path):
    write_json(tmp_path / "x.json", {"title": "Misérables"})
    assert "Misérables" in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "x.json").read_bytes())["title"] == "Misérables"
