"""Finished answers outlive what happens to the process."""

import sqlite3
import subprocess
import sys

import pytest

from llmrec.enrich.cache import AnswerCache
from llmrec.errors import LlmrecError
from llmrec.text_models.protocol import Chat, Completion, Request

IDENTITY = {"provider": "test", "name": "model", "revision": "1"}


def request(text: str = "Film", **settings) -> Request:
    return Request(Chat((("user", text),), "It is"), 20, **settings)


def test_what_was_put_is_found_by_another_process_too(tmp_path):
    cache, path = AnswerCache(IDENTITY, "hash", tmp_path / "a.sqlite"), tmp_path / "a.sqlite"
    answer = Completion("Ein Film, «schön» 🎬\nzwei Zeilen", "length", 3, 4)
    cache.put({cache.key(request()): answer})
    assert cache.get([cache.key(request()), "other"]) == {cache.key(request()): answer}
    script = (
        "import sys; from pathlib import Path; from llmrec.enrich.cache import AnswerCache; "
        f"c = AnswerCache({IDENTITY!r}, 'hash', Path(sys.argv[1])); print(len(c.get([sys.argv[2]])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), cache.key(request())], capture_output=True, text=True
    )
    assert done.stdout.strip() == "1", done.stderr


def test_the_key_depends_on_everything_that_decides_the_answer(tmp_path):
    path = tmp_path / "a.sqlite"
    cache = AnswerCache(IDENTITY, "hash", path)
    keys = {
        cache.key(one)
        for one in (
            request(), request("Other"), request(temperature=0.5), request(seed=1), request(top_p=0.5), request(repetition_penalty=1.2),
            Request(Chat((("user", "Film"),), "It was"), 20), Request(Chat((("system", "Film"),), "It is"), 20),
            Request(request().chat, 21),
        )
    }  # fmt: skip
    keys |= {AnswerCache(IDENTITY | {"revision": "2"}, "hash", path).key(request())}
    keys |= {AnswerCache(IDENTITY, "other", path).key(request())}
    assert len(keys) == 11 and cache.key(request()) == AnswerCache(IDENTITY, "hash", path).key(request())


def test_answers_of_before_are_found_by_the_key_they_were_kept_under(tmp_path):
    identity = {"provider": "openai", "name": "m", "server": "http://localhost:8000/v1"}
    cache = AnswerCache(identity, "0123", tmp_path / "a.sqlite")
    chat = Chat((("system", "Be brief."), ("user", "Film \ufdd0Heat\ufdd1")), "Heat is")
    assert cache.key(Request(chat, 64, 0.8, 0.95, 1.1, 7)) == "d842ed5373aa609d"


def test_more_keys_than_one_query_holds(tmp_path):
    cache = AnswerCache(IDENTITY, "hash", tmp_path / "a.sqlite")
    answers = {f"key {n}": Completion(str(n), "stop", 1, 1) for n in range(1_234)}
    cache.put(answers)
    assert cache.get([*answers, "none"]) == answers


def test_a_half_written_last_entry_is_survived(tmp_path):
    path = tmp_path / "a.sqlite"
    writer = AnswerCache(IDENTITY, "hash", path)
    for n in range(20):
        writer.put({f"key {n}": Completion("text " * 50, "stop", 1, 1)})
    journal = path.with_name("a.sqlite-wal").read_bytes()
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(path.read_bytes())
    copy.with_name("copy.sqlite-wal").write_bytes(journal[:-100])  # the machine stopped in the middle of the last write
    found = AnswerCache(IDENTITY, "hash", copy).get([f"key {n}" for n in range(20)])
    assert set(found) == {f"key {n}" for n in range(19)}


def test_two_writers_share_the_file(tmp_path):
    caches = [AnswerCache(IDENTITY, "hash", tmp_path / "a.sqlite") for _ in range(2)]
    for n in range(50):
        caches[n % 2].put({f"key {n}": Completion("text", "stop", 1, 1)})
    assert all(len(cache.get([f"key {n}" for n in range(50)])) == 50 for cache in caches)


def test_a_file_that_is_no_cache_is_one_sentence_and_stays_as_it_is(tmp_path):
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"not a database, but somebody's file, longer than a header" * 50)
    with pytest.raises(LlmrecError, match="cannot use the file of finished answers"):
        AnswerCache(IDENTITY, "hash", path)
    assert path.read_bytes().startswith(b"not a database")
    with pytest.raises(LlmrecError, match="cannot use the file"):
        AnswerCache(IDENTITY, "hash", path / "below" / "a.sqlite")
    with sqlite3.connect(tmp_path / "b.sqlite") as base:
        base.execute("CREATE TABLE answers (other INTEGER)")
    with pytest.raises(LlmrecError, match="cannot use the file"):
        AnswerCache(IDENTITY, "hash", tmp_path / "b.sqlite").get(["key"])


def test_nobody_but_the_owner_reads_answers_and_a_file_of_before_is_closed_too(tmp_path):
    path = tmp_path / "a.sqlite"
    for _ in range(2):
        cache = AnswerCache(IDENTITY, "hash", path)
        cache.put({cache.key(request()): Completion("bought", "stop", 3, 4)})
        files = list(tmp_path.iterdir())
        assert len(files) == 3, "the file, its journal, and the journal's index"
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        cache.close()
        path.chmod(0o644)
