"""What items are worth that were added to a finished run with `llmrec add-items`: found in the first ten without retraining?

    python benchmarks/cold_items.py --data $LLMREC_BENCH_DATA/amazon14_beauty --work runs/cold_items

1. A share of the items, sampled by seed, is held out of everything: their rows leave the catalogue and their events the histories.
2. The other items are tokenised (`llmrec tokenize`) and a small decoder is trained on them from scratch (three codes per item).
3. The held-out items are added to that run (`llmrec add-items`): by their titles and fields, through the kept codebooks.
4. Users whose last event is a held-out item are asked for it, and as many others for their own last event, before and after.

The histories that are asked hold no held-out item: a held-out event that is not the user's last is left out. Compared with it are the
same run with the new items at random free codes, the encoder's texts alone (nearest to the mean of the history), popularity, and
chance. WORK is filled as by hand with the commands above, and what is finished there is used again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import harness
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.artifacts.run_folder import load_artifact
from llmrec.baselines.popularity import Popularity
from llmrec.data.folder import Data, load_data
from llmrec.data.readers import read_interactions, read_items
from llmrec.data.splits import Instances, Split
from llmrec.encoders.text import encode_texts
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.files import write_arrow
from llmrec.items.forms import semantic_id_tokens
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.prompting.encoder import PromptEncoder
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.requests import DenseRecommender, Ranker, Requests

SETTINGS = (
    "items.form=semantic_id", "items.start=text", "items.dropout=0.2", "backbone.dtype=float32", "prompt.max_history=20",
    "validation.max_users=300", "validation.num_beams=10",
)  # fmt: skip


def flags() -> argparse.ArgumentParser:
    """The command line."""
    result = harness.parser(__doc__, quick={"epochs": 1, "max_instances": 100}, rounds=1)
    default = Path(os.environ.get("LLMREC_BENCH_DATA", ".")) / "amazon14_beauty"
    result.add_argument("--data", type=Path, default=default, help="folder with items.jsonl.gz and interactions.tsv.gz")
    result.add_argument("--work", type=Path, default=Path("runs/cold_items"), help="folder for data, run and grown run")
    result.add_argument("--share", type=float, default=0.05, help="share of the items that is held out")
    result.add_argument("--seed", type=int, default=0, help="of the samples, the codes and the training")
    result.add_argument("--epochs", type=float, default=5, help="passes over the training examples")
    result.add_argument(
        "--softmax-scope",
        choices=("level", "trie", "vocabulary"),
        default="trie",
        help="loss and softmax scope of the run",
    )
    result.add_argument("--max-instances", type=int, default=10_000, help="users asked at most, of either kind")
    return result


# -- 1. data ----------------------------------------------------------------------------------------------------------
def hold_out(options: argparse.Namespace) -> None:
    """Writes WORK/warm and WORK/asked, both data folders, and WORK/new_items.parquet."""
    items = read_items(options.data / "items.jsonl.gz")
    events = read_interactions(options.data / "interactions.tsv.gz")
    rng = np.random.default_rng(options.seed)
    titled = np.flatnonzero(pc.fill_null(pc.not_equal(items["title"], ""), False))  # add-items asks for titles
    is_new = np.zeros(len(items), bool)
    is_new[rng.choice(titled, round(options.share * len(items)), replace=False)] = True
    new_ids = items["item_id"].filter(pa.array(is_new)).combine_chunks()
    of_new = np.asarray(pc.is_in(events["item_id"].cast(pa.string()), new_ids))
    users = events["user_id"].combine_chunks().indices.to_numpy()
    order = np.lexsort((np.arange(len(users)), events["step"].to_numpy(), users))
    last = np.zeros(len(users), bool)
    last[order[np.append(np.diff(users[order]) != 0, True)]] = True
    tables = {
        "warm_items": items.filter(pa.array(~is_new)),
        "new_items": items.filter(pa.array(is_new)),
        "warm_events": events.filter(pa.array(~of_new)),
        "asked_events": events.filter(pa.array(~of_new | last)),
    }
    # the old items first, in their order: the catalogue of a run that the new ones were added to
    tables["all_items"] = pa.concat_tables([tables["warm_items"], tables["new_items"]])
    for name, table in tables.items():
        write_arrow(options.work / f"{name}.parquet", table)
    for name, which in (("warm", "warm_items"), ("asked", "all_items")):
        llmrec(
            "data", "prepare", "--items", options.work / f"{which}.parquet",
            "--interactions", options.work / f"{name}_events.parquet", "--out", options.work / name,
        )  # fmt: skip


# -- 2. and 3. the run, and the run with the new items ------------------------------------------------------------------
def train_and_add(options: argparse.Namespace) -> None:
    """Writes WORK/run and WORK/grown."""
    work = options.work
    llmrec("tokenize", work / "warm", "--seed", options.seed)
    llmrec(
        "train", "next_item", "--config", "amazon_beauty_scratch", f"data={work / 'warm'}", f"output={work / 'run'}",
        *SETTINGS, f"loss.softmax_scope={options.softmax_scope}", f"training.epochs={options.epochs}", f"seed={options.seed}",
    )  # fmt: skip
    llmrec("add-items", work / "run", work / "new_items.parquet", "--out", work / "grown")


def llmrec(*arguments: object) -> None:
    """One command, shown as it would be typed."""
    words = [str(argument) for argument in arguments]
    print(f"llmrec {shlex.join(words)}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "llmrec", *words], check=True, stdout=sys.stderr)


# -- 4. who finds them --------------------------------------------------------------------------------------------------
class TextNeighbours(DenseRecommender):
    """Items whose encoded texts are nearest to the mean of the history's: no model, no training."""

    name = "texts_alone"

    def __init__(self, vectors: np.ndarray) -> None:
        """vectors: float32 (I, D), each of length 1."""
        self.vectors, self.num_items = vectors, len(vectors)

    def scores(self, requests: Requests) -> np.ndarray:
        """Cosines with the mean of the history, float32 (U, I)."""
        means = [self.vectors[requests.histories[row]].mean(axis=0) for row in range(len(requests))]
        return np.stack(means) @ self.vectors.T


@dataclass(frozen=True)
class Asked:
    """Users whose last event is a new item, and as many others."""

    of_new: Instances
    of_old: Instances
    split: Split
    data: Data
    old_data: Data
    new_items: np.ndarray  # int64


def ask(options: argparse.Namespace) -> Asked:
    """The test instances of WORK/asked; items from the number of WORK/warm's on are new."""
    data, old_data = load_data(options.work / "asked"), load_data(options.work / "warm")
    split = load_task("leave_one_out").make(data)
    num_old = old_data.catalog.num_items
    is_new = split.test.targets >= num_old
    rng = np.random.default_rng(options.seed)
    of_new, of_old = (rng.permutation(np.flatnonzero(rows))[: options.max_instances] for rows in (is_new, ~is_new))
    of_old = np.sort(of_old[: len(of_new)])
    new_items = np.arange(num_old, data.catalog.num_items)
    assert split.train.counts()[new_items].sum() == 0, "no new item has an event before the last of a user"
    return Asked(_take(split.test, np.sort(of_new)), _take(split.test, of_old), split, data, old_data, new_items)


def _take(instances: Instances, rows: np.ndarray) -> Instances:
    return Instances(instances.users[rows], instances.histories.take(rows), instances.targets[rows], None)


def at_random_codes(model: LanguageModel, ids: SemanticIDs, num_old: int, seed: int) -> LanguageModel:
    """The same model with its new items at free codes sampled by seed."""
    sizes = np.array(ids.codebook_sizes)
    sampled = np.random.default_rng(seed).integers(0, sizes, (4 * ids.num_items, len(sizes)))
    sampled = sampled[ids.decode(sampled) < 0]
    _, first = np.unique(sampled, axis=0, return_index=True)
    sampled = sampled[np.sort(first)][: ids.num_items - num_old]
    codes = np.concatenate([ids.codes[:num_old], sampled]).astype(np.int32)
    tokens = semantic_id_tokens(SemanticIDs(codes, ids.codebook_sizes), model.backbone.base_vocab_size)
    old = model.encoder
    encoder = PromptEncoder(
        old.prompt, old.tokenizer, tokens, model.catalog,
        max_history=old.max_history, history_step=old.history_step, max_tokens=old.max_tokens,
    )  # fmt: skip
    return replace(model, item_tokens=tokens, encoder=encoder)


def measure(ranker: Ranker, asked: Asked) -> dict[str, dict]:
    """Recall@10 and NDCG@10 over the whole catalogue for either kind of user, and recall among the new items alone."""
    task = load_task("leave_one_out").model_copy(update={"metrics": ("recall", "ndcg"), "ks": (10,)})
    knows_new = ranker.num_items == asked.data.catalog.num_items
    result = {}
    for kind, instances in (("new_target", asked.of_new), ("old_target", asked.of_old)):
        if kind == "old_target" or knows_new:
            data = asked.data if knows_new else asked.old_data
            found = evaluate(ranker, data, task, split=replace(asked.split, test=instances))
            result[kind] = found.metrics
            assert found.slices["cold_target"]["num_users"] >= (len(instances) if kind == "new_target" else 0)
    if knows_new and not isinstance(ranker, Popularity):  # to which all new items are equal
        requests = Requests.from_instances(asked.of_new)
        items = ranker.rank(requests, 10, exclude_seen=True, candidates=asked.new_items).items
        hits = items == asked.of_new.targets[:, None]
        result["new_target_among_new"] = {f"recall@{k}": float(hits[:, :k].any(axis=1).mean()) for k in (2, 10)}
    return result


def run(options: argparse.Namespace) -> dict:
    """See the module's docstring."""
    hold_out(options)
    train_and_add(options)
    asked = ask(options)
    grown, before = load_artifact(options.work / "grown"), load_artifact(options.work / "run")
    ids = SemanticIDs.load(options.work / "grown" / "semantic_ids")
    num_old, num_items = before.catalog.num_items, grown.catalog.num_items
    scattered = at_random_codes(grown, ids, num_old, options.seed)
    rankers = {
        "add_items": recommender_of(grown),
        "random_free_codes": recommender_of(scattered),
        "before_adding": recommender_of(before),
        "texts_alone": TextNeighbours(encode_texts(grown.catalog.texts(ids.card["fields"]))),
        "popularity": Popularity().fit(asked.split.train),
    }
    return {
        "items": {"old": num_old, "new": num_items - num_old},
        "users": {"new_target": len(asked.of_new), "old_target": len(asked.of_old)},
        "chance": {"recall@10": 10 / num_items, "among_new": 10 / (num_items - num_old)},
        "run": {key: before.card[key] for key in ("form", "softmax_scope", "layers")} | {"epochs": options.epochs},
        "results": {name: measure(ranker, asked) for name, ranker in rankers.items()},
    }


if __name__ == "__main__":
    harness.main(flags(), run)
