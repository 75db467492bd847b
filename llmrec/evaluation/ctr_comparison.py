"""What items' vectors are worth to CTR models and to SASRec: every variant of an item's inputs with every model and seed.

FOLDER/cells.jsonl, models/  see `llmrec.ctr.grid`     FOLDER/sasrec/KEY.json  one cell each
FOLDER/results.json          figures with intervals    FOLDER/auc.svg          their plot
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from accelerate import PartialState
from pydantic import Field
from rich.console import Console

from llmrec.artifacts.vector_tokens import load_item_vectors
from llmrec.baselines.sasrec import SasRecRecommender
from llmrec.config import Seed, Settings
from llmrec.ctr.grid import Variant, cell_scores, run_ctr_grid
from llmrec.ctr.model import CtrSettings
from llmrec.data.click_examples import click_examples
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.splits import leave_one_out
from llmrec.encoders.text import encode_texts
from llmrec.evaluation.clicks import ctr_table
from llmrec.evaluation.ctr_report import as_text, plot_ctr_table
from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.files import content_hash, read_json, write_json
from llmrec.nn.ctr import ModelKind
from llmrec.sequential.settings import SasRecSettings

_RAW = "raw features"
_SASREC_VERSION = 3  # rises whenever SASRec would come to other numbers


class TableSettings(Settings):
    """The table of CTR models: every variant with every model and seed."""

    # name of a variant -> run folder of a finished adapter stage, the first also before its training; {}: this run's own, as `adapter`
    adapters: dict[str, str] = Field(default_factory=dict)
    models: tuple[ModelKind, ...] = Field(("dnn", "dcn_v2", "din", "autoint"), min_length=1)
    seeds: tuple[Seed, ...] = Field((0, 1, 2, 3, 4), min_length=1)
    model: CtrSettings = CtrSettings()
    # every variant once more without the items' trained embeddings: what its features alone are worth
    without_ids: bool = False
    # examples of items with fewer training examples are reported by themselves; 0: not
    rare_below: int = Field(20, ge=0)
    sasrec_seeds: tuple[Seed, ...] = (0, 1, 2)  # (): no SASRec

    def adapter_runs(self, output: str) -> dict[str, str]:
        """Run folders by the name of their variant."""
        return self.adapters or {"adapter": output}

    def references(self, output: str) -> list[str]:
        """The variants, `ids` aside, that all others are compared with: features without an adapter, and an untrained adapter."""
        return [_RAW, _untrained(next(iter(self.adapter_runs(output))))]


def _untrained(name: str) -> str:
    return f"untrained {name}"


def item_variants(
    settings: TableSettings, data: Data, raw: Features, texts: Sequence[str | None], *, encoder: str, output: str
) -> dict[str, Variant]:
    """What an item is to a CTR model, by name: its id and what the name says; `ids` has nothing else."""
    written = np.array([text is not None for text in texts])
    vectors_of_texts = encode_texts([text or "" for text in texts], encoder)
    variants = {
        "ids": Variant(True),
        _RAW: Variant(True, {name: (raw[name], raw.present[name]) for name in raw}),
        "generated text": Variant(True, {"generated_text": (vectors_of_texts, written)}),
    }
    for number, (name, folder) in enumerate(settings.adapter_runs(output).items()):
        vectors = load_item_vectors(Path(folder) / "adapter", data.catalog.num_items, made_from=data.content_hash())
        soft = {each: {"soft": (vectors[each], vectors.present[each])} for each in ("untrained", "trained")}
        if number == 0:
            variants[_untrained(name)] = Variant(True, soft["untrained"])
        variants[name] = Variant(True, soft["trained"])
    if settings.without_ids:
        alone = {name: variant.item_inputs for name, variant in variants.items() if variant.item_inputs}
        variants |= {f"{name}, no ids": Variant(False, inputs) for name, inputs in alone.items()}
    return variants


def compare_variants(
    settings: TableSettings,
    data: Data,
    variants: Mapping[str, Variant],
    folder: Path,
    *,
    references: Sequence[str],
    name: str,
    seed: int,
    fresh: bool,
) -> None:
    """Trains and scores every cell that FOLDER does not hold yet and writes the table. fresh: cells that are there are made anew.

    Several processes train every model together; all of them call it.

    name: what the data is called on the cards of the models; seed: for the record of where the figures come from.
    """
    split = click_examples(data.interactions)
    facts = {"data": name, "content_hash": data.card.get("content_hash")}
    lines = run_ctr_grid(
        split, data.catalog.num_items, variants, models=settings.models, seeds=settings.seeds, settings=settings.model,
        folder=folder, facts=facts, fresh=fresh,
    )  # fmt: skip
    processes = PartialState()
    if fresh and processes.is_main_process:
        shutil.rmtree(folder / "sasrec", ignore_errors=True)
    processes.wait_for_everyone()
    ranked = rank_with_sasrec(settings.sasrec_seeds, data, variants, folder / "sasrec")
    if not processes.is_main_process:
        return
    scores = [cell_scores(folder, line) for line in lines]
    results = ctr_table(split.test, lines, scores)
    is_rare = np.bincount(split.train.items, minlength=data.catalog.num_items)[split.test.items] < settings.rare_below
    rare = ctr_table(split.test, lines, scores, only=is_rare) if is_rare.any() else []
    against = {each: ctr_table(split.test, lines, scores, reference=each) for each in references}
    origin = provenance("recipes/ease.py stage=ctr", seed=seed)
    found = {"facts": origin, "protocol": split.card, "ctr": results, "against": against, "rare_items": rare}
    write_json(folder / "results.json", found | {"sasrec": ranked})
    plot_ctr_table(results, folder / "auc.svg")
    Console().print(as_text(results))
    Console().print(f"the table is in {folder / 'results.json'}, its plot in {folder / 'auc.svg'}")


def rank_with_sasrec(seeds: Sequence[int], data: Data, variants: Mapping[str, Variant], folder: Path) -> list[dict]:
    """SASRec with the item inputs of each variant that has ids, next item over the whole catalogue. A finished cell is read, not
    trained again; one that was killed goes on."""
    task, split, lines, processes = load_task("leave_one_out"), leave_one_out(data.interactions), [], PartialState()
    with_ids = {name: variant for name, variant in variants.items() if variant.use_ids}
    for seed in seeds:
        for name, variant in with_ids.items():
            events, settings = split.fitted(task.fit), SasRecSettings(seed=seed)
            parts = (events.indptr, events.items, split.test.targets, settings.model_dump_json(), variant.digest())
            key = content_hash(f"version {_SASREC_VERSION}", *parts)
            path = folder / f"{key}.json"
            if not path.exists():
                ranker = SasRecRecommender.from_settings(settings, item_inputs=variant.item_inputs)
                ranker.fit(events, folder=folder / f"training-{key}")
                if processes.is_main_process:
                    found = evaluate(ranker, data, task, "test", split=split)
                    metrics = {each: found.metrics[each] for each in ("recall@10", "ndcg@10")}
                    write_json(path, {"model": "sasrec", "seed": seed, "metrics": metrics})
                processes.wait_for_everyone()
            lines.append({"variant": name, **read_json(path, "a cell of the table")})
            shown = lines[-1]["metrics"]
            processes.print(f"sasrec, {name}, seed {seed}: NDCG@10 {shown['ndcg@10']['value']:.4f}", flush=True)
    return lines
