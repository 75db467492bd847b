"""Whose clicks a language model is asked about when it is trained to say yes or no to one item."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from llmrec.config import Settings
from llmrec.data.click_examples import ClickSplit, click_examples, sampled_rows
from llmrec.data.click_files import read_click_split
from llmrec.data.interactions import Interactions


class ClickExampleSettings(Settings):
    """Examples to train on and to be measured by; see `llmrec.data.click_examples`."""

    folder: str | None = (
        None  # train, valid and test examples of a published split (llmrec.data.click_files); None: made here
    )
    split: Literal["time", "last"] = "time"
    valid: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.1, gt=0, lt=1)
    positive_from: float = 4.0
    negative_below: float = 3.0
    max_train_examples: int | None = Field(None, ge=2)  # sampled by seed; None: all
    max_valid_examples: int = Field(2000, ge=2)
    max_test_examples: int | None = Field(None, ge=2)


def make_click_examples(
    settings: ClickExampleSettings, interactions: Interactions, *, max_history: int, seed: int
) -> tuple[ClickSplit, ClickSplit]:
    """All examples of the split, and of each part as many as the settings want."""
    if settings.folder is not None:
        whole = read_click_split(settings.folder, interactions.num_items, max_history=max_history)
    else:
        chosen = settings.model_dump(include={"split", "valid", "test", "positive_from", "negative_below"})
        whole = click_examples(interactions, **chosen, seed=seed, max_history=max_history)
    sampled = {
        name: sampled_rows(getattr(whole, name), getattr(settings, f"max_{name}_examples"), seed)
        for name in ("train", "valid", "test")
    }
    return whole, replace(whole, **sampled)
