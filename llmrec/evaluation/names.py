"""What tables and sentences call a recommender ("EASE-R", "SmolLM2-135M + LoRA"). JSON keeps the short names; these decide nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BY_ANSWERS = "answers"  # scored_by of a server that tells no log-probabilities

_BASELINES = {
    "popularity": "popularity",
    "markov": "first-order Markov chain",
    "ease_r": "EASE-R",
    "low_rank_ease_r": "low-rank EASE-R embeddings",
    "item_knn": "item-kNN",
    "ials": "iALS",
    "text_neighbours": "text neighbours",
    "matrix_factorisation": "matrix factorisation",  # until December 2026, what is iALS now
    "sasrec": "SASRec",
    "gru4rec": "GRU4Rec",
    "bert4rec": "BERT4Rec",
    "item_mean": "item mean",
    "user_item_mean": "user and item mean",
}
_CTR_MODELS = {"dnn": "DNN", "dcn_v2": "DCNv2", "din": "DIN", "autoint": "AutoInt", "gdcn": "GDCN"}
# nothing stands next to the model's own weights
_NOT_ADDED = ("full fine-tuning", "frozen", "zero-shot", "few-shot")


def model_in_words(name: str) -> str:
    """A baseline or CTR model that is known by its short name alone."""
    return (_BASELINES | _CTR_MODELS).get(name, name)


def name_in_words(card: Mapping[str, Any]) -> str:
    """The name of the recommender whose card this is, as people write it."""
    if isinstance(card.get("parts"), Mapping):  # a stack's
        return f"stack ({', '.join(name_in_words(part) for part in card['parts'].values())})"
    if "ease_r" in card:  # the hybrid's
        model = card["model"]  # a list where seeds differ in it
        return f"hybrid ({name_in_words(model) if isinstance(model, Mapping) else 'model'} and EASE-R)"
    if isinstance(card.get("backbone"), Mapping) and isinstance(card.get("adaptation"), str):
        return _model_in_words(card)
    if card["name"] in _CTR_MODELS:
        inputs = ", ".join(str(each).replace("_", " ") for each in card.get("inputs", ()))
        return model_in_words(card["name"]) + (f" ({inputs})" if inputs else "")
    return model_in_words(card["name"])


def _model_in_words(card: Mapping[str, Any]) -> str:
    name = card["backbone"]["name"].split("/")[-1].removesuffix("-Instruct")
    how = card["adaptation"]
    if how == "few-shot":
        how = f"{card['shots']}-shot"
    if card.get("scored_by") == BY_ANSWERS:
        return f"{name} ({how}, by its answers)"
    named = f"{name} ({how})" if card["adaptation"] in _NOT_ADDED else f"{name} + {how}"
    return f"{named}, soft tokens" if "soft" in (card.get("form"), *card.get("prompt_forms", ())) else named
