"""A tiny run folder of every item form, as `llmrec train` leaves one, with every kind of file that a run may hold."""

from pathlib import Path

import numpy as np
import torch

from llmrec.artifacts.run_folder import save_artifact
from llmrec.artifacts.sequential_run import SequentialRun, save_sequential
from llmrec.artifacts.vector_tokens import soft_tokens
from llmrec.backbones.adapters import add_lora, lora_parameters, train_full_model
from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.decoder_layers import add_layer_adapters
from llmrec.backbones.load import load_tokenizer
from llmrec.backbones.prefix import add_prefix
from llmrec.backbones.pretrained import load_backbone
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.encoders.item_features import TextSource, fit_words
from llmrec.items.codebooks import Codebooks, Scaling
from llmrec.items.forms import ItemTokens
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.nn.adapters.semantic import SemanticAdapter
from llmrec.nn.adapters.soft_prompt import SoftPrompt
from llmrec.nn.item_table import ItemTable
from llmrec.nn.soft_tokens import SoftItemTable
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import load_prompt
from llmrec.recommenders.item_tokens import SOFT, SOFT_PROMPT, item_prompt_sequences, item_tokens_for, soft_prompt_ids
from llmrec.recommenders.language_model import LanguageModel
from llmrec.sequential.recommender import SequentialRecommender, make_network
from llmrec.sequential.settings import SequentialSettings
from tests.tiny import tiny_backbone

NUM_ITEMS = 12
FORMS = ("text", "unique_id", "semantic_id", "soft")
CATALOG = [{"item_id": f"i{n}", "title": f"Film {n}", "genres": ["Drama", "War"][: n % 3]} for n in range(NUM_ITEMS)]


def make_sequential_run(folder: Path) -> Path:
    """A network of item sequences that knows items by texts, by a matrix and by embeddings, untrained."""
    catalog, text = Catalog.from_rows(CATALOG), TextSource(encoder="tf_idf")
    words = fit_words(text, catalog)
    settings = SequentialSettings(dim=8)
    network = make_network(settings, NUM_ITEMS, {"text": words.dim, "taste": 3})
    network.inputs.frozen("text").fit(words.encode(catalog.texts()), np.ones(NUM_ITEMS, bool))
    recommender = SequentialRecommender(network.eval(), settings, {"epochs_chosen": 1.5})
    sources = {"text": text.model_dump(), "taste": {"matrix": "taste"}}
    protocol = {"data": "none", "seed": 0}
    save_sequential(folder / "model", SequentialRun(recommender, catalog, sources, {"text": words}), protocol)
    return folder


def make_runs(folder: Path, family: str = "llama") -> dict[str, Path]:
    """Form -> its run. The text form was trained whole, so that run holds its language model; the others stand beside theirs."""
    model = tiny_backbone(family)
    model.causal_lm.save_pretrained(folder / "checkpoint")
    model.tokenizer.save_pretrained(folder / "checkpoint")
    load_tokenizer(str(folder / "checkpoint")).save_pretrained(
        folder / "checkpoint"
    )  # of the class that the family has
    return {form: _make_run(form, folder / "checkpoint", folder / form / "model") for form in FORMS}


def _make_run(form: str, checkpoint: Path, run: Path) -> Path:
    backbone, catalog = load_backbone(str(checkpoint)), Catalog.from_rows(CATALOG)
    codes = _codes() if form == "semantic_id" else None
    tokens = item_tokens_for(form, backbone, catalog, codes, max_title_tokens=16)
    prompt_sequences = ("soft",) if form == "soft" else ()
    if form == "soft":
        backbone.add_vectors(SOFT, _soft_tokens(backbone))
    _add_table(tokens, backbone)
    if form == "text":
        train_full_model(backbone)
    if form == "unique_id":
        add_lora(backbone, rank=2, alpha=4.0, dropout=0.0)
        for parameter in lora_parameters(backbone):
            torch.nn.init.normal_(parameter, std=0.2)
        backbone.add_vectors(SOFT_PROMPT, SoftPrompt(3, backbone.dim, norm=1.0))
    if form == "semantic_id":
        add_prefix(backbone, num_tokens=2)
        add_layer_adapters(backbone, hidden_dim=4)
    if form == "soft":
        for name, parameter in backbone.causal_lm.named_parameters():
            parameter.requires_grad_(".layers.1." in name)  # the last of two
    encoder = PromptEncoder(
        load_prompt("next_item/instruction" if form == "semantic_id" else "next_item/bare"), backbone.tokenizer, tokens, catalog,
        max_history=5, history_step=1, max_tokens=200, soft_prompt=soft_prompt_ids(backbone),
        prompt_sequences=item_prompt_sequences(prompt_sequences, tokens, backbone, catalog, max_title_tokens=16),
    )  # fmt: skip
    made = LanguageModel(
        backbone, tokens, encoder, catalog, "vocabulary" if form == "text" else "level", prompt_sequences
    )
    save_artifact(run, made, semantic_ids=codes, max_title_tokens=16, protocol={"data": "none", "seed": 0})
    return run.parent


def _codes() -> SemanticIDs:
    levels = [np.random.default_rng(level).normal(size=(4, 3)).astype(np.float32) for level in range(2)]
    codes = np.array([[n // 4, n % 4] for n in range(NUM_ITEMS)], dtype=np.int32)
    card = {"features": ["taste"], "fields": ["title"], "encoder": "none"}
    return SemanticIDs(codes, (4, 4), Codebooks(levels, Scaling.none(3)), card)


def _soft_tokens(backbone: Backbone) -> torch.nn.Module:
    features = Features(NUM_ITEMS)
    features.add("taste", np.random.default_rng(0).normal(size=(NUM_ITEMS, 3)))
    adapter = SemanticAdapter({"taste": 3}, backbone.dim, num_query_tokens=2, hidden_dim=8, num_heads=2)
    return soft_tokens(features, adapter, {"taste": {"matrix": "taste"}})


def _add_table(tokens: ItemTokens, backbone: Backbone) -> None:
    norm = backbone.embedding_norm
    if tokens.form == "soft":
        backbone.add_item_table(SoftItemTable(backbone.vector_tokens[SOFT], norm=norm))
    elif tokens.num_rows:
        backbone.add_item_table(ItemTable(tokens.row_levels, backbone.dim, norm=norm))
