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

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from rich.console import Console

from llmrec.artifacts.run_folder import MODEL_FOLDER
from llmrec.artifacts.vector_tokens import save_adapter_run
from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.trained_parts import PartSettings, train_parts
from llmrec.config import Seed
from llmrec.data.click_examples import click_examples
from llmrec.data.features import Features
from llmrec.data.folder import Data, load_data
from llmrec.data.interactions import Interactions
from llmrec.data.splits import leave_one_out
from llmrec.enrich.generated_texts import generated_texts_folder, load_generated_texts
from llmrec.enrich.run import Enrichment
from llmrec.enrich.settings import EnrichSettings
from llmrec.errors import ConfigError
from llmrec.evaluation.ctr_comparison import TableSettings, compare_variants, item_variants
from llmrec.nn.losses import info_nce
from llmrec.nn.soft_tokens import SoftTokens
from llmrec.prompting.packing import make_collator
from llmrec.recommenders.item_tokens import SOFT
from llmrec.text_models.open_model import open_text_model
from llmrec.text_models.protocol import ProviderError
from llmrec.training.backbones import BackboneSettings, settle_backbone, settle_packing
from llmrec.training.command import begin_run, recipe_main, refuse_sharded, settle_run_folder
from llmrec.training.cost import Estimate
from llmrec.training.inputs import training_inputs
from llmrec.training.item_features import AdapterSettings, SoftTokenSettings, make_soft_tokens, soft_features
from llmrec.training.objectives import Batch, ComputeLoss, Objective
from llmrec.training.ranking_trainer import Criterion
from llmrec.training.reconstruction import (
    ReconstructionSettings,
    divide_texts,
    held_out_costs,
    id_vectors,
    soft_vectors,
    text_costs,
)
from llmrec.training.settings import TrainingSettings
from llmrec.training.trainer import train


# -- settings: the only place of a default --------------------------------------------------------------------------------------
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
def reconstruction(
    settings: ReconstructionSettings, soft: SoftTokens, first_id: int, contrast: torch.Tensor | None
) -> ComputeLoss:
    """-log p(text | soft tokens), summed over the texts' tokens; with the contrast its mean, once per token, on top."""
    weight, temperature = settings.contrast_weight, settings.temperature

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


def train_adapter(config: Ease, *, fresh: bool, dry_run: bool) -> Estimate | None:
    """The adapter alone learns; the language model only reads."""
    output = Path(config.output) / "adapter"
    if (config := settle_run_folder(config, output, fresh=fresh)) is None:
        return None
    data = load_data(config.data)
    generated_texts = load_generated_texts(data, config.generated_texts)
    config, backbone = settle_backbone(config)
    soft = make_soft_tokens(config.soft, features_of(config, data), backbone, seed=config.seed)
    backbone.add_vectors(SOFT, soft)
    train_parts(backbone, ["semantic_adapter"], config, seed=config.seed)
    config = config.model_copy(update={"training": settle_packing(config.training, backbone)})

    texts = divide_texts(
        backbone, generated_texts.texts, seed=config.seed,
        **config.reconstruction.model_dump(include={"held_out", "max_text_tokens"}),
    )  # fmt: skip
    untrained = soft_vectors(soft)
    collate, size = make_collator(config.training.packing, backbone.tokenizer.pad_token_id), config.training.batch_size

    def validate(max_instances: int = len(texts.held_out)) -> dict[str, float]:
        costs, lengths = text_costs(backbone, texts.rows(texts.held_out[:max_instances]), collate, size)
        return {"reconstruction": float(costs.sum() / lengths.sum())}

    training_examples = texts.rows(texts.trained)
    inputs = training_inputs(
        data, fitted_events(data), backbone, features=config.soft.features, texts={"about items": generated_texts.texts}
    )
    begin_run(config, output, num_rows=len(training_examples), inputs=inputs, fresh=fresh)
    settings, contrast = config.reconstruction, None
    if settings.contrast_weight:
        contrast = id_vectors(fitted_events(data), settings.contrast_dim, backbone, seed=config.seed)
    compute_loss = reconstruction(settings, soft, backbone.first_vector_id(SOFT), contrast)
    trainer = train(
        Objective(backbone, compute_loss), training_examples, collate, validate, config.training, output, seed=config.seed,
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


# -- stage ctr ------------------------------------------------------------------------------------------------------------------
def ctr_stage(config: Ease, *, fresh: bool) -> None:
    """CTR models and SASRec on every variant; a table with intervals over users. fresh: cells that are there are made anew.

    Several processes train every model together.
    """
    data = load_data(config.data)
    texts = load_generated_texts(data, config.generated_texts).texts
    named = {"encoder": config.soft.text.encoder, "output": config.output}
    with PartialState().main_process_first():  # it encodes, the others read
        variants = item_variants(config.table, data, features_of(config, data), texts, **named)
    compare_variants(
        config.table, data, variants, Path(config.output) / "ctr", references=config.table.references(config.output),
        name=config.data, seed=config.seed, fresh=fresh,
    )  # fmt: skip


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
