"""Where a job for many users keeps what it has done: a hidden folder next to its result.

users.parquet    the users as they are asked about, checked, a row group a shard
job.json         what the job was begun on (see `users_job`), written once users.parquet is whole
00000.parquet    the answers to the users of shard 0, whole or not there

Pages of these files carry checksums, so that a damaged shard is seen and its users are asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.reading import reading
from llmrec.data.users import User
from llmrec.errors import LlmrecError
from llmrec.files import atomic_file, read_json, write_json
from llmrec.serving.asked import ANSWERS

USERS = pa.schema(
    {
        "user_id": pa.string(),
        "history": pa.list_(pa.string()),
        "candidates": pa.list_(pa.string()),
        "exclude": pa.list_(pa.string()),
        "instruction": pa.string(),
    }
)
USERS_FILE, CARD = "users.parquet", "job.json"
ROW_GROUP = 65_536  # rows of the result that are in memory together, and that its readers take at once


@dataclass(frozen=True)
class WorkFolder:
    """The folder of one job. It can be sent to other processes, and to machines that see it under the same path."""

    path: Path

    @classmethod
    def beside(cls, out: Path) -> WorkFolder:
        """That of the job whose result is `out`."""
        return cls(out.with_name(f".{out.name}.job"))

    @property
    def card(self) -> dict | None:
        """What job.json says; None where no job has got so far."""
        path = self.path / CARD
        return read_json(path, "description of the job", LlmrecError) if path.is_file() else None

    @property
    def has_answers(self) -> bool:
        """Whether a shard has been answered."""
        return any(path.name != USERS_FILE for path in self.path.glob("*.parquet"))

    def clear(self) -> None:
        """Removes what an earlier job left: its description first, without which its answers count for nothing."""
        (self.path / CARD).unlink(missing_ok=True)
        for left in self.path.glob("*.parquet"):
            left.unlink()

    def write_users(self, shards: Iterable[Sequence[User]]) -> None:
        """The users, a sequence a shard."""
        with (
            atomic_file(self.path / USERS_FILE) as temporary,
            pq.ParquetWriter(temporary, USERS, compression="zstd", write_page_checksum=True) as writer,
        ):
            for users in shards:
                columns = {name: [getattr(user, name) for user in users] for name in USERS.names}
                writer.write_table(pa.table(columns, USERS), len(users))

    def write_card(self, card: dict) -> None:
        """Says that users.parquet is whole, and what the job is about."""
        write_json(self.path / CARD, card)

    def open_users(self) -> pq.ParquetFile:
        """For `users`; opened once, because it says where every shard lies. Raises DataError where it cannot be read."""
        path = self.path / USERS_FILE
        with reading(path, "the users of a job", advice="Remove its folder and start again."):
            return pq.ParquetFile(path, page_checksum_verification=True)

    def users(self, opened: pq.ParquetFile, shard: int) -> list[User]:
        """The users of a shard."""
        with reading(self.path / USERS_FILE, "the users of a job", advice="Remove its folder and start again."):
            return [User(**row) for row in opened.read_row_group(shard).to_pylist()]

    def write(self, shard: int, answers: pa.Table) -> None:
        """The answers to a shard's users, all of them or nothing."""
        with atomic_file(self._file(shard)) as temporary:
            pq.write_table(answers, temporary, compression="zstd", write_page_checksum=True)

    def is_whole(self, shard: int) -> bool:
        """Whether the answers to a shard are there and undamaged."""
        try:
            self._read(shard)
        except (OSError, pa.ArrowException):
            return False
        return True

    def _read(self, shard: int) -> pa.Table:
        with pq.ParquetFile(self._file(shard), page_checksum_verification=True) as file:
            table = file.read()
        table.validate(full=True)
        return table

    def join(self, num_shards: int, out: Path, card: str) -> tuple[int, int]:
        """Writes all shards as one file, in order; returns how many rows, and how many of them are empty.

        card: kept in the file under the key "llmrec". Every shard is there and whole.
        """
        num_rows = num_empty = 0
        schema = ANSWERS.with_metadata({"llmrec": card})
        with atomic_file(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for rows in self._row_groups(num_shards):
                num_rows += rows.num_rows
                num_empty += sum(not length for length in rows["scores"].combine_chunks().value_lengths().to_pylist())
                writer.write_table(rows.cast(schema))
        return num_rows, num_empty

    def _row_groups(self, num_shards: int) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        for shard in range(num_shards):
            waiting.append(self._read(shard))
            if sum(table.num_rows for table in waiting) >= ROW_GROUP:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting).combine_chunks()

    def _file(self, shard: int) -> Path:
        return self.path / f"{shard:05}.parquet"


def card_of(out: Path) -> str | None:
    """What `WorkFolder.join` was told to keep in a result; None for any other file."""
    try:
        metadata = pq.read_schema(out).metadata or {}
    except (OSError, pa.ArrowException):
        return None
    return metadata[b"llmrec"].decode() if b"llmrec" in metadata else None
