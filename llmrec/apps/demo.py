"""`llmrec demo`: the main job on a real small language model and real data, from raw files to a report.

runs/demo/
  data/          MovieLens-100K prepared, with semantic ids
  run/           the fine-tuned recommender (recipes/next_item.py)
  demo.json      every number of the report
  report.html    the page to look at
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llmrec.apps.tokenize_command import tokenize
from llmrec.data.folder import Data, load_data
from llmrec.data.movielens import movielens_100k
from llmrec.data.prepare import prepare
from llmrec.data.splits import Split
from llmrec.errors import LlmrecError
from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.report import Example, Report, to_json, write_report
from llmrec.evaluation.runner import batches, evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.files import read_json, write_json
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.recommenders.artifact import MANIFEST, MODEL_FOLDER, load_artifact
from llmrec.recommenders.baselines import EaseR, fit_baselines
from llmrec.recommenders.hybrid import Hybrid
from llmrec.recommenders.language_model import recommender_of
from llmrec.recommenders.requests import Ranker, Requests
from llmrec.training.checkpoints import COMPLETE, LOG, read_log

console = Console(stderr=True)
SMOKE = ["backbone.num_layers=1", "training.max_steps=24", "training.evaluate_every=8", "training.log_every=1",
         "validation.max_users=60", "prompt.max_history=20"]  # fmt: skip
NUM_EXAMPLES = 3


def run_demo(out: Path, *, smoke: bool = False) -> None:
    """Prepares, tokenises, trains, evaluates, shows and reports; what is finished already is reused.

    smoke: the same path with a few steps of one layer, killed on purpose in the middle of training; checks that the loss falls, that
    the run resumes, and that every recommended item is real, and raises AssertionError where one does not hold.
    """
    started = time.monotonic()
    with _stage("data: MovieLens-100K"):
        data = _data(out / "data")
    with _stage("items: texts embedded, semantic ids"):
        codes = _semantic_ids(out / "data")
    overrides = [f"data={out / 'data'}", f"output={out / 'run'}", *(SMOKE if smoke else [])]
    with _stage("training: SmolLM2-135M with LoRA, one token an item"):
        if smoke:
            _train_killed_once(out / "run", overrides)
        else:
            _train(overrides)
    finished = out / "demo.json"
    made_from = read_json(out / "run" / MODEL_FOLDER / MANIFEST, what="the manifest of a run")
    if finished.exists() and read_json(finished, what="the demo's results")["manifest"] == made_from:
        console.print(f"evaluated already: {finished}")
    else:
        with _stage("evaluation: the whole catalogue, six recommenders, seen items excluded and kept"):
            report, llm = _evaluate(data, out / "run", max_cases=60 if smoke else None, codes=codes)
        if smoke:
            _check_smoke(data, out / "run", llm)
        write_report(out / "report.html", report)
        write_json(
            finished,
            {**to_json(report), "examples": [vars(example) for example in report.examples], "manifest": made_from},
        )
    _show(read_json(finished, what="the demo's results"))
    console.print(f"\nreport: {out / 'report.html'}   ({time.monotonic() - started:.0f} s)")
    console.print(f"go on with: llmrec chat {out / 'run'}")


def _data(folder: Path) -> Data:
    if not (folder / "data.json").exists():
        items, interactions, terms = movielens_100k()
        prepare(items, interactions, folder, name="ml-100k", terms=terms)
    return load_data(folder)


def _semantic_ids(data_folder: Path) -> SemanticIDs:
    """The catalogue's semantic ids from its texts; the demo's model does not use them, but the report shows what they look like."""
    folder = data_folder / "semantic_ids" / "rq-kmeans"
    if not folder.exists():
        tokenize(data_folder, field=["title", "genres"])
    return SemanticIDs.load(folder)


def _command(overrides: list[str]) -> list[str]:
    """`llmrec train` prints the `accelerate launch recipes/next_item.py ...` line that it runs."""
    return [sys.executable, "-m", "llmrec", "train", "next_item", "--config", "demo", *overrides]


def _train(overrides: list[str]) -> None:
    if subprocess.run(_command(overrides), check=False).returncode:
        raise LlmrecError(
            "the training of the demo failed; its own message stands above. Run the demo again to resume it."
        )


def _train_killed_once(run: Path, overrides: list[str]) -> None:
    """Trains, is killed without warning after the first checkpoint, and trains on."""
    if not (run / MODEL_FOLDER).exists():
        process = subprocess.Popen(_command(overrides), start_new_session=True)
        while process.poll() is None and not any(run.glob(f"checkpoints/*/{COMPLETE}")):
            time.sleep(0.05)
        if process.poll() is not None:
            raise LlmrecError(
                "the training of the demo ended before its first checkpoint; its own message stands above."
            )
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        console.print("killed after the first checkpoint; starting again")
    _train(overrides)


def _check_smoke(data: Data, run: Path, llm: Ranker) -> None:
    losses = {record["step"]: record["loss"] for record in read_log(run / LOG) if "loss" in record}
    assert sorted(losses) == list(range(1, 25)), f"each step once, before and after the kill: {sorted(losses)}"
    first, last = np.mean([losses[s] for s in range(1, 5)]), np.mean([losses[s] for s in range(21, 25)])
    assert last < first, f"the loss falls: {first:.3f} -> {last:.3f}"
    requests = Requests.from_cases(load_task("leave_one_out").split.make(data.interactions).test).take(np.arange(60))
    items = llm.rank(requests, 10, exclude_seen=True).items
    assert ((items >= 0) & (items < data.catalog.num_items)).all(), "ten real items for everybody"
    console.print(
        f"smoke: loss {first:.3f} -> {last:.3f}, resumed after kill -9, {items.size} recommended items, all real"
    )


def _evaluate(data: Data, run: Path, *, max_cases: int | None, codes: SemanticIDs) -> tuple[Report, Ranker]:
    task = load_task("leave_one_out")
    split = task.split.make(data.interactions)
    baselines = fit_baselines(split.fitted(task.fit))
    llm = recommender_of(load_artifact(run))
    ease_r = next(baseline for baseline in baselines if isinstance(baseline, EaseR))
    hybrid = Hybrid(llm, ease_r)
    hybrid.fit_weight(
        split.valid, exclude_seen=task.exclude_seen, batches=batches(len(split.valid), 256, "weighing the hybrid")
    )
    evaluations = [
        evaluate(recommender, data, asked, "test", split=split, max_cases=max_cases)
        for asked in (task, task.model_copy(update={"exclude_seen": False}))
        for recommender in (*baselines, llm, hybrid)
    ]
    card = llm.card
    facts = {
        **provenance("make demo", seed=0),
        "backbone": f"{card['backbone']['name']} from {card['backbone']['source']} ({card['backbone']['revision']}), {card['layers']}",
        "terms": data.card.get("terms"),
    }
    summary = (
        f"{card['backbone']['name']} ({card['layers']}), fine-tuned with LoRA on MovieLens-100K, ranks all "
        f"{data.catalog.num_items:,} films for {len(split.test)} users beside counters that learn in seconds."
    )
    report = Report(
        "A language model as a recommender: the demo", summary, evaluations, facts=facts, training=read_log(run / LOG),
        codes=codes.codes, codebook_sizes=codes.codebook_sizes, examples=_examples(data, split, llm),
    )  # fmt: skip
    return report, llm


def _examples(data: Data, split: Split, llm: Ranker) -> list[Example]:
    rows = np.linspace(0, len(split.test) - 1, NUM_EXAMPLES + 2).astype(int)[
        1:-1
    ]  # some users, chosen before anything was seen
    requests = Requests.from_cases(split.test).take(rows)
    ranking = llm.rank(requests, 10, exclude_seen=True)
    titles = data.catalog.titles
    return [
        Example(
            user_id=data.user_ids[int(split.test.users[row])],
            history=[titles[item] for item in requests.histories[place][-8:]],
            recommended=[titles[item] for item in ranking.items[place]],
            target=titles[int(split.test.targets[row])],
        )
        for place, row in enumerate(rows)
    ]


def _show(results: dict) -> None:
    """The numbers and the examples in the terminal."""
    table = Table(title="leave-one-out over the whole catalogue, seen items excluded", title_justify="left")
    for column in ("recommender", "Recall@10", "NDCG@10", "95 % interval", "cold targets"):
        table.add_column(column, justify="left" if column == "recommender" else "right")
    for evaluation in results["evaluations"]:
        if not evaluation["protocol"]["exclude_seen"]:
            continue
        recall, ndcg = evaluation["metrics"]["recall@10"], evaluation["metrics"]["ndcg@10"]
        cold = evaluation["slices"]["cold_target"]
        table.add_row(
            evaluation["protocol"]["recommender"]["name"], f"{recall['value']:.4f}", f"{ndcg['value']:.4f}",
            f"{ndcg['low']:.4f} to {ndcg['high']:.4f}",
            f"{cold['metrics']['recall@10']['value']:.4f} of {cold['num_users']}" if cold["num_users"] else "none",
        )  # fmt: skip
    console.print(table)
    for verdict in results["verdicts"]:
        console.print(f"{'+' if verdict['holds'] == 'yes' else '-'} {verdict['sentence']}", highlight=False)
    for example in results["examples"]:
        console.print(
            f"\n[bold]user {escape(example['user_id'])}[/bold], latest: {escape(' | '.join(example['history'][-4:]))}"
        )
        for place, title in enumerate(example["recommended"], 1):
            hit = "   <- what came next" if title == example["target"] else ""
            console.print(f"  {place:2}. {escape(title)}{hit}", highlight=False)


@contextmanager
def _stage(what: str) -> Iterator[None]:
    console.print(f"\n[bold]{what}[/bold]")
    start = time.monotonic()
    yield
    console.print(f"  {time.monotonic() - start:.0f} s", style="dim")
