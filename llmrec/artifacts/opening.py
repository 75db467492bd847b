"""A run folder opened to be served: its settings checked, its model loaded, the engine that answers started."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from llmrec.arguments import checked_flag, is_count
from llmrec.artifacts.manifest import IN_WORDS, LANGUAGE_MODEL, STACKED
from llmrec.artifacts.run_folder import load_artifact, read_manifest
from llmrec.artifacts.served_checkpoint import check_exportable, served_checkpoint
from llmrec.backbones.causal_lm import SoftmaxScope
from llmrec.backbones.export import drop_layers
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories
from llmrec.engines.engine import EngineName
from llmrec.errors import ConfigError
from llmrec.recommenders.diversity import token_vectors
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.grounding import GroundedRecommender
from llmrec.recommenders.language_model import LanguageModel, ready_to_serve
from llmrec.recommenders.requests import Ranker, Requests

# How a run of the text form answers: titles under the catalogue's trie, or free text and the nearest titles.
Decoding = Literal["trie", "grounding"]


class Opened(NamedTuple):
    """item_vectors: see `Recommender`; device: as was asked for, of a language model where it lies; None where vLLM chose."""

    ranker: Ranker
    catalog: Catalog
    item_vectors: Callable[[np.ndarray], np.ndarray] | None
    device: str | None


def open_ranker(
    folder: Path,
    *,
    dtype: torch.dtype | None,
    device: str | None,
    num_beams: int | None,
    engine: EngineName,
    engine_options: Mapping[str, Any] | None,
    align_prompts: bool,
    decoding: Decoding,
    softmax_scope: SoftmaxScope | None,
    prompt_cache_mib: int,
) -> Opened:
    """The ranker of a model folder. Arguments and errors: see `Recommender.from_pretrained`."""
    _check(dtype, num_beams, engine, decoding, softmax_scope, prompt_cache_mib)
    align_prompts = checked_flag(align_prompts, "align_prompts")
    kind = read_manifest(folder)["kind"]
    if kind != LANGUAGE_MODEL:
        of_language_models = {
            "dtype": dtype, "num_beams": num_beams, "decoding": None if decoding == "trie" else decoding,
            "softmax_scope": softmax_scope, "engine": None if engine == "torch" else engine,
            "engine_options": engine_options or None, "align_prompts": align_prompts or None,
        }  # fmt: skip
        _refuse_settings(kind, of_language_models)
        device = None if device is None else _checked_device(device)
        return _stacked(folder, device, prompt_cache_mib) if kind == STACKED else _sequential(folder, device)
    if engine == "vllm":
        model = _on_vllm(folder, dtype, device, softmax_scope, engine_options or {})
        if align_prompts:
            model.encoder.block_tokens = model.engine.block_size
        return _opened(_ranker(recommender_of, model, num_beams), model, None)
    if engine_options or align_prompts:
        raise ConfigError(
            'engine_options and align_prompts are settings of vLLM, but the engine is torch. Leave them out, or say engine="vllm".'
        )
    device = _checked_device("cpu" if device is None else device)
    # grounding reads titles with the untuned model, so its adapters have to stay apart
    to_serve = decoding == "trie"
    model = load_artifact(folder, dtype=dtype, device=device, to_serve=to_serve)
    if softmax_scope is not None:
        model = _scored_by(model, softmax_scope)
    if to_serve:
        model = ready_to_serve(model, prompt_cache_bytes=prompt_cache_mib << 20)
    return _opened(_ranker(recommender_of if to_serve else GroundedRecommender, model, num_beams), model, device)


def _refuse_settings(kind: str, of_language_models: Mapping[str, Any]) -> None:
    """Raises ConfigError for a setting that is given to a run of another kind; None: not given."""
    given = [name for name, value in of_language_models.items() if value is not None]
    if given:
        are, them = ("are settings", "them") if len(given) > 1 else ("is a setting", "it")
        raise ConfigError(
            f"this run is {IN_WORDS[kind]}, which scores all items at once, and {' and '.join(given)} {are} of language models. "
            f"Leave {them} out."
        )


def _sequential(folder: Path, device: str | None) -> Opened:
    """A network of item sequences. It answers on the CPU; `device` is for language models that explain."""
    from llmrec.artifacts.sequential_run import (
        load_sequential,  # a language model answers without what this brings along
    )

    run = load_sequential(folder)
    return Opened(run.recommender, run.catalog, run.recommender.item_vectors().__getitem__, device)


def _stacked(folder: Path, device: str | None, prompt_cache_mib: int) -> Opened:
    """A stack: its language models lie on `device` and search as by default. Items are as alike as its first run holds them to be."""
    from llmrec.artifacts.stacked_run import load_stacked  # brings scipy along

    vectors = []

    def open_part(part: Path) -> Ranker:
        opened = open_ranker(
            part, dtype=None, device=device, num_beams=None, engine="torch", engine_options=None, align_prompts=False,
            decoding="trie", softmax_scope=None, prompt_cache_mib=prompt_cache_mib,
        )  # fmt: skip
        vectors.append(opened.item_vectors)
        return opened.ranker

    run = load_stacked(folder, open_part)
    return Opened(run.recommender, run.catalog, vectors[0] if vectors else None, device)


def _opened(ranker: Ranker, model: LanguageModel, device: str | None) -> Opened:
    return Opened(ranker, model.catalog, functools.partial(token_vectors, model), device)


def _check(
    dtype: object, num_beams: object, engine: object, decoding: object, softmax_scope: object, prompt_cache_mib: object
) -> None:
    """Raises ConfigError for a value that a setting does not have, and for two that exclude each other."""
    if num_beams is not None and not is_count(num_beams):
        raise ConfigError(f"num_beams should be 1 or more, a whole number, but it is {num_beams!r}.")
    if not is_count(prompt_cache_mib, least=0):
        raise ConfigError(f"prompt_cache_mib should be 0 or more, a whole number, but it is {prompt_cache_mib!r}.")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise ConfigError(f"dtype should be one of torch's, such as torch.float32, or None, but it is {dtype!r}.")
    if decoding not in get_args(Decoding):
        raise ConfigError(f"decoding should be {' or '.join(get_args(Decoding))}, but it is '{decoding}'.")
    if softmax_scope is not None and softmax_scope not in get_args(SoftmaxScope):
        raise ConfigError(f"softmax_scope should be {', '.join(get_args(SoftmaxScope))}, but it is '{softmax_scope}'.")
    if softmax_scope is not None and decoding == "grounding":
        raise ConfigError("grounding writes free text and has no softmax scope; leave one of the two out.")
    if engine not in get_args(EngineName):
        raise ConfigError(f"engine should be {' or '.join(get_args(EngineName))}, but it is {engine!r:.60}.")
    if engine == "vllm" and decoding != "trie":
        raise ConfigError('grounding reads hidden states, which vLLM keeps to itself. Serve it with engine="torch".')


def _ranker(made: Any, model: LanguageModel, num_beams: int | None) -> Ranker:
    return made(model) if num_beams is None else made(model, num_beams=num_beams)


def _scored_by(model: LanguageModel, rule: SoftmaxScope) -> LanguageModel:
    """The model with another softmax scope than it was trained with."""
    if model.encoder.prompt.answers is not None:
        raise ConfigError("this run answers its prompt with one of two words and has no softmax scope; leave it out.")
    return replace(model, softmax_scope=rule)


def _on_vllm(
    folder: Path,
    dtype: torch.dtype | None,
    device: str | None,
    softmax_scope: SoftmaxScope | None,
    options: Mapping[str, Any],
) -> LanguageModel:
    """The model in a model folder, answered for by a vLLM engine on its export."""
    from llmrec.engines.vllm.engine import VllmEngine, check_device

    check_device(device)
    manifest = read_manifest(folder)
    check_exportable(manifest)
    model = load_artifact(folder, dtype=torch.float32, quantized=False)  # merging in fewer bits would round
    if model.encoder.prompt.answers is not None:
        raise ConfigError(
            'this run answers one prompt an item with one of two words, which engine="vllm" does not ask. Serve it with engine="torch".'
        )
    if softmax_scope is not None:
        model = _scored_by(model, softmax_scope)
    checkpoint = served_checkpoint(folder, model)
    precision = dtype or getattr(torch, manifest["dtype"])
    engine = VllmEngine(
        checkpoint, model.backbone, dtype=precision, max_tokens=model.encoder.max_tokens, options=options
    )
    instructions = ["", ""] if "instruction" in model.encoder.prompt.variables else None
    tried = Requests(
        Histories.from_lists([[], list(range(min(4, model.catalog.num_items)))]), instructions=instructions
    )
    engine.check_agreement(model.prompts(tried))
    drop_layers(model.backbone)
    return replace(model, served_by=engine)


def _checked_device(name: str) -> str:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch asserts that it was built with CUDA
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"the device '{name}' cannot be used here ({first}). 'cpu' always can.") from error
    return str(device)
