import json
import os
import resource
import signal
import threading

import numpy as np
import pyarrow as pa
import pytest

from llmrec.errors import ArtifactError, LlmrecError
from llmrec.files import (
    atomic_file,
    atomic_folder,
    cache_dir,
    check_name,
    check_writable,
    content_hash,
    put_all_back,
    put_back,
    read_json,
    remove_folder,
    sweep,
    unfinished,
    write_arrow,
    write_json,
    write_text,
)
from llmrec.items.semantic_ids import SemanticIDs


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
            LlmrecError, match=r"cannot write '.*inside': a file lies where a folder should be. Choose a location"
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


def died(act) -> None:
    """Runs `act` in a process that is killed where `act` says `kill_me()`, and does not come to its end."""
    child = os.fork()
    if not child:
        act()
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def kill_me(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def version(folder) -> str:
    return (folder / "version").read_text()


def write_version(folder, number: str) -> None:
    with atomic_folder(folder) as new:
        (new / "version").write_text(number)
        (new / "more").mkdir()


def test_a_reader_finds_a_whole_folder_at_every_moment_of_its_replacing(tmp_path):
    write_version(tmp_path / "model", "0")
    seen, over = [], threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.append(version(tmp_path / "model"))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 100):
        write_version(tmp_path / "model", str(number))
    over.set()
    reader.join()
    assert set(seen) <= {str(number) for number in range(100)}
    assert len(set(seen)) > 1, "the reader came in between"


def test_what_a_dead_process_left_is_swept_by_the_next_write_and_what_a_living_one_writes_is_not(tmp_path):
    def half() -> None:
        with atomic_folder(tmp_path / "data") as new:
            (new / "large").write_text("half of it")
            kill_me()

    def half_a_file() -> None:
        with atomic_file(tmp_path / "card.json") as new:
            new.write_text("half of it")
            kill_me()

    died(half)
    died(half_a_file)
    assert len(unfinished(tmp_path)) == 1, "the second swept what the first left"
    assert not (tmp_path / "data").exists() and not (tmp_path / "card.json").exists()
    with atomic_folder(tmp_path / "model") as new:
        assert len(unfinished(tmp_path)) == 1, "only what is being written now"
        write_text(tmp_path / "card.json", "whole")
        sweep(tmp_path)
        write_text(new / "version", "1")
    assert sorted(os.listdir(tmp_path)) == ["card.json", "model"] and version(tmp_path / "model") == "1"


def test_without_an_exchange_the_earlier_folder_is_put_back_where_a_process_died_between_two_steps(
    tmp_path, monkeypatch
):
    """As on file systems that cannot exchange two folders."""
    monkeypatch.setattr("llmrec.files._exchange", lambda first, second: False)
    model = tmp_path / "model"
    write_version(model, "1")
    write_version(model, "2")
    assert version(model) == "2" and os.listdir(tmp_path) == ["model"]

    def between() -> None:
        replace = os.replace
        os.replace = lambda source, target: kill_me() if str(target) == str(model) else replace(source, target)
        write_version(model, "3")

    for restart in (lambda: put_back(model), lambda: sweep(tmp_path), lambda: write_text(tmp_path / "log", "x")):
        died(between)
        assert not model.exists()
        restart()
        assert version(model) == "2"
    died(between)
    assert put_all_back(tmp_path) == tmp_path and (tmp_path / "model").is_dir(), "whoever lists a folder finds it too"
    write_version(model, "4")
    assert version(model) == "4" and sorted(os.listdir(tmp_path)) == ["log", "model"]


def test_a_folder_with_other_things_in_it_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_text("x")
    with (
        pytest.raises(LlmrecError, match=r"photos' exists and holds something else \(there is no card.json in it\)"),
        atomic_folder(tmp_path / "photos", known_by="card.json"),
    ):
        pytest.fail("nothing is written")
    assert os.listdir(tmp_path / "photos") == ["holiday.jpg"] and os.listdir(tmp_path) == ["photos"]


def test_a_folder_is_whole_until_it_is_removed(tmp_path):
    write_version(tmp_path / "model", "1")
    remove_folder(tmp_path / "model")
    assert not os.listdir(tmp_path)


def test_a_full_disk_and_a_name_too_long_are_said_in_one_sentence(tmp_path):
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for write in (
            lambda: write_text(tmp_path / "text", "x" * 10_000),
            lambda: SemanticIDs(np.arange(10_000, dtype=np.int32)[:, None], (10_000,)).save(tmp_path / "codes"),
        ):
            with pytest.raises(LlmrecError, match=r"cannot write '.*(text|codes)': .*(too large|TooLarge)"):
                write()
        kill_me()

    died(full)
    assert not os.listdir(tmp_path)
    for write in (
        lambda path: write_text(path, "x"),
        lambda path: write_version(path, "1"),
        lambda path: SemanticIDs(np.zeros((1, 1), np.int32), (2,)).save(path),
    ):
        with pytest.raises(LlmrecError, match=r"cannot write '.*': File name too long"):
            write(tmp_path / ("n" * 300))


def test_names_of_parts_are_short_and_plain():
    check_name("rq-kmeans_2.b", "the name")
    for name in ("", ".hidden", "a/b", "..", "a b", "n" * 300):
        with pytest.raises(LlmrecError, match="the name should be letters, digits") as raised:
            check_name(name, "the name")
        assert len(str(raised.value)) < 200


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
