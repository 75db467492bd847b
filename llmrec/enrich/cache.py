"""Finished answers on disk, one SQLite file for all runs: a killed run goes on where it was, nothing is asked twice."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from llmrec.errors import LlmrecError
from llmrec.files import cache_dir, content_hash
from llmrec.text_models.protocol import Completion, Request

VERSION = 1
WAIT_SECONDS = 60.0  # for another process that is writing


class AnswerCache:
    """Answers by what was asked, of which model and how. What `put` was given outlives a killed process; several may share the file.
    Answers are bought and may tell of users, so nobody but the file's owner reads it.

    Raises LlmrecError where the file is no cache or cannot be written.
    """

    def __init__(self, identity: dict[str, str], prompt_hash: str, path: Path | None = None) -> None:
        self.path = path or cache_dir() / "enrich" / f"answers-{VERSION}.sqlite"
        self._identity = json.dumps([identity, prompt_hash], sort_keys=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _keep_private(self.path)
            self._base = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text TEXT NOT NULL, finish TEXT NOT NULL, "
                "prompt_tokens INTEGER NOT NULL, new_tokens INTEGER NOT NULL) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise self._broken(error) from error

    def key(self, request: Request) -> str:
        """16 hexadecimal characters of model, prompt, rendered question and decoding."""
        return content_hash(self._identity, json.dumps(asdict(request), sort_keys=True))

    def get(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The answers there are, by key."""
        found = {}
        try:
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                rows = self._base.execute(
                    f"SELECT * FROM answers WHERE key IN ({','.join('?' * len(part))})", tuple(part)
                )
                found |= {key: Completion(*rest) for key, *rest in rows}
        except sqlite3.Error as error:
            raise self._broken(error) from error
        return found

    def put(self, answers: dict[str, Completion]) -> None:
        """Keeps answers, all of them or none."""
        rows = [(key, c.text, c.finish, c.prompt_tokens, c.new_tokens) for key, c in answers.items()]
        try:
            self._base.execute("BEGIN IMMEDIATE")
            self._base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", rows)
            self._base.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """Folds the journal into the file."""
        self._base.close()

    def _broken(self, error: Exception) -> LlmrecError:
        return LlmrecError(
            f"cannot use the file of finished answers '{self.path}': {error}. Free some room there or move the file away."
        )


def _keep_private(path: Path) -> None:
    """SQLite gives its journal the permissions of the file, so they are set before it is opened."""
    path.touch(mode=0o600)
    if path.stat().st_uid == os.getuid():
        path.chmod(0o600)
