"""Recommendations for many users: `llmrec recommend RUN --users FILE --out OUT`.

The users are read and checked once, a few at a time, and written down in shards next to the result. The shards are answered one after
another (or by many machines: `ray_job`), each kept once it is whole, and joined at the end. Killed at any moment, the same command
goes on with the shards that are left. It does not go on over anything else than it was begun on.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmrec.data.catalog import Catalog, nearest_words
from llmrec.data.folder import load_data
from llmrec.data.reading import quoted
from llmrec.data.users import SEPARATOR, User, UserFile, users_of_data
from llmrec.errors import ConfigError, DataError
from llmrec.files import remove_folder, sweep
from llmrec.processes import only_one
from llmrec.serving.asked import Question, Source, answer, check_source, data_digest, file_digest
from llmrec.serving.work_folder import WorkFolder, card_of
from llmrec.version import __version__

SHARD = 1024  # users that are asked about between two saves
# Answers the given shards in any order, and yields the number of each once its answers are kept.
Answering = Callable[[Source, Question, WorkFolder, Sequence[int]], Iterator[int]]


@dataclass(frozen=True)
class UsersJob:
    """Whom to ask about, and where the answers go.

    users: a file of users (see `data.users`), or data: a prepared data folder, whose users are asked about with all their events.
    out: the parquet file to write. separator: of the ids of a list in a csv file. drop_unknown: item ids that the catalogue lacks are
    left out, else they are an error. shard: users of a shard. force: an `out` that is there is replaced, and an interrupted job over
    something else is dropped.
    """

    source: Source
    question: Question
    out: Path
    users: Path | None = None
    data: Path | None = None
    separator: str = SEPARATOR
    drop_unknown: bool = False
    shard: int = SHARD
    force: bool = False


@dataclass(frozen=True)
class Done:
    """num_users: rows of the result; num_kept: of them, those that an interrupted job had answered; num_empty: who receive nothing;
    num_unknown: item ids that the catalogue lacks and that were left out; passed_over: columns of the file that say nothing here."""

    num_users: int
    num_kept: int
    num_empty: int
    num_unknown: int
    passed_over: list[str]


def answer_here(source: Source, question: Question, work: WorkFolder, shards: Sequence[int]) -> Iterator[int]:
    """Answers in this process, one shard after another."""
    with contextlib.closing(source.open(prompt_cache_mib=0)) as recommender, work.open_users() as opened:
        for shard in shards:
            work.write(shard, answer(recommender, work.users(opened, shard), question))
            yield shard


def run_job(
    job: UsersJob,
    answering: Answering = answer_here,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Done:
    """Recommends to all users and writes the result, whole or not at all.

    progress: is told how many users have been answered and how many there are, after each shard.

    Raises:
        DataError: the users cannot be read, or name what the catalogue lacks; nobody has been asked about then.
        ConfigError: the result is there already, or an interrupted job was begun on something else.
        LlmrecError: the result cannot be written, or another process works on it; and what `Source.open` and `answer` raise.
    """
    check_source(job.source)
    work = WorkFolder.beside(job.out)
    _check_out(job, work)
    catalog = job.source.catalog()
    job.question.check(catalog)
    with only_one(work.path, "answering users"):
        identity = _identity(job)
        card = _begun(job, work, identity) or _begin(job, work, identity, catalog)
        sizes = [min(card["shard"], card["num_users"] - start) for start in range(0, card["num_users"], card["shard"])]
        left = _left(work, len(sizes))
        done = kept = card["num_users"] - sum(sizes[shard] for shard in left)
        if left:
            progress(done, card["num_users"])
            for shard in answering(job.source, job.question, work, left):
                done += sizes[shard]
                progress(done, card["num_users"])
        num_rows, num_empty = work.join(len(sizes), job.out, json.dumps(identity))
        assert num_rows == card["num_users"], (num_rows, card)
        remove_folder(work.path)
    return Done(num_rows, kept, num_empty, card["num_unknown"], card["passed_over"])


def _check_out(job: UsersJob, work: WorkFolder) -> None:
    out = job.out
    if out.suffix != ".parquet":
        raise ConfigError(f"the result is a parquet file, but --out is '{out}'. Name one that ends in .parquet.")
    if out.is_dir():
        raise ConfigError(f"cannot write '{out}': a folder lies there. Name a file.")
    if out.parent.is_dir():
        sweep(out.parent)
    if not out.exists():
        return
    card = work.card
    if card is not None and card_of(out) == json.dumps(card["identity"]):
        remove_folder(work.path)  # killed after the result had its name
    if not job.force:
        raise ConfigError(f"'{out}' exists already. Name another file, or replace it with --force.")


def _identity(job: UsersJob) -> dict:
    """What the answers depend on, by content: a job that is not begun on these very things is another one."""
    whom = file_digest(job.users) if job.users is not None else data_digest(job.data)
    return {
        "llmrec": __version__,
        "users": whom,
        "separator": job.separator,
        "drop unknown": job.drop_unknown,
        **job.source.identity(),
        **job.question.identity(),
    }


def _begun(job: UsersJob, work: WorkFolder, identity: dict) -> dict | None:
    """What an interrupted job says of itself; None where none has got so far, or where it is to be dropped."""
    card = work.card
    if card is None:
        return None
    then = card["identity"]
    different = [name for name in dict.fromkeys([*then, *identity]) if then.get(name) != identity.get(name)]
    if not different:
        return card
    if not job.force and work.has_answers:
        raise ConfigError(
            f"a job that was interrupted lies in '{work.path}' and was begun on something else: {', '.join(different)} "
            f"{'has' if len(different) == 1 else 'have'} changed. Ask for the same again to go on with it, name another --out, "
            "or drop it with --force."
        )
    return None


def _begin(job: UsersJob, work: WorkFolder, identity: dict, catalog: Catalog) -> dict:
    """Reads and checks all users, and writes down what the job is about."""
    if job.users is not None:
        file = UserFile(job.users, job.separator)
        source, passed_over, where = iter(file), file.passed_over, str(job.users)
    else:
        source, passed_over, where = users_of_data(load_data(job.data)), [], str(job.data)
    known = _KnownItems(catalog, where)
    work.clear()
    work.write_users(known.shards(source, job.shard, job.drop_unknown))
    card = {"identity": identity, "shard": job.shard, "num_users": known.num_users, "num_unknown": known.num_unknown,
            "passed_over": passed_over}  # fmt: skip
    work.write_card(card)
    return card


class _KnownItems:
    """Leaves out the item ids that the catalogue lacks, and counts them. History, candidates and exclusions are looked at together."""

    def __init__(self, catalog: Catalog, where: str) -> None:
        self.catalog, self.where = catalog, where
        self.num_users = self.num_ids = self.num_unknown = 0
        self.examples: dict[str, int] = {}  # id -> the row that it was first met in

    def shards(self, users: Iterator[User], size: int, drop_unknown: bool) -> Iterator[list[User]]:
        """The users in shards. Raises DataError at their end where there are none, or unknown items that may not be left out."""
        while part := list(itertools.islice(users, size)):
            yield self._kept(part)
        if not self.num_users:
            raise DataError(f"'{self.where}' has no users. Expected a row for each user to recommend for.")
        if self.num_unknown and not drop_unknown:
            raise DataError(f"{self._sentence()} Leave them out with --drop-unknown.")

    def _kept(self, users: list[User]) -> list[User]:
        """The same users, with the items that there are."""
        ids = [id_ for user in users for ids in (user.history, user.candidates, user.exclude) for id_ in ids or ()]
        different = list(dict.fromkeys(ids))  # many users meet the same items
        known = self.catalog.contains(different)
        first, self.num_users, self.num_ids = self.num_users, self.num_users + len(users), self.num_ids + len(ids)
        if known.all():
            return users
        missing = {id_ for id_, there in zip(different, known, strict=True) if not there}
        self.num_unknown += sum(id_ in missing for id_ in ids)
        found = []
        for row, user in enumerate(users, start=first + 1):
            lists = {}
            for name in ("history", "candidates", "exclude"):
                if (of_user := getattr(user, name)) is not None:
                    lists[name] = [id_ for id_ in of_user if id_ not in missing]
                    for id_ in of_user if len(self.examples) < 3 else ():
                        if id_ in missing:
                            self.examples.setdefault(id_, row)
            found.append(replace(user, **lists))
        return found

    def _sentence(self) -> str:
        """How many there are, with examples and the nearest ids."""
        ids = self.catalog.item_ids
        examples = "; ".join(
            f"{quoted(id_)} in row {row} (nearest: {', '.join(map(quoted, nearest_words(id_, ids)))})"
            for id_, row in itertools.islice(self.examples.items(), 3)
        )
        return (
            f"'{self.where}': {self.num_unknown} of {self.num_ids} item ids of the users are not in the catalogue of "
            f"{self.catalog.num_items} items, such as {examples}."
        )


def _left(work: WorkFolder, num_shards: int) -> list[int]:
    """The shards that are not answered yet, or whose answers are damaged."""
    return [shard for shard in range(num_shards) if not work.is_whole(shard)]
