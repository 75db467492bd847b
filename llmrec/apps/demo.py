"""`llmrec demo`: the main job on a real small language model and real data, from raw files to a report.

runs/demo/
  data/          MovieLens-100K prepared, with an image per film and semantic ids
  run/           the fine-tuned recommender (recipes/next_item.py), one token per film
  soft/          another, that reads films as soft tokens of their texts, images and low-rank EASE-R embeddings
  demo.json      every number of the report
  report.html    the page to look at
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llmrec.apps.semantic_ids import print_quality, write_semantic_ids
from llmrec.apps.title_cards import STAND_INS, items_with_images
from llmrec.artifacts.run_folder import MANIFEST, MODEL_FOLDER, load_artifact
from llmrec.data.added_parts import added_parts
from llmrec.data.folder import Data, load_data
from llmrec.data.movielens import movielens_100k
from llmrec.data.prepare import prepare
from llmrec.errors import ConfigError, LlmrecError
from llmrec.evaluation.compare import Comparison
from llmrec.evaluation.names import name_in_words
from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.report import Report, to_json, write_report
from llmrec.evaluation.tasks import load_task
from llmrec.files import content_hash, read_json, sweep, unfinished, write_json
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.processes import with_parent
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.requests import Ranker, Requests
from llmrec.training.checkpoints import COMPLETE, LOG, read_log

console = Console(stderr=True)
SMOKE = ["backbone.num_layers=1", "training.max_steps=24", "training.evaluate_every=8", "training.log_every=1",
         "validation.max_users=60", "prompt.max_history=20"]  # fmt: skip
SMOKE_SOFT = ["backbone.num_layers=1", "training.max_steps=8", "training.evaluate_every=8", "training.log_every=1",
              "validation.max_users=60", "prompt.max_history=20"]  # fmt: skip
FORMAT = 2  # of demo.json; rises when it says something else of the same runs
SMOKE_IMAGES = 100  # films that get one
NUM_EXAMPLES = 3
PARTS = ("data", "run", "soft", "demo.json", "report.html")  # of a demo's folder
CODES = "rq-kmeans"
SOFT_NAME = "llm_soft"  # in the report
SWAPPED, SHOWN, WATCHED = (
    "50",
    "181",
    "172",
)  # Star Wars gets the image of Return of the Jedi; The Empire Strikes Back


def run_demo(out: Path, *, seed: int = 0, smoke: bool = False, posters: Path | None = None) -> None:
    """Prepares, tokenises, trains, evaluates, shows and reports; what is finished already is reused.

    seed: of both trainings; each seed has a folder of its own.
    posters: a folder of film posters named ITEM_ID.jpg or ITEM_ID.png; None for title cards (`title_cards`).
    smoke: the same path with a few steps of one layer, killed on purpose in the middle of training; checks that the loss falls, that
    the run resumes, that every recommended item is real, and that another image of a film changes what it should and nothing else,
    and raises AssertionError where one does not hold.
    """
    started = time.monotonic()
    check_demo_folder(out)
    with _stage("data: MovieLens-100K, an image per film"):
        data = _data(out / "data", posters=posters, num_images=SMOKE_IMAGES if smoke else None)
    with _stage("items: texts embedded, semantic ids"):
        codes = _semantic_ids(out / "data")
    common = [f"data={out / 'data'}", f"seed={seed}"]
    overrides = [*common, f"output={out / 'run'}", *(SMOKE if smoke else [])]
    with _stage("training: SmolLM2-135M with LoRA, one token per item"):
        if smoke:
            _train_killed_once(out / "run", overrides)
        else:
            _train("demo", overrides)
    with _stage("training: the same films as soft tokens of texts, images and low-rank EASE-R embeddings"):
        _train("demo_soft", [*common, f"output={out / 'soft'}", *(SMOKE_SOFT if smoke else [])])
    finished = out / "demo.json"
    runs = {name: out / name for name in ("run", "soft")}
    made_from = {
        name: read_json(run / MODEL_FOLDER / MANIFEST, what="the manifest of a run") for name, run in runs.items()
    }
    written = {"format": FORMAT, "manifests": made_from}
    if finished.exists() and written.items() <= read_json(finished, what="the demo's results").items():
        console.print(f"evaluated already: {finished}")
    else:
        with _stage(
            "evaluation: the whole catalogue, seven recommenders, with seen items filtered and without filtering"
        ):
            report, llm = _evaluate(data, runs, seed=seed, max_instances=60 if smoke else None, codes=codes)
        if smoke:
            _check_smoke(data, out / "run", llm)
        write_report(out / "report.html", report)
        write_json(
            finished,
            {**to_json(report), "examples": [vars(example) for example in report.examples], **written},
        )
    image = _image_arguments(data, out)
    if smoke:
        with _stage("another image of a film"):
            _check_image(image)
    _show(read_json(finished, what="the demo's results"))
    console.print(f"\nreport: {out / 'report.html'}   ({time.monotonic() - started:.0f} s)")
    console.print(f"go on with: llmrec chat {out / 'run'}")
    console.print(f"or in the browser: llmrec web {out / 'run'} {out / 'soft'}", soft_wrap=True)
    console.print(f"another image of a film: llmrec {' '.join(image)}", soft_wrap=True)


def check_demo_folder(out: Path) -> None:
    """Raises ConfigError unless `out` is new, empty, or a demo's: what is somebody's own is not written among."""
    try:
        there = {entry.name for entry in set(out.iterdir()) - set(unfinished(out))} if out.exists() else set()
    except OSError as error:
        raise ConfigError(
            f"the demo cannot be written to '{out}': {error.strerror}. Name another folder with --out."
        ) from error
    foreign = sorted(there - set(PARTS))
    if foreign or (there and not (out / "data" / "data.json").is_file()):
        raise ConfigError(
            f"'{out}' holds what no demo wrote ({', '.join((foreign or sorted(there))[:3])}), and the demo does not write among it. "
            "Name a new folder with --out."
        )
    sweep(out)


def _data(folder: Path, *, posters: Path | None, num_images: int | None) -> Data:
    """The data folder, prepared where it is not there; num_images: of the films that most have rated, None for all."""
    images = _images_name(posters, num_images)
    if (folder / "data.json").exists():
        data = load_data(folder)
        if data.card["sources"]["items"] == f"{images}.jsonl":
            return data
        if "image" in data.catalog.fields:
            raise ConfigError(
                f"'{folder}' was prepared with other images ({Path(data.card['sources']['items']).stem}) than are asked for now "
                f"({images}), and runs were trained on them. Name a new folder with --out, or remove '{folder.parent}'."
            )
        console.print(
            f"prepared before films had images, so it is prepared anew; for `llmrec eval` of the old {folder.parent / 'run'}, "
            "remove that and train it again"
        )
    items, interactions, terms = movielens_100k()
    only = None if num_images is None else _most_rated(interactions, num_images)
    with tempfile.TemporaryDirectory() as temporary:
        sampled = Path(temporary) / images
        items = items_with_images(items, sampled, posters=posters, only=only)
        ours = {str(part) for part in added_parts(folder)} <= {f"semantic ids '{CODES}'"}  # made anew below
        prepare(items, interactions, folder, name="ml-100k", terms=terms, image_root=sampled, force=ours)
    return load_data(folder)


def _images_name(posters: Path | None, num_images: int | None) -> str:
    """What tells a data folder's images from others."""
    of = "" if num_images is None else f"-{num_images}"
    return f"{STAND_INS}{of}" if posters is None else f"posters-{content_hash(str(posters.resolve()))[:8]}{of}"


def _most_rated(interactions: Path, number: int) -> set[str]:
    lines = interactions.read_text(encoding="utf-8").splitlines()
    column = lines[0].split("\t").index("item_id")
    counts = Counter(line.split("\t")[column] for line in lines[1:])
    return {item_id for item_id, _ in counts.most_common(number)}


def _semantic_ids(data_folder: Path) -> SemanticIDs:
    """The catalogue's semantic ids from its texts; the demo's model does not use them, but the report shows what they look like."""
    folder = data_folder / "semantic_ids" / CODES
    if not folder.exists():
        written, _, report = write_semantic_ids(data_folder, fields=["title", "genres"])
        print_quality(report, written)
    return SemanticIDs.load(folder)


def _command(config: str, overrides: list[str]) -> list[str]:
    """`llmrec train` prints the `accelerate launch recipes/next_item.py ...` line that it runs."""
    return [sys.executable, "-m", "llmrec", "train", "next_item", "--config", config, *overrides]


def _train(config: str, overrides: list[str]) -> None:
    if subprocess.run(_command(config, overrides), env=with_parent(), check=False).returncode:
        raise LlmrecError(
            "the training of the demo failed; its own message stands above. Run the demo again to resume it."
        )


def _train_killed_once(run: Path, overrides: list[str]) -> None:
    """Trains, is killed without warning after the first checkpoint, and trains on."""
    if not (run / MODEL_FOLDER).exists():
        process = subprocess.Popen(_command("demo", overrides), env=with_parent(), start_new_session=True)
        while process.poll() is None and not any(run.glob(f"checkpoints/*/{COMPLETE}")):
            time.sleep(0.05)
        if process.poll() is not None:
            raise LlmrecError(
                "the training of the demo ended before its first checkpoint; its own message stands above."
            )
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        console.print("killed after the first checkpoint; starting again")
    _train("demo", overrides)


def _check_smoke(data: Data, run: Path, llm: Ranker) -> None:
    losses = {record["step"]: record["loss"] for record in read_log(run / LOG) if "loss" in record}
    assert sorted(losses) == list(range(1, 25)), f"each step once, before and after the kill: {sorted(losses)}"
    first, last = np.mean([losses[s] for s in range(1, 5)]), np.mean([losses[s] for s in range(21, 25)])
    assert last < first, f"the loss falls: {first:.3f} -> {last:.3f}"
    requests = Requests.from_instances(load_task("leave_one_out").make(data).test).take(np.arange(60))
    items = llm.rank(requests, 10, exclude_seen=True).items
    assert ((items >= 0) & (items < data.catalog.num_items)).all(), "ten real items for everybody"
    console.print(
        f"smoke: loss {first:.3f} -> {last:.3f}, resumed after kill -9, {items.size} recommended items, all real"
    )


def _image_arguments(data: Data, out: Path) -> list[str]:
    """The command, without its name, that gives a film another one's image."""
    catalog = data.catalog
    shown, swapped = catalog.index([SHOWN, SWAPPED]).tolist()
    if not catalog.text(shown, "image"):  # a folder of posters may lack it
        shown = next(item for item in range(catalog.num_items) if item != swapped and catalog.text(item, "image"))
    return [
        "image", str(out / "soft"), "--item", SWAPPED, "--image", str(data.folder / catalog.text(shown, "image")),
        "--history", SHOWN, "--history", WATCHED,
    ]  # fmt: skip


def _check_image(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmrec", *arguments, "--json"], check=False, stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, f"llmrec {' '.join(arguments)} ended with {done.returncode}"
    found = json.loads(done.stdout)
    tokens, score = found["soft_tokens"], found["score"]
    assert tokens["cosine"] < 0.9999, f"another image, other soft tokens: cosine {tokens['cosine']}"
    assert tokens["largest_change_of_other_items"] == 0, f"no other film's soft tokens change: {tokens}"
    assert score["before"] != score["after"], f"another image, another score: {score}"
    console.print(
        f"smoke: another image: cosine of soft tokens {tokens['cosine']:.3f}, score {score['before']:.3f} -> "
        f"{score['after']:.3f}, no other film's soft tokens moved"
    )


def _evaluate(
    data: Data, runs: dict[str, Path], *, seed: int, max_instances: int | None, codes: SemanticIDs
) -> tuple[Report, Ranker]:
    """runs: "run" and "soft"."""
    run = runs["run"]
    task = load_task("leave_one_out")
    split = task.make(data)
    filtered, unfiltered = (
        Comparison(data, task.model_copy(update={"exclude_seen": seen}), split, max_instances=max_instances)
        for seen in (True, False)
    )
    baselines = filtered.baselines()
    llm = recommender_of(load_artifact(run))
    soft = recommender_of(load_artifact(runs["soft"]), name=SOFT_NAME)
    everybody = (*baselines, llm, soft, filtered.hybrid(llm, baselines))
    evaluations = [asked.ask(recommender) for asked in (filtered, unfiltered) for recommender in everybody]
    card = llm.card
    facts = {
        **provenance("make demo" if seed == 0 else f"llmrec demo --seed {seed}", seed=seed),
        "backbone": f"{card['backbone']['name']} from {card['backbone']['source']} ({card['backbone']['revision']}), {card['layers']}",
        SOFT_NAME: f"{soft.card['layers']}; films are soft tokens of texts, images ({Path(data.card['sources']['items']).stem}) and "
        "low-rank EASE-R embeddings",
        "terms": data.card.get("terms"),
    }
    summary = (
        f"{card['backbone']['name']} ({card['layers']}), fine-tuned with LoRA on MovieLens-100K, ranks all "
        f"{data.catalog.num_items:,} films for {len(split.test)} users next to baselines that train in seconds."
    )
    chosen = np.linspace(0, len(split.test) - 1, NUM_EXAMPLES + 2).astype(int)[1:-1]  # before anything was seen
    report = Report(
        "A language model as a recommender: the demo", summary, evaluations, facts=facts,
        training={llm.name: read_log(run / LOG)},
        codes=codes.codes, codebook_sizes=codes.codebook_sizes, examples=filtered.examples(llm, chosen.tolist()),
    )  # fmt: skip
    return report, llm


def _show(results: dict) -> None:
    """The numbers and the examples in the terminal."""
    table = Table(title="leave-one-out over the whole catalogue, seen items filtered", title_justify="left")
    for column in ("recommender", "Recall@10", "NDCG@10", "95 % interval", "cold targets"):
        table.add_column(column, justify="left" if column == "recommender" else "right")
    for evaluation in results["evaluations"]:
        if not evaluation["protocol"]["exclude_seen"]:
            continue
        recall, ndcg = evaluation["metrics"]["recall@10"], evaluation["metrics"]["ndcg@10"]
        cold = evaluation["slices"]["cold_target"]
        table.add_row(
            name_in_words(evaluation["protocol"]["recommender"]), f"{recall['value']:.4f}", f"{ndcg['value']:.4f}",
            f"{ndcg['low']:.4f} to {ndcg['high']:.4f}",
            f"{cold['metrics']['recall@10']['value']:.4f} of {cold['num_users']}" if cold["num_users"] else "none",
        )  # fmt: skip
    console.print(table)
    for sentence in (*results["notes"], *results["verdicts"]):
        console.print(sentence, highlight=False, markup=False)
    for example in results["examples"]:
        console.print(
            f"\n[bold]user {escape(example['user_id'])}[/bold], latest: {escape(' | '.join(example['history'][-4:]))}"
        )
        for rank, title in enumerate(example["recommended"], 1):
            hit = "   <- what came next" if title == example["target"] else ""
            console.print(f"  {rank:2}. {escape(title)}{hit}", highlight=False)


@contextmanager
def _stage(what: str) -> Iterator[None]:
    console.print(f"\n[bold]{what}[/bold]")
    start = time.monotonic()
    yield
    console.print(f"  {time.monotonic() - start:.0f} s", style="dim")
