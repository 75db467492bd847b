"""The quality of other packages' recommenders beside ours: one split, one evaluator, CPU minutes beside every number.

    make setup-peers
    python benchmarks/quality.py                                   # Amazon Beauty, all peers that end within 20 CPU minutes each
    python benchmarks/quality.py --data runs/data/mine --peers als ease_recency --budget 5 --fit train
    python benchmarks/quality.py --check                           # metrics equal ranx's, a peer's popularity equals ours
    python benchmarks/quality.py --page                            # the tables of docs/benchmarks.md again, from the results

A peer runs in an environment of its own (benchmarks/peers), reads the training events and the histories that are asked, and writes
scores; it never sees a target. Those scores are ranked by `llmrec.evaluation.runner.evaluate`: seen items filtered, ties by
expectation, intervals over users. Settings stand in quality_plan.py. Fitted on "train", a peer is asked the validation instances too,
by which settings may be chosen; a model that trains in epochs takes as many on "train+valid" as it took on "train".

CPU minutes are process time of the peer's training and of its scoring of all test requests, with one thread. A model that trains in
epochs ends with the last that fits into --budget; any other that uses it up has no row. Finished rows are kept in WORK/rows, so that a
run that was interrupted, or is given more peers, goes on. Before any number is printed, popularity as RecTools counts it has to have
our popularity's numbers to the last bit.

Exits 1 where it has not, 2 on wrong input.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path

import harness
import metric_check
import quality_page
from peer_files import Answers, PeerFailed
from quality_plan import PEERS, POPULARITY, PeerPlan

from llmrec.baselines.baseline import TrainedBaseline, fitted_on
from llmrec.baselines.by_name import NAMES, make_baseline
from llmrec.data.folder import Data, load_data
from llmrec.data.prepare import prepare
from llmrec.errors import ConfigError, LlmrecError
from llmrec.evaluation.runner import Evaluation, evaluate
from llmrec.evaluation.tasks import RankingTask, load_task
from llmrec.files import read_json, write_json
from llmrec.recommenders.requests import DenseRecommender, Requests

FITS = ("train", "train+valid")
TASK = ("metrics=[recall, ndcg, mrr]", "ks=[5, 10, 20]")


def flags() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("LLMREC_BENCH_DATA", ".")) / "amazon14_beauty"
    parser.add_argument(
        "--data", type=Path, default=default, help="data folder, or folder with items.jsonl.gz and interactions.tsv.gz"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="folder for data and finished rows")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), metavar="NAME", help=f"of: {', '.join(PEERS)}")
    parser.add_argument(
        "--ours",
        nargs="*",
        default=["markov", "ease_r", "item_knn", "ials"],
        metavar="NAME",
        help=f"baselines: {', '.join(NAMES)}",
    )
    parser.add_argument("--fit", nargs="+", choices=FITS, default=list(FITS), help="training events")
    parser.add_argument("--budget", type=float, default=20, help="CPU minutes of training a model may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; 1 for every number claimed")
    parser.add_argument("--out", type=Path, help="also write the result, JSON, to this file")
    parser.add_argument("--check", action="store_true", help="only compare metrics, training steps and popularity")
    parser.add_argument("--page", action="store_true", help="only write the tables of docs/benchmarks.md again")
    return parser  # fmt: skip


class Clocked(DenseRecommender):
    """A recommender that counts the CPU seconds of its scores."""

    def __init__(self, inner: DenseRecommender) -> None:
        self.inner, self.name, self.num_items, self.seconds = inner, inner.name, inner.num_items, 0.0

    @property
    def card(self) -> dict:
        """That of the recommender."""
        return self.inner.card

    def scores(self, requests: Requests):
        """float (U, I)."""
        start = time.process_time()
        scores = self.inner.scores(requests)
        self.seconds += time.process_time() - start
        return scores


class Bench:
    """Rows of one data folder, each measured once and kept."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data = data_of(options)
        self.tasks = {fit: load_task("leave_one_out", [f"fit={fit}", *TASK]) for fit in options.fit}
        self.split = next(iter(self.tasks.values())).split.make(self.data.interactions)
        self.protocol: dict = {}

    def row(self, name: str, fit: str, *, ours: bool) -> dict:
        """The kept row, or a new one. A row without metrics says in "absent" why."""
        who = "llmrec" if ours else "peers"
        file = self.options.work / "rows" / self.data.catalog.content_hash / fit / who / f"{name}.json"
        key = self._key(name, fit, ours=ours)
        if file.is_file():
            kept = read_json(file, "a finished row")
            if kept["key"] == key and not self._has_more_budget(kept["row"]):
                return kept["row"]
        print(f"{name} of {who}, fit {fit} ...", file=sys.stderr)
        row = self._ours(name, fit) if ours else self._peer(name, fit)
        row = {"name": name, "who": who, "fit": fit, "budget_min": self.options.budget, **row}
        write_json(file, {"key": key, "row": row})
        return row

    def _has_more_budget(self, row: dict) -> bool:
        return self.options.budget > row["budget_min"] and (
            "absent" in row or row["facts"].get("ended_by_budget", False)
        )

    def _key(self, name: str, fit: str, *, ours: bool) -> dict:
        """All that a row depends on but the machine and the budget."""
        task = self.tasks[fit].model_dump(mode="json")
        if ours:
            what = {"settings": make_baseline(name).card}
        else:
            plan = self._plan(name, fit)
            what = {"script": plan.script, "model": plan.model, "settings": plan.settings}
        return {
            "data": self.data.content_hash(),
            "task": task,
            "seed": self.options.seed,
            "threads": self.options.threads,
            **what,
        }

    def _plan(self, name: str, fit: str) -> PeerPlan:
        """On train+valid as many epochs as on train."""
        plan = PEERS[name]
        if fit == "train" or "epochs" not in plan.settings or "train" not in self.tasks:
            return plan
        trained = self.row(name, "train", ours=False)
        epochs = trained.get("facts", {}).get("epochs", plan.settings["epochs"])
        return PeerPlan(plan.script, plan.model, plan.settings | {"epochs": epochs})

    def _peer(self, name: str, fit: str) -> dict:
        plan, task, split = self._plan(name, fit), self.tasks[fit], self.split
        asked = {"test": split.test} | ({"valid": split.valid} if fit == "train" else {})
        # trained for exactly as many epochs as before, whatever that takes
        budget = self.options.budget * (1.5 if fit != "train" and "epochs" in plan.settings else 1)
        shown = {"package": plan.script, "settings": plan.settings}
        try:
            with Answers(
                name, plan, split.fitted(fit), asked, work=self.options.work, k=max(task.ks), seed=self.options.seed, budget_min=budget
            ) as answers:  # fmt: skip
                found = {subset: self._evaluate(answers.recommender(subset), task, subset) for subset in asked}
                seconds, result = answers.result["cpu_seconds"], answers.result
        except PeerFailed as problem:
            print(f"  {problem}", file=sys.stderr)
            return {**shown, "facts": {}, "absent": str(problem)}
        minutes = {"train": seconds["train"] / 60, "score": seconds["score"]["test"] / 60}
        return {**shown, "facts": result["facts"], "versions": result["versions"], "cpu_minutes": minutes, **found}

    def _ours(self, name: str, fit: str) -> dict:
        """Models that train in epochs are trained anew on train+valid for as many as validation chose: their minutes are of both."""
        task, seeded = self.tasks[fit], "seed" in make_baseline(name).card
        model = make_baseline(name, [f"seed={self.options.seed}"] if seeded else [], self.data.catalog)
        clocked = Clocked(fitted_on(model, self.split, fit, refit=fit == "train+valid"))
        found = {"test": self._evaluate(clocked, task, "test")}
        minutes = {"train": model.fit_cpu_minutes, "score": clocked.seconds / 60}
        if fit == "train":
            found["valid"] = self._evaluate(clocked, task, "valid")
        facts = {"epochs": model.epochs_chosen} if isinstance(model, TrainedBaseline) else {}
        return {"package": "llmrec", "settings": model.card, "facts": facts, "cpu_minutes": minutes, **found}

    def _evaluate(self, recommender, task: RankingTask, subset: str) -> dict:
        result: Evaluation = evaluate(recommender, self.data, task, subset, split=self.split)
        return {
            "metrics": result.metrics,
            "num_users": result.protocol["num_users"],
            "ranked_by": result.protocol["ranked_by"],
        }


def data_of(options: argparse.Namespace) -> Data:
    """The prepared folder, or raw files prepared once into WORK/data. Raises ConfigError where there is neither."""
    if (options.data / "data.json").is_file():
        return load_data(options.data)
    items, events = options.data / "items.jsonl.gz", options.data / "interactions.tsv.gz"
    if not (items.is_file() and events.is_file()):
        raise ConfigError(
            f"'{options.data}' is neither a data folder nor one with items.jsonl.gz and interactions.tsv.gz. "
            "Name one by --data, or the folder of the sets by LLMREC_BENCH_DATA."
        )
    prepared = options.work / "data" / options.data.name
    return (
        load_data(prepared)
        if (prepared / "data.json").is_file()
        else prepare(items, events, prepared, name=options.data.name)
    )


def check_popularity(bench: Bench) -> None:
    """Raises NotIdentical unless popularity of RecTools, through files and our evaluator, has our popularity's very numbers."""
    for fit in bench.tasks:
        peer, ours = (bench.row(POPULARITY, fit, ours=mine) for mine in (False, True))
        if "absent" in peer:
            raise PeerFailed(peer["absent"])
        for subset in ("test", "valid") if fit == "train" else ("test",):
            harness.require_identical(
                peer[subset] == ours[subset], f"popularity of RecTools and ours on '{subset}', fit '{fit}'"
            )


def run(options: argparse.Namespace) -> dict:
    """All rows, popularity first. Raises ConfigError for a name that there is not."""
    for given, known in ((options.peers, PEERS), (options.ours, NAMES)):
        if unknown := [name for name in given if name not in known]:
            raise ConfigError(f"there is no '{unknown[0]}' to measure (there are: {', '.join(known)}).")
    bench = Bench(options)
    check_popularity(bench)
    wanted = [(POPULARITY, True), *((name, True) for name in options.ours if name != POPULARITY)]
    wanted += [(name, False) for name in options.peers if name != POPULARITY]
    rows = [bench.row(name, fit, ours=ours) for fit in bench.tasks for name, ours in wanted]
    task = next(iter(bench.tasks.values())).model_dump(mode="json")
    card = bench.data.card
    return {
        "bench": "quality",
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "seed": options.seed,
        "budget_min": options.budget,
        "data": {key: card.get(key) for key in ("name", "content_hash", "counts", "ties")},
        "task": {key: value for key, value in task.items() if key != "fit"},
        "popularity_identical": True,
        "rows": rows,
        "machine": harness.machine(options.threads),
    }


def main() -> None:
    """The command line."""
    options = flags().parse_args()
    if options.page:
        quality_page.write()
        return
    harness.with_threads(options.threads)
    try:
        if options.check:
            metric_check.run()
            return
        result = run(options)
    except harness.NotIdentical as difference:
        print(f"quality: not identical: {difference}. No number is printed.", file=sys.stderr)
        sys.exit(1)
    except LlmrecError as problem:
        print(f"quality: {problem}", file=sys.stderr)
        sys.exit(2)
    if options.out is not None:
        write_json(options.out, result)
    print(quality_page.tables(json.loads(json.dumps(result))))


if __name__ == "__main__":
    main()
