"""EASE: a language model's knowledge of items, distilled into a small adapter that serves without it. Three stages, each a command:

    accelerate launch recipes/ease.py --config recipes/configs/ease/ml100k_posters.yaml data=DATA output=RUN stage=enrich
    accelerate launch recipes/ease.py --config recipes/configs/ease/ml100k_posters.yaml data=DATA output=RUN stage=adapter
    accelerate launch recipes/ease.py --config recipes/configs/ease/ml100k_posters.yaml data=DATA output=RUN stage=ctr

| stage | reads | writes |
|---|---|---|
| enrich | the items' fields | DATA/generated_texts/NAME: a text an item (the same as `llmrec enrich`; resumes) |
| adapter | those texts, the items' features | RUN/adapter/model: adapter and item vectors, trained and untrained; what texts cost |
| ctr | those vectors, ratings; no language model | RUN/ctr: cells.jsonl, results.json, auc.svg, models/ |

The adapter turns an item's features x into soft tokens i_1..i_nq that make the frozen language model say the text t:
log p(t | x) = sum over l of log p(t_l | i_1..i_nq, t_<l) (EASE, CIKM 2024, doi 10.1145/3627673.3680048). Each stage goes on where it
was stopped; a finished one is left as it is.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from pydantic import Field
from rich.console import Console

from llmrec.artifacts.run_folder import MODEL_FOLDER
from llmrec.artifacts.vector_tokens import load_item_vectors, save_adapter_run
from llmrec.backbones.adapters import trainable_parts
from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.trained_parts import PartSettings, train_parts
from llmrec.baselines.item_embeddings import collaborative_embeddings
from llmrec.baselines.sasrec import SasRecRecommender, SasRecSettings
from llmrec.config import Seed, Settings
from llmrec.ctr.grid import Variant, cell_scores, run_ctr_grid
from llmrec.ctr.model import CtrSettings
from llmrec.data.click_examples import click_examples
from llmrec.data.features import Features
from llmrec.data.folder import Data, load_data
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split, leave_one_out
from llmrec.encoders.text import encode_texts
from llmrec.enrich.generated_texts import generated_texts_folder, load_generated_texts
from llmrec.enrich.run import Enrichment
from llmrec.enrich.settings import EnrichSettings
from llmrec.errors import ConfigError
from llmrec.evaluation.clicks import ctr_table
from llmrec.evaluation.ctr_report import as_text, plot_ctr_table
from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.files import content_hash, read_json, write_json
from llmrec.nn.ctr import ModelKind
from llmrec.nn.losses import info_nce
from llmrec.nn.soft_tokens import SoftTokens
from llmrec.prompting.packing import make_collator
from llmrec.recommenders.item_tokens import SOFT
from llmrec.text_models.open_model import open_text_model
from llmrec.text_models.protocol import ProviderError
from llmrec.training.backbones import BackboneSettings, checked_packing, make_backbone, settle_dtype
from llmrec.training.command import begin_run, print_parts, recipe_main, refuse_sharded, settle_run_folder
from llmrec.training.cost import Estimate
from llmrec.training.inputs import training_inputs
from llmrec.training.item_features import (
    AdapterSettings,
    SoftTokenSettings,
    check_collaborative_dim,
    make_soft_tokens,
    soft_features,
)
from llmrec.training.ranking_trainer import Batch, ComputeLoss, Criterion, Objective, TrainingSettings
from llmrec.training.reconstruction import divide_texts, held_out_costs, soft_vectors, text_costs
from llmrec.training.trainer import train

SASREC_VERSION = 2  # rises whenever SASRec would come to other numbers


# -- settings: the only place of a default --------------------------------------------------------------------------------------
class ReconstructionSettings(Settings):
    """What the soft tokens are trained to make the language model say."""

    max_text_tokens: int = Field(96, ge=1)
    held_out: float = Field(
        0.1, gt=0, lt=1
    )  # share of the items with a text that choose the checkpoint and are reported
    contrast_weight: float = Field(
        0.0, ge=0
    )  # of EM3's content-id contrast; an item's vector of ids is its low-rank EASE-R embedding
    contrast_dim: int = Field(64, ge=1)
    temperature: float = Field(0.1, gt=0)


class TableSettings(Settings):
    """The table of CTR models: every variant with every model and seed."""

    # name of a variant -> run folder of a finished adapter stage, the first also before its training; {}: this run's own, as `adapter`
    adapters: dict[str, str] = Field(default_factory=dict)
    models: tuple[ModelKind, ...] = Field(("dnn", "dcn_v2", "din", "autoint"), min_length=1)
    seeds: tuple[Seed, ...] = Field((0, 1, 2, 3, 4), min_length=1)
    model: CtrSettings = CtrSettings()
    without_ids: bool = (
        False  # every variant once more without the items' trained embeddings: what its features alone are worth
    )
    rare_below: int = Field(
        20, ge=0
    )  # examples of items with fewer training examples are reported by themselves; 0: not
    sasrec_seeds: tuple[Seed, ...] = (0, 1, 2)  # (): no SASRec


class Ease(PartSettings):
    """All settings of this recipe."""

    data: str
    output: str
    stage: Literal["enrich", "adapter", "ctr"]
    generated_texts: str | None = (
        None  # DATA/generated_texts/NAME; None: the only one there is, or for the stage enrich the model's name
    )
    enrich: EnrichSettings = EnrichSettings(model="SmolLM2-135M-Instruct")
    backbone: BackboneSettings = BackboneSettings()
    soft: SoftTokenSettings = SoftTokenSettings(adapter=AdapterSettings(num_query_tokens=4))
    reconstruction: ReconstructionSettings = ReconstructionSettings()
    training: TrainingSettings = TrainingSettings()
    table: TableSettings = TableSettings()
    seed: Seed = 0


def fitted_events(data: Data) -> Interactions:
    """What collaborative vectors may know: no user's last two events, and nothing from after the click table's training examples."""
    train = leave_one_out(data.interactions).train
    until = click_examples(data.interactions).train.times.max()
    kept = train.times <= until
    indptr = np.concatenate([[0], np.cumsum(kept)])[train.indptr]
    return Interactions(indptr, train.items[kept], train.num_items, train.times[kept])


def features_of(config: Ease, data: Data) -> Features:
    """What the adapter reads of every item."""
    needs_events = "collaborative" in config.soft.features
    return soft_features(config.soft, data, fitted_events(data) if needs_events else None, seed=config.seed)


# -- stage enrich ---------------------------------------------------------------------------------------------------------------
def write_generated_texts(config: Ease, *, fresh: bool) -> None:
    """An LLM's text about every item; what was asked before is not asked again.

    Raises:
        ProviderError: some items stay without a text.
        ConfigError: texts are to be written anew over others.
    """
    if config.enrich.about != "items":
        raise ConfigError("this stage writes about items; texts about users: llmrec enrich DATA --about users.")
    data = load_data(config.data)
    folder = generated_texts_folder(Path(config.data), config.generated_texts or Path(config.enrich.model).name)
    if fresh and folder.exists():
        raise ConfigError(
            f"--fresh does not throw texts away that a model has written; to have them written anew, delete '{folder}' first."
        )
    enrichment = Enrichment(data, config.enrich, open_text_model(config.enrich))
    Console().print(f"estimate: {enrichment.plan(probe=enrichment.model.local)}")
    generated_texts = enrichment.run()
    generated_texts.save(folder)
    statuses = ", ".join(
        f"{number:,} {status}" for status, number in generated_texts.card["counts"]["statuses"].items()
    )
    Console().print(f"{statuses or 'no texts'}; written to {folder}")
    if missing := len(enrichment.tally.failures) + len(enrichment.tally.unasked):
        raise ProviderError(
            f"{missing} of {data.catalog.num_items} items have no text yet; run the stage again to ask for them."
        )


# -- stage adapter --------------------------------------------------------------------------------------------------------------
def reconstruction(config: Ease, soft: SoftTokens, first_id: int, contrast: torch.Tensor | None) -> ComputeLoss:
    """-log p(text | soft tokens), summed over the texts' tokens; with the contrast its mean, once per token, on top."""
    weight, temperature = config.reconstruction.contrast_weight, config.reconstruction.temperature

    def compute_loss(backbone: Backbone, batch: Batch) -> tuple[torch.Tensor, int]:
        hidden, targets = backbone.labelled_states(batch)  # (N, D), (N,)
        loss = backbone.loss(hidden, targets, scope="vocabulary")
        if contrast is not None:
            ids = batch["input_ids"]
            items = ((ids[ids >= first_id] - first_id) // soft.num_query_tokens).unique()
            loss = loss + weight * len(targets) * info_nce(
                soft(items).mean(dim=1), contrast[items], temperature=temperature
            )
        return loss, len(targets)

    return compute_loss


def id_vectors(config: Ease, data: Data, backbone: Backbone) -> torch.Tensor | None:
    """float32 (num_items, D): low-rank EASE-R embeddings brought to the model's width by a fixed random map, so that the contrast
    trains nothing but the adapter; None without contrast."""
    if not config.reconstruction.contrast_weight:
        return None
    dim = config.reconstruction.contrast_dim
    check_collaborative_dim("reconstruction.contrast_dim", dim, data.catalog.num_items)
    factors = torch.from_numpy(collaborative_embeddings("ease_r", fitted_events(data), dim)[0])
    generator = torch.Generator().manual_seed(config.seed)
    turned = torch.linalg.qr(torch.randn(backbone.dim, factors.shape[1], generator=generator)).Q.T  # (contrast_dim, D)
    return (factors @ turned).to(backbone.device)


def train_adapter(config: Ease, *, fresh: bool, dry_run: bool) -> Estimate | None:
    """The adapter alone learns; the language model only reads."""
    output = Path(config.output) / "adapter"
    if (config := settle_run_folder(config, output, fresh=fresh)) is None:
        return None
    data = load_data(config.data)
    generated_texts = load_generated_texts(data, config.generated_texts)
    config = config.model_copy(update={"backbone": settle_dtype(config.backbone, seed=config.seed)})
    backbone = make_backbone(config.backbone, seed=config.seed)
    soft = make_soft_tokens(config.soft, features_of(config, data), backbone, seed=config.seed)
    backbone.add_vectors(SOFT, soft)
    train_parts(backbone, ["semantic_adapter"], config, seed=config.seed)
    packing = checked_packing(config.training.packing, backbone)
    config = config.model_copy(update={"training": config.training.model_copy(update={"packing": packing})})

    texts = divide_texts(
        backbone, generated_texts.texts, seed=config.seed,
        **config.reconstruction.model_dump(include={"held_out", "max_text_tokens"}),
    )  # fmt: skip
    untrained = soft_vectors(soft)
    collate, size = make_collator(packing, backbone.tokenizer.pad_token_id), config.training.batch_size

    def validate(max_instances: int = len(texts.held_out)) -> dict[str, float]:
        costs, lengths = text_costs(backbone, texts.rows(texts.held_out[:max_instances]), collate, size)
        return {"reconstruction": float(costs.sum() / lengths.sum())}

    training_examples = texts.rows(texts.trained)
    inputs = training_inputs(
        data, fitted_events(data), backbone, features=config.soft.features, texts={"about items": generated_texts.texts}
    )
    begin_run(config, output, num_rows=len(training_examples), inputs=inputs, fresh=fresh)
    lr = {"adapter_lr": config.training.adapter_lr, "embedding_lr": config.training.embedding_lr}
    parts = trainable_parts(backbone, **lr, weight_decay=config.training.weight_decay)
    print_parts(backbone, parts, num_rows=len(training_examples))
    compute_loss = reconstruction(config, soft, backbone.first_vector_id(SOFT), id_vectors(config, data, backbone))
    trainer = train(
        Objective(backbone, compute_loss), parts, training_examples, collate, validate, config.training, output, seed=config.seed,
        num_instances=len(texts.held_out), dry_run=dry_run,
        criterion=Criterion("reconstruction", greater_is_better=False),
    )  # fmt: skip
    if dry_run:
        return trainer.estimate
    if trainer.is_world_process_zero():
        found = held_out_costs(backbone, texts, collate, size)
        card = {
            "seed": config.seed, "features": list(config.soft.features), "backbone": backbone.source.card(),
            "layers": str(backbone.layers), "generated_texts": generated_texts.card, "data": data.card.get("name"),
            "content_hash": data.content_hash(), "steps": trainer.state.global_step,
            "best_step": trainer.state.best_global_step, "reconstruction": found,
        }  # fmt: skip
        vectors = Features(data.catalog.num_items)
        has_any = soft.present.any(dim=1).cpu().numpy()
        vectors.add("trained", soft_vectors(soft), has_any)
        vectors.add("untrained", untrained, has_any)
        save_adapter_run(output / MODEL_FOLDER, backbone, vectors, card)
        Console().print(f"the adapter is in {output / MODEL_FOLDER}")
    return None


# -- stage ctr ---------------------------------------------------------------------------------------------------------
def variants_of(config: Ease, data: Data) -> dict[str, Variant]:
    """What an item is to a CTR model, by name: its id and what the name says; `ids` has nothing else."""
    raw = features_of(config, data)
    generated_texts = load_generated_texts(data, config.generated_texts)
    written = np.array([text is not None for text in generated_texts.texts])
    texts = encode_texts([text or "" for text in generated_texts.texts], config.soft.text.encoder)
    variants = {
        "ids": Variant(True),
        "raw features": Variant(True, {name: (raw[name], raw.present[name]) for name in raw}),
        "generated text": Variant(True, {"generated_text": (texts, written)}),
    }
    for number, (name, folder) in enumerate((config.table.adapters or {"adapter": config.output}).items()):
        vectors = load_item_vectors(Path(folder) / "adapter", data.catalog.num_items, made_from=data.content_hash())
        if number == 0:
            variants[f"untrained {name}"] = Variant(
                True, {"soft": (vectors["untrained"], vectors.present["untrained"])}
            )
        variants[name] = Variant(True, {"soft": (vectors["trained"], vectors.present["trained"])})
    if config.table.without_ids:
        variants |= {
            f"{name}, no ids": Variant(False, variant.item_inputs)
            for name, variant in variants.items()
            if variant.item_inputs
        }
    return variants


def rank_with_sasrec(config: Ease, data: Data, split: Split, variants: dict[str, Variant], folder: Path) -> list[dict]:
    """SASRec with each variant's item inputs, next item over the whole catalogue. A finished cell is read, not trained again; one that
    was killed goes on."""
    task, lines, processes = load_task("leave_one_out"), [], PartialState()
    for seed in config.table.sasrec_seeds:
        for name, variant in variants.items():
            events, settings = split.fitted(task.fit), SasRecSettings(seed=seed)
            key = content_hash(
                f"version {SASREC_VERSION}",
                events.indptr,
                events.items,
                split.test.targets,
                settings.model_dump_json(),
                variant.digest(),
            )
            path = folder / f"{key}.json"
            if not path.exists():
                ranker = SasRecRecommender.from_settings(settings, item_inputs=variant.item_inputs)
                ranker.fit(events, folder=folder / f"training-{key}")
                if processes.is_main_process:
                    found = evaluate(ranker, data, task, "test", split=split)
                    metrics = {each: found.metrics[each] for each in ("recall@10", "ndcg@10")}
                    write_json(path, {"model": "sasrec", "seed": seed, "metrics": metrics})
                processes.wait_for_everyone()
            lines.append({"arm": name, **read_json(path, "a cell of the table")})
            shown = lines[-1]["metrics"]
            processes.print(f"sasrec, {name}, seed {seed}: NDCG@10 {shown['ndcg@10']['value']:.4f}", flush=True)
    return lines


def ctr_stage(config: Ease, *, fresh: bool) -> None:
    """CTR models and SASRec on every variant; a table with intervals over users. fresh: cells that are there are made anew.

    Several processes train every model together.
    """
    folder, processes = Path(config.output) / "ctr", PartialState()
    data = load_data(config.data)
    loo = leave_one_out(data.interactions)
    with processes.main_process_first():  # it encodes, the others read
        variants = variants_of(config, data)
    split = click_examples(data.interactions)
    table = config.table
    lines = run_ctr_grid(
        split,
        data.catalog.num_items,
        variants,
        models=table.models,
        seeds=table.seeds,
        settings=table.model,
        folder=folder,
        facts={"data": config.data, "content_hash": data.card.get("content_hash")},
        fresh=fresh,
    )
    if fresh and processes.is_main_process:
        shutil.rmtree(folder / "sasrec", ignore_errors=True)
    processes.wait_for_everyone()
    with_ids = {name: variant for name, variant in variants.items() if variant.use_ids}
    ranked = rank_with_sasrec(config, data, loo, with_ids, folder / "sasrec")
    if not processes.is_main_process:
        return
    scores = [cell_scores(folder, line) for line in lines]
    results = ctr_table(split.test, lines, scores)
    seen = np.bincount(split.train.items, minlength=data.catalog.num_items)[split.test.items]
    rare = ctr_table(split.test, lines, scores, only=seen < table.rare_below) if (seen < table.rare_below).any() else []
    references = [name for name in variants if name == "raw features" or name.startswith("untrained ")][:2]
    against = {name: ctr_table(split.test, lines, scores, reference=name) for name in references}
    facts = provenance("recipes/ease.py stage=ctr", seed=config.seed)
    write_json(
        folder / "results.json",
        {
            "facts": facts,
            "protocol": split.card,
            "ctr": results,
            "against": against,
            "rare_items": rare,
            "sasrec": ranked,
        },
    )
    plot_ctr_table(results, folder / "auc.svg")
    Console().print(as_text(results))
    Console().print(f"the table is in {folder / 'results.json'}, its plot in {folder / 'auc.svg'}")


# -- run ------------------------------------------------------------------------------------------------------------------------
def main(config: Ease, *, fresh: bool, dry_run: bool = False) -> Estimate | None:
    """The stage that is asked for."""
    if dry_run and config.stage != "adapter":
        raise ConfigError(
            "--dry-run estimates a training, so it goes with stage=adapter; `llmrec enrich --dry-run` estimates the texts."
        )
    set_seed(config.seed)
    if config.stage == "adapter":
        refuse_sharded("recipes/ease.py")
        return train_adapter(config, fresh=fresh, dry_run=dry_run)
    if config.stage == "ctr":
        ctr_stage(config, fresh=fresh)
    elif PartialState().is_main_process:  # asking for texts is one process's work
        write_generated_texts(config, fresh=fresh)
    return None


if __name__ == "__main__":
    recipe_main(Ease, main, __doc__)
