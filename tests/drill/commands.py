"""The commands that write, each over an earlier result: how it is called, what it makes, and how that is read.

All of them work on one small world: 12 films, 20 users, a random model of two layers.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from llmrec import files
from llmrec.apps.cli import main as llmrec
from llmrec.artifacts.run_folder import load_artifact
from llmrec.backbones.export import plain_model
from llmrec.data.added_parts import added_parts
from llmrec.data.folder import load_data
from llmrec.enrich.generated_texts import load_generated_texts
from llmrec.files import put_back
from llmrec.items.codes_folder import codes_of
from llmrec.training.checkpoints import read_log
from llmrec.training.command import recipe_main
from tests.recipes.running import load_recipe
from tests.tiny import tiny_backbone

RECIPE = load_recipe("next_item")
STEPS = 4
assert callable(plain_model), "imported here, so that no killed process has to"


@dataclass(frozen=True)
class Command:
    """begin: makes what lies there before; act: the command; result: below the world, what it makes or replaces, compared byte by byte
    (or by `values`); read: loads what lies there now, raises where it cannot; first: nothing lies there before."""

    name: str
    begin: Callable[[Path], None]
    act: Callable[[Path], None]
    result: str
    read: Callable[[Path], object]
    first: bool = False
    values: Callable[[Path], object] | None = None

    def digest(self, world: Path) -> object:
        """What the result is now: equal for equal results, None where there is none."""
        path = put_back(world / self.result)
        if not path.exists():
            return None
        return self.values(path) if self.values else _bytes(path)


def _bytes(path: Path) -> dict[str, str]:
    found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    shown = {str(file.relative_to(path)): file for file in found}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in shown.items() if not _is_hidden(name)}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part != "." for part in Path(name).parts)


def call(*arguments: object) -> None:
    """The command line in this process, which it ends only where it fails."""
    try:
        llmrec([str(argument) for argument in arguments])
    except SystemExit as end:
        if end.code:
            raise


def without_exchange(act: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same on a file system that cannot exchange two folders."""

    def acted(world: Path) -> None:
        files._exchange = lambda first, second: False
        act(world)

    return acted


# -- the world ------------------------------------------------------------------------------------------------------------------
def make_world(world: Path, server: str) -> None:
    """Items and events as files, a prepared folder with all that can be added to one, a model, a finished run."""
    world.mkdir()
    write_events(world, 20)
    rng = np.random.default_rng(0)
    items = "".join(f"i{item},Film {item},film number {item}\n" for item in range(12))
    (world / "items.csv").write_text("item_id,title,plot\n" + items)
    (world / "new.csv").write_text("item_id,title,plot\nn0,New film,film number new\nn1,Newer film,film number newer\n")
    np.save(world / "sound.npy", rng.normal(size=(12, 4)).astype(np.float32))
    np.save(world / "other.npy", rng.normal(size=(12, 4)).astype(np.float32))
    np.save(world / "new.npy", rng.normal(size=(2, 4)).astype(np.float32))
    backbone = tiny_backbone("llama")
    backbone.causal_lm.save_pretrained(world / "backbone")
    backbone.tokenizer.save_pretrained(world / "backbone")
    prepare(world)
    call("features", world / "data", "--add", f"sound={world / 'sound.npy'}")
    tokenize(world)
    enrich(server, 8)(world)
    train(world)
    evaluate("report.json", 5)(world)


def write_events(world: Path, num_users: int) -> None:
    """Everybody goes through the films in order."""
    rows = [f"u{user},i{(user + step) % 12},{step}\n" for user in range(num_users) for step in range(7)]
    (world / "events.csv").write_text("user_id,item_id,timestamp\n" + "".join(rows))


def prepare(world: Path) -> None:
    """`llmrec data prepare`, over whatever lies there."""
    call(
        "data",
        "prepare",
        "--items",
        world / "items.csv",
        "--interactions",
        world / "events.csv",
        "--out",
        world / "data",
    )


def tokenize(world: Path, seed: int = 0) -> None:
    """Codes from the matrix, so that no encoder runs."""
    call("tokenize", world / "data", "--feature", "sound", "--codebook-size", 4, "--seed", seed)


def enrich(server: str, length: int) -> Callable[[Path], None]:
    """Texts of a server that answers by what it is asked; another length is another question."""
    return lambda world: call(
        "enrich", world / "data", "--model", "writer", "--provider", "openai", "--base-url", server, "--yes",
        "--max-new-tokens", length, "--set", "batch_size=1",
    )  # fmt: skip


def train(world: Path, *more: str, run: str = "run") -> None:
    """The recipe as `llmrec train` launches it."""
    sys.argv = [
        "next_item.py", *more, f"data={world / 'data'}", f"output={world / run}", f"backbone.name={world / 'backbone'}",
        "backbone.dtype=float32", "items.form=semantic_id", "items.start=random", "prompt.max_history=6", "lora.rank=2",
        "training.batch_size=8", f"training.max_steps={STEPS}", "training.evaluate_every=1", "training.log_every=1",
        "training.patience=9", "validation.max_users=4", "validation.num_beams=2",
    ]  # fmt: skip
    recipe_main(RECIPE.NextItem, RECIPE.main, None)


def add_items(*more: str) -> Callable[[Path], None]:
    """Two more films for the run."""
    return lambda world: call(
        "add-items", world / "run", world / "new.csv", "--features", f"sound={world / 'new.npy'}",
        *(part.format(world=world) for part in more),
    )  # fmt: skip


def evaluate(report: str, max_users: int) -> Callable[[Path], None]:
    """A report of the run."""
    return lambda world: call(
        "eval", world / "run", "--max-users", max_users, "--num-beams", 2, "--no-cost", "--out", world / report
    )


# -- how results are read -------------------------------------------------------------------------------------------------------
def _read_data(world: Path) -> None:
    data = load_data(world / "data")
    parts = [str(part) for part in added_parts(world / "data")]
    assert parts == ["features 'sound'", "semantic ids 'rq-kmeans'", "generated texts 'writer'"], parts
    codes_of(world / "data" / "semantic_ids" / "rq-kmeans", data)
    load_generated_texts(data, "writer")


def _report_values(path: Path) -> object:
    """A report without the second it was made in."""
    if path.suffix == ".json":
        return json.loads(path.read_text())
    return path.read_text()


def _run_values(path: Path) -> object:
    """The model byte by byte, and each step once in the log."""
    steps = [record["step"] for record in read_log(path / "training_log.jsonl") if "loss" in record]
    finished = (path / "model" / "manifest.json").is_file()
    assert not finished or steps == list(range(1, STEPS + 1)), steps
    return _bytes(path / "model") if (path / "model").exists() else None


def _read_run(world: Path) -> None:
    if put_back(world / "run" / "model").exists():
        load_artifact(world / "run")


def _nothing(world: Path) -> None:
    """Begins with the world as it is."""


def _remove(name: str) -> Callable[[Path], None]:
    def begin(world: Path) -> None:
        files.remove_folder(world / name)

    return begin


def commands(server: str) -> list[Command]:
    """All of them. Those whose folders are put back work as on a file system that cannot exchange two folders."""
    ids = "data/semantic_ids/rq-kmeans"
    more_events = lambda world: write_events(world, 21)  # noqa: E731
    made = [
        Command("prepare", more_events, prepare, "data", _read_data),
        Command("prepare, new", lambda world: call("--version"), _prepare_elsewhere, "elsewhere", _read_elsewhere, first=True),
        Command("tokenize", _nothing, lambda world: tokenize(world, 1), ids, _read_data),
        Command("features", _nothing, _other_features, "data/features", _read_data, values=_feature_values),
        Command("enrich", _nothing, enrich(server, 9), "data/generated_texts/writer", _read_data),
        Command("add-items", _nothing, add_items(), "run/model", _read_run),
        Command("add-items --out", _nothing, add_items("--out", "{world}/grown"), "grown", _read_grown, first=True),
        Command("export", _nothing, _export, "exported", _read_exported, first=True),
        Command("eval, json", _nothing, evaluate("report.json", 6), "report.json", _read_report, values=_report_values),
        Command("eval, html", _nothing, evaluate("report.html", 6), "report.html", _nothing, first=True, values=_report_values),
        Command("recommend", _recommend(2), _recommend(3), "lists.parquet", _read_lists),
        Command("train", _remove("run"), train, "run", _read_run, first=True, values=_run_values),
        Command("train --fresh", _nothing, _train_anew, "run", _read_run, values=_run_values),
    ]  # fmt: skip
    twice = [command for command in made if command.name in ("prepare", "tokenize", "add-items")]
    return made + [
        Command(f"{c.name}, put back", c.begin, without_exchange(c.act), c.result, c.read, c.first, c.values)
        for c in twice
    ]


def _recommend(k: int) -> Callable[[Path], None]:
    """Lists for all users, in shards of eight."""
    return lambda world: call(
        "recommend", world / "run", "--data", world / "data", "--out", world / "lists.parquet", "-k", k, "--num-beams", 2,
        "--shard-users", 8, "--force",
    )  # fmt: skip


def _read_lists(world: Path) -> None:
    assert [len(row) for row in pq.read_table(world / "lists.parquet")["item_ids"].to_pylist()] in ([2] * 20, [3] * 20)


def _prepare_elsewhere(world: Path) -> None:
    call(
        "data",
        "prepare",
        "--items",
        world / "items.csv",
        "--interactions",
        world / "events.csv",
        "--out",
        world / "elsewhere",
    )


def _read_elsewhere(world: Path) -> None:
    if (world / "elsewhere").exists():
        load_data(world / "elsewhere")


def _other_features(world: Path) -> None:
    call("features", world / "data", "--add", f"sound={world / 'other.npy'}")


def _feature_values(path: Path) -> object:
    return hashlib.sha256((path / "sound.safetensors").read_bytes()).hexdigest()


def _read_grown(world: Path) -> None:
    if (world / "grown").exists():
        load_artifact(world / "grown")


def _export(world: Path) -> None:
    call("export", world / "run", world / "exported")


def _read_exported(world: Path) -> None:
    from transformers import AutoModelForCausalLM

    if (world / "exported").exists():
        AutoModelForCausalLM.from_pretrained(world / "exported")


def _read_report(world: Path) -> None:
    json.loads((world / "report.json").read_text())


def _train_anew(world: Path) -> None:
    train(world, "--fresh", "seed=1")
