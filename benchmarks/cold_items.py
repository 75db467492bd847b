"""What items are worth that were added to a finished run with `llmrec add-items`: found in the first ten without retraining?

    python benchmarks/cold_items.py --recipe sequential --draws 3 --data $LLMREC_BENCH_DATA/amazon14_beauty --work runs/cold_items
    python benchmarks/cold_items.py --recipe next_item loss.softmax_scope=level ...

1. A share of the items, sampled by seed, is held out of everything: their rows leave the catalogue and their events the histories
   (`held_items.py`). Each draw holds out others.
2. A model is trained on the rest (`llmrec train`), with any recipe, config and settings. Without --config next_item is a small decoder
   from scratch on three codes an item (`llmrec tokenize`), by the settings below.
3. The held-out items are added to that run (`llmrec add-items`): by their titles and fields, without training.
4. Users whose last event is a held-out item are asked for it, and as many others for their own last event, before and after.

Compared with it are: the same run with the scores of new items raised by ln(odds), so that each counts as `odds` of itself in the
softmax; with semantic ids, the new items at random free codes; texts alone, by a sentence encoder (nearest to the mean of the
history) and by the baseline `text_neighbours` (TF-IDF of the old items' words, the latest events first); popularity; and a random
order. Intervals are over users and over items (all the users of one item together), over the draws as one.

WORK/draw-N holds the data of a draw and a folder for each --name with run, grown run and what was measured; finished parts are used
again.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import harness
import numpy as np
import scipy.sparse as sp
from held_items import Asked, hold_out, llmrec, who_is_asked

from llmrec.baselines.popularity import Popularity
from llmrec.baselines.text_neighbours import TextNeighbours
from llmrec.encoders.text import encode_texts
from llmrec.encoders.tf_idf import fitted_tf_idf
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.files import read_json, write_json
from llmrec.items.forms import semantic_id_tokens
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.metrics import ratio_resamples
from llmrec.prompting.encoder import PromptEncoder
from llmrec.recommender import Recommender
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.requests import Ranker, Ranking, Requests

# Where no config is named: the config, and the settings before those that are given.
DEFAULTS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "next_item": (
        "amazon_beauty_scratch",
        (
            "items.form=semantic_id", "items.start=text", "items.dropout=0.2", "backbone.dtype=float32",
            "prompt.max_history=20", "validation.max_users=300", "validation.num_beams=10", "loss.softmax_scope=trie",
            "training.epochs=5",
        ),
    ),
    "sequential": (None, ()),
}  # fmt: skip
EPOCHS = {"next_item": "training.epochs", "sequential": "epochs"}
KS = (2, 10)


def flags() -> argparse.ArgumentParser:
    """The command line."""
    result = harness.parser(__doc__, quick={"max_instances": 100, "max_epochs": 1}, rounds=1)
    default = Path(os.environ.get("LLMREC_BENCH_DATA", ".")) / "amazon14_beauty"
    result.add_argument("settings", nargs="*", metavar="key=value", help="settings of the recipe")
    result.add_argument("--recipe", choices=tuple(DEFAULTS), default="next_item", help="what the run is trained by")
    result.add_argument("--config", help="a config of the recipe; without it see above")
    result.add_argument("--name", help="folder of the runs in each draw's; by default RECIPE or RECIPE-CONFIG")
    result.add_argument("--data", type=Path, default=default, help="folder with items.jsonl.gz and interactions.tsv.gz")
    result.add_argument("--work", type=Path, default=Path("runs/cold_items"), help="folder for data and runs")
    result.add_argument("--share", type=float, default=0.05, help="share of the items that is held out")
    result.add_argument("--draws", type=int, default=1, help="how many times, by other seeds")
    result.add_argument("--seed", type=int, default=0, help="of the first draw: its samples, codes and training")
    result.add_argument(
        "--odds", type=float, nargs="*", default=[0.25, 4, 16], help="strengths of the bias on new items"
    )
    result.add_argument("--max-epochs", type=int, help="instead of the config's or the settings'")
    result.add_argument("--max-instances", type=int, default=10_000, help="users asked at most, of either kind")
    return result


# -- the run, and the run with the new items ------------------------------------------------------------------------------
def train_and_add(options: argparse.Namespace, draw: Path, work: Path, seed: int) -> None:
    """Writes WORK/run and WORK/grown, unless they are there."""
    config, settings = (options.config, ()) if options.config else DEFAULTS[options.recipe]
    if (work / "grown").exists():
        return
    if options.recipe == "next_item" and not (draw / "warm" / "semantic_ids").exists():
        llmrec("tokenize", draw / "warm", "--seed", seed)
    named = ["--config", config] if config else []
    epochs = [f"{EPOCHS[options.recipe]}={options.max_epochs}"] if options.max_epochs else []
    llmrec(
        "train", options.recipe, *named, f"data={draw / 'warm'}", f"output={work / 'run'}", f"seed={seed}",
        *settings, *options.settings, *epochs,
    )  # fmt: skip
    llmrec("add-items", work / "run", draw / "new_items.parquet", "--out", work / "grown")


# -- who finds them -------------------------------------------------------------------------------------------------------
class Biased:
    """A ranker whose scores of new items are raised: the best old and the best new items of each request, merged."""

    def __init__(self, ranker: Ranker, bias: float, old_items: np.ndarray, new_items: np.ndarray) -> None:
        """bias: in the unit of the scores; of logits and of log-probabilities ln(m) makes m items of each new one."""
        self.name, self.num_items, self.card = ranker.name, ranker.num_items, {**ranker.card, "bias": bias}
        self.ranker, self.parts = ranker, ((old_items, 0.0), (new_items, bias))

    def rank(self, requests: Requests, k: int, *, exclude_seen: bool, candidates: np.ndarray | None = None) -> Ranking:
        """See `Ranker.rank`; there are no candidates here."""
        assert candidates is None, candidates
        found = [self.ranker.rank(requests, k, exclude_seen=exclude_seen, candidates=part) for part, _ in self.parts]
        items = np.concatenate([part.items for part in found], axis=1)
        scores = np.concatenate([part.scores + bias for part, (_, bias) in zip(found, self.parts, strict=True)], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return Ranking(np.take_along_axis(items, best, axis=1), np.take_along_axis(scores, best, axis=1))


def at_random_codes(grown: Path, ranker: Ranker, num_old: int, seed: int) -> Ranker:
    """The same model with its new items at free codes sampled by seed."""
    model, ids = ranker.model, SemanticIDs.load(grown / "semantic_ids")
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
    return recommender_of(replace(model, item_tokens=tokens, encoder=encoder))


def rankers_of(options: argparse.Namespace, asked: Asked, work: Path, seed: int) -> dict[str, Callable[[], Ranker]]:
    """What is measured, by name; each is made when it is asked for, so that one at a time is in memory beside the run."""
    texts, num_old = asked.data.catalog.texts(), len(asked.old_items)

    def nearest(vectors: np.ndarray | sp.csr_array, **settings: float) -> Ranker:
        return TextNeighbours(vectors=vectors, **settings).fit(asked.split.train)

    grown = Recommender.from_pretrained(work / "grown").ranker
    assert grown.num_items == asked.data.catalog.num_items, (grown.num_items, asked.data.catalog.num_items)
    rankers: dict[str, Callable[[], Ranker]] = {"add_items": lambda: grown}
    for odds in options.odds:
        rankers[f"odds_{odds:g}"] = lambda odds=odds: Biased(grown, math.log(odds), asked.old_items, asked.new_items)
    if (work / "grown" / "semantic_ids").exists():
        rankers["random_free_codes"] = lambda: at_random_codes(work / "grown", grown, num_old, seed)
    return rankers | {
        "before_adding": lambda: Recommender.from_pretrained(work / "run").ranker,
        "texts_alone": lambda: nearest(encode_texts(texts), recency=1.0, latest=10_000),
        "text_neighbours": lambda: nearest(fitted_tf_idf(texts[:num_old]).rows(texts)),
        "popularity": lambda: Popularity().fit(asked.split.train),
    }


def measure(ranker: Ranker, asked: Asked) -> dict[str, dict[str, list[float]]]:
    """Recall@10 and NDCG@10 over the whole catalogue for either kind of user, and recall among the new items alone: of every user."""
    task = load_task("leave_one_out").model_copy(update={"metrics": ("recall", "ndcg"), "ks": (10,)})
    knows_new = ranker.num_items == asked.data.catalog.num_items
    result = {}
    for kind in ("new_target", "old_target") if knows_new else ("old_target",):
        data, instances = asked.data if knows_new else asked.old_data, asked.instances(kind)
        found = evaluate(ranker, data, task, split=replace(asked.split, test=instances))
        assert found.slices["cold_target"]["num_users"] >= (len(instances) if kind == "new_target" else 0)
        result[kind] = {name: values.tolist() for name, values in found.per_user.items()}
    # to popularity all new items are equal, and a bias keeps their order
    if not knows_new or isinstance(ranker, Popularity | Biased):
        return result
    requests, width = Requests.from_instances(asked.of_new), max(KS)
    items = ranker.rank(requests, width, exclude_seen=True, candidates=asked.new_items).items
    hits = items == asked.of_new.targets[:, None]
    result["new_target_among_new"] = {f"recall@{k}": hits[:, :k].any(axis=1).astype(float).tolist() for k in KS}
    listed = ranker.rank(Requests.from_instances(asked.of_old), width, exclude_seen=True).items
    result["new_items_a_list"] = {"mean": (listed >= len(asked.old_items)).sum(axis=1).astype(float).tolist()}
    return result


def one_draw(options: argparse.Namespace, seed: int) -> dict:
    """What every user of one draw found; kept in WORK/draw-SEED/NAME/measured.json with what it was asked for."""
    name = options.name or "-".join(filter(None, (options.recipe, options.config)))
    draw = options.work / f"draw-{seed}"
    work, kept = draw / name, draw / name / "measured.json"
    keys = ("recipe", "config", "settings", "share", "odds", "max_epochs", "max_instances")
    asked_for = {key: getattr(options, key) for key in keys} | {"seed": seed}
    if kept.is_file() and (known := read_json(kept, "what was measured"))["asked_for"] == asked_for:
        return known
    hold_out(options.data, draw / "data", options.share, seed)
    train_and_add(options, draw / "data", work, seed)
    asked = who_is_asked(draw / "data", options.max_instances, seed)
    found = {name: measure(make(), asked) for name, make in rankers_of(options, asked, work, seed).items()}
    result = {
        "asked_for": asked_for,
        "items": {"old": len(asked.old_items), "new": len(asked.new_items)},
        "asked": {kind: asked.names(kind) for kind in ("new_target", "old_target")},
        "found": found,
    }
    write_json(kept, result)
    return result


# -- over the draws -------------------------------------------------------------------------------------------------------
def interval(values: np.ndarray, groups: Sequence[str]) -> list[float]:
    """[low, high], 95 %, of the mean, of groups of values sampled with replacement."""
    at = np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(at, values), np.bincount(at)], axis=1)  # (groups, 2)
    return np.quantile(ratio_resamples(sums), [0.025, 0.975]).tolist()


def summary(draws: Sequence[dict], values: Callable[[dict], list[float]], kind: str) -> dict:
    """The mean over the users of all draws, that of each draw, and intervals over users and over items."""
    found = [np.array(values(draw), float) for draw in draws]
    who = {what: [each for draw in draws for each in draw["asked"][kind][what]] for what in ("users", "items")}
    together = np.concatenate(found)
    return {
        "value": float(together.mean()),
        "over_users": interval(together, who["users"]),
        "over_items": interval(together, who["items"]),
        "draws": [float(each.mean()) for each in found],
    }


def results_of(draws: Sequence[dict]) -> dict:
    """name -> kind -> metric -> `summary`."""
    return {
        name: {
            kind: {
                metric: summary(
                    draws,
                    lambda draw, at=(name, kind, metric): draw["found"][at[0]][at[1]][at[2]],
                    "new_target" if kind.startswith("new_target") else "old_target",
                )
                for metric in metrics
            }
            for kind, metrics in kinds.items()
        }
        for name, kinds in draws[0]["found"].items()
    }


def differences_of(draws: Sequence[dict]) -> dict:
    """Paired differences of Recall@10: from texts alone for new targets, from the run before adding for old ones."""
    pairs = [
        ("new_target", kind, "add_items", other)
        for kind in ("new_target", "new_target_among_new")
        for other in ("texts_alone", "text_neighbours")
    ]
    after = [name for name in draws[0]["found"] if name == "add_items" or name.startswith("odds_")]
    pairs += [("old_target", "old_target", name, "before_adding") for name in after]

    def difference(draw: dict, kind: str, one: str, other: str) -> np.ndarray:
        return np.subtract(*(draw["found"][name][kind]["recall@10"] for name in (one, other)))

    return {
        f"{one} - {other}, {kind}": summary(draws, lambda draw, at=(kind, one, other): difference(draw, *at), asked)
        for asked, kind, one, other in pairs
    }


def run(options: argparse.Namespace) -> dict:
    """See the module's docstring."""
    draws = [one_draw(options, options.seed + number) for number in range(options.draws)]
    num_new, num_old = (np.array([draw["items"][which] for draw in draws]) for which in ("new", "old"))
    return {
        "items": draws[0]["items"],
        "users": {kind: [len(draw["asked"][kind]["users"]) for draw in draws] for kind in ("new_target", "old_target")},
        "random_order": {
            "recall@10": float(np.mean(10 / (num_new + num_old))),
            "among_new": float(np.mean(10 / num_new)),
        },
        "results": results_of(draws),
        "differences": differences_of(draws),
    }


if __name__ == "__main__":
    harness.main(flags(), run)
