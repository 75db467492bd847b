"""How an explanation is shown: the text and who wrote it, then a table of what was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.explain.evidence import Evidence
    from llmrec.explain.words import Explanation

INFLUENCES_SHOWN = 8  # the rest are in --json


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
    """The model's name, and its depth or where it is asked: "SmolLM2-135M-Instruct (30 of 30 layers)"."""
    known = card["layers"] if "layers" in card else f"at {card['server']}"
    return f"{printable(card['name']).rpartition('/')[2]} ({printable(known)})"
