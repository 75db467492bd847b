"""A real, small run of a network of item sequences: the first users of Amazon Beauty, texts by TF-IDF, a few epochs."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.artifacts.sequential_run import SequentialRun, save_sequential
from llmrec.config import CONFIG
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import load_data
from llmrec.data.prepare import prepare
from llmrec.encoders.item_features import TextSource, catalog_features, fit_words
from llmrec.evaluation.tasks import load_task
from llmrec.files import write_text
from llmrec.sequential.learning import Learner, validation_of
from llmrec.sequential.settings import SequentialSettings
from llmrec.training.command import data_facts

TEXT = TextSource(encoder="tf_idf")
NUM_USERS, NUM_NEW = 400, 30


@dataclass(frozen=True)
class RealRun:
    """folder: of the run; data: that it was trained on; new: items that it never saw, with the columns of the others."""

    folder: Path
    data: Path
    new: Catalog


def train(folder: Path, bench_data: Path) -> RealRun:
    """Every 50th item is kept from the run, with its events."""
    source = bench_data / "amazon14_beauty"
    with gzip.open(source / "interactions.tsv.gz", "rt", encoding="utf-8") as file:
        heading, *lines = (line.rstrip("\n") for line in file)
    users = set(list(dict.fromkeys(line.split("\t")[0] for line in lines))[:NUM_USERS])
    lines = [line for line in lines if line.split("\t")[0] in users]
    met = list(dict.fromkeys(line.split("\t")[1] for line in lines))
    gone = set(met[::50][:NUM_NEW])
    write_text(folder / "events.tsv", "\n".join([heading, *(e for e in lines if e.split("\t")[1] not in gone)]) + "\n")
    with gzip.open(source / "items.jsonl.gz", "rt", encoding="utf-8") as file:
        known = set(met)
        rows = [row for line in file if (row := json.loads(line))["item_id"] in known]
    write_text(folder / "items.jsonl", "".join(json.dumps(row) + "\n" for row in rows if row["item_id"] not in gone))
    prepare(folder / "items.jsonl", folder / "events.tsv", folder / "data")
    data, task = load_data(folder / "data"), load_task("leave_one_out")
    split = task.make(data)
    seen = split.train.counts() > 0
    words = fit_words(TEXT, data.catalog, seen)
    found = catalog_features(["text"], data.catalog, Features(data.catalog.num_items), text=TEXT, tf_idf=words)
    settings = SequentialSettings(dim=32, epochs=12, validate_every=12, lr=3e-3, average=0.9).settled(
        data.catalog.num_items
    )
    learner = Learner(settings, split.train, {"text": (found["text"], found.present["text"])})
    learned = learner.learn(validation_of(split.valid))
    run = SequentialRun(learned.recommender, data.catalog, {"text": TEXT.model_dump()}, {"text": words})
    save_sequential(folder / "run" / "model", run, data_facts(data, split.card, seed=0))
    write_text(folder / "run" / CONFIG, f"data: {folder / 'data'}\noutput: {folder / 'run'}\nseed: 0\n")
    return RealRun(folder / "run", folder / "data", Catalog.from_rows([row for row in rows if row["item_id"] in gone]))


def nearest_seen(run: SequentialRun, new: Catalog) -> tuple[np.ndarray, np.ndarray]:
    """Of each new item the item with training events whose words are most alike: int64 (M,), and the cosine."""
    words, fields = run.words["text"], run.sources["text"]["fields"]
    old, added = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (
        words.encode(run.catalog.texts(fields)), words.encode(new.texts(fields))))  # fmt: skip
    alike = np.where(run.recommender.network.seen.numpy(), added @ old.T, -1)
    return alike.argmax(axis=1), alike.max(axis=1)
