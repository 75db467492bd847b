"""`llmrec explain`: why an item suits a history, what was measured, and next to it what a language model says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.options import AsJson, Device, Instruction, Run, open_run
from llmrec.apps.output import print_json
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.explain.evidence import Evidence
    from llmrec.explain.words import Explanation

INFLUENCES_SHOWN = 8  # the rest are in --json
LanguageModelName = Annotated[
    str | None,
    typer.Option(
        "--language-model",
        metavar="NAME",
        help="Who writes: a model folder, a wheel's or hub's name. Default: what the run was trained from, all layers, untuned.",
    ),
]


def explain(
    run: Run,
    item: Annotated[str, typer.Option("--item", help="The item id to explain.")],
    history: Annotated[list[str], typer.Option("--history", help="An item id; repeat it, oldest first.")],
    language_model: LanguageModelName = None,
    instruction: Instruction = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Explain why an item suits a history: how the score falls without each history item, what they have in common, and words.

    The words are a language model's, with all its layers, however few the recommender uses. Only the table is measured.

    \b
    Example:
      llmrec explain runs/demo --history 50 --history 181 --item 172
    """
    recommender = open_run(run, num_beams=None, device=device)
    found = recommender.explain(history, item, language_model, instruction=instruction)
    if as_json:
        print_json({"run": str(run), "history": history, "item": item, **dataclasses.asdict(found)})
        return
    show_explanation(found, typer.echo)


def show_explanation(found: Explanation, say: Callable[[str], None]) -> None:
    """The text and who wrote it, then what was measured."""
    if found.language_model is None:
        say(printable(found.text))
        say(f"({found.note})")
    elif found.written_by == "language model":
        say(f"{model_label(found.language_model)} writes: {printable(found.text)}")
    else:
        names = ", ".join(f"'{printable(name)}'" for name in found.refused)
        why = f"they name {names}" if names else "they are no readable sentence"
        say(printable(found.text))
        say(
            f"(Plain sentences of what was measured: both drafts of {model_label(found.language_model)} were refused, because {why}.)"
        )
    say("Measured by the recommender:")
    for line in evidence_lines(found.evidence):
        say(f"  {line}")


def evidence_lines(evidence: Evidence) -> list[str]:
    """The evidence as a table of text."""
    lines = [f"{printable(evidence.title)}: {evidence.place}, score {evidence.score:.3f}"]
    for influence in evidence.influences[:INFLUENCES_SHOWN]:
        moved = "falls" if influence.drop >= 0 else "rises"
        lines.append(
            f"{influence.drop:>+9.3f}  {moved} by {abs(influence.drop):.3f} without {printable(influence.title)}"
        )
    left = evidence.num_history - len(evidence.influences[:INFLUENCES_SHOWN])
    if left > 0:
        lines.append(f"and {left} more of the history")
    for shared in evidence.shared:
        titles = "; ".join(map(printable, shared.titles[:3])) + (" and more" if len(shared.titles) > 3 else "")
        value = f"{printable(shared.column)} {printable(shared.value)}"
        lines.append(f"{value}: also {titles}; {shared.share:.0%} of the catalogue")
    return lines


def model_label(card: dict) -> str:
    """The model's name and depth: "SmolLM2-135M-Instruct (30 of 30 layers)"."""
    return f"{printable(card['name']).rpartition('/')[2]} ({card['layers']})"
