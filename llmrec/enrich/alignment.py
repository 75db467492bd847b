"""Alignment in a training: which tasks an epoch mixes among the next item's examples, and from which texts."""

from __future__ import annotations

from accelerate import PartialState
from pydantic import Field, field_validator

from llmrec.config import Settings
from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.enrich.alignment_texts import alignment_texts
from llmrec.enrich.generated_texts import load_generated_texts
from llmrec.prompting.alignment import alignment_examples, find_task
from llmrec.prompting.collators import AllPositionExamples, LastItemExamples
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.mixture import Mixture, Source, share_lines


class AlignmentSettings(Settings):
    """Training examples that tie items to their words, next to those of the next item; llmrec.prompting.alignment lists the tasks."""

    # task -> how often an epoch holds each of its examples; empty: no alignment
    tasks: dict[str, float] = Field({})
    next_item: float = Field(1.0, gt=0)  # the same of the next item's examples
    description: tuple[str, ...] = ()  # columns of the catalogue that describe an item
    generated_texts: str | None = None  # or texts that `llmrec enrich` wrote about the items
    queries: str | None = None  # texts of `llmrec enrich`: what somebody who wants the item would ask for
    preferences: str | None = None  # texts of `llmrec enrich` about the users
    max_answer_tokens: int = Field(64, ge=2)  # of an answer in words

    @field_validator("tasks")
    @classmethod
    def _exist(cls, tasks: dict[str, float]) -> dict[str, float]:
        for name, times in tasks.items():
            find_task(name)
            if times < 0:
                raise ValueError(f"an epoch holds the examples of {name} so often, which cannot be less than 0")
        return tasks


def with_alignment(
    settings: AlignmentSettings,
    examples: AllPositionExamples | LastItemExamples,
    data: Data,
    split: Split,
    encoder: PromptEncoder,
    *,
    seed: int,
) -> AllPositionExamples | LastItemExamples | Mixture:
    """The next item's examples, mixed with those of alignment tasks; the shares of a mixture are printed."""
    if not settings.tasks:
        return examples
    named = settings.model_dump(include={"description", "generated_texts", "queries", "preferences"})
    texts = alignment_texts(data, split, **named)
    sources = [Source("next_item", examples, settings.next_item)]
    for name, times in settings.tasks.items():
        if times:
            aligned = alignment_examples(
                name, texts, split.train.histories, data.catalog, encoder, max_answer_tokens=settings.max_answer_tokens
            )
            sources.append(Source(name, aligned, times))
    mixture = Mixture(sources, seed=seed)
    PartialState().print("\n".join(share_lines(mixture.shares())))
    return mixture


def alignment_inputs(settings: AlignmentSettings, data: Data) -> dict[str, list[str | None]]:
    """The generated texts that these tasks are made of, by name."""
    about = {settings.generated_texts: "items", settings.queries: "items", settings.preferences: "users"}
    named = {name: subject for name, subject in about.items() if name and settings.tasks}
    return {name: load_generated_texts(data, name, about=subject).texts for name, subject in named.items()}
