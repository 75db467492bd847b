"""How what a language model wrote is shown: lines that say who wrote, and a table of what was measured."""

from __future__ import annotations

from llmrec.explain.evidence import Evidence
from llmrec.explain.words import Answer, Explanation
from llmrec.terminal import printable

INFLUENCES_SHOWN = 8  # the rest are in --json


def explanation_lines(found: Explanation) -> list[str]:
    """The text and who wrote it, then what was measured."""
    if found.language_model is None:
        lines = [printable(found.text), f"({found.note})"]
    elif found.written_by == "language model":
        lines = [f"{model_label(found.language_model)} writes: {printable(found.text)}"]
    else:
        names = ", ".join(f"'{printable(name)}'" for name in found.refused)
        why = f"they name {names}" if names else "they are no readable sentence"
        drafts = f"both drafts of {model_label(found.language_model)} were refused, because {why}"
        lines = [printable(found.text), f"(Plain sentences of what was measured: {drafts}.)"]
    return [*lines, "Measured by the recommender:", *(f"  {line}" for line in evidence_lines(found.evidence))]


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


def answer_start(card: dict) -> str:
    """What stands before an answer: whose words these are. card: the model's."""
    return f"{model_label(card)} says, in its own words: "


def answer_notes(found: Answer) -> list[str]:
    """What is to be said about an answer: that the names in it which the model was not told of are no recommendations."""
    if not found.hallucinated_titles:
        return []
    names = ", ".join(f"'{printable(name)}'" for name in found.hallucinated_titles)
    return [f"(It names {names}, which it was not told of: that is no recommendation.)"]


class RunningLine:
    """A text on one line, without what steers a terminal, piece by piece: the pieces together are what the whole text gives."""

    def __init__(self) -> None:
        self.text = ""
        self._is_parted = False

    def add(self, text: str) -> str:
        """What a further piece adds to the line."""
        added = ""
        for character in text:
            if character.isspace():
                self._is_parted = bool(self.text or added)
            elif kept := printable(character):
                added += f" {kept}" if self._is_parted else kept
                self._is_parted = False
        self.text += added
        return added


def model_label(card: dict) -> str:
    """The model's name, and its depth or where it is asked: "SmolLM2-135M-Instruct (30 of 30 layers)"."""
    known = card["layers"] if "layers" in card else f"at {card['server']}"
    return f"{printable(card['name']).rpartition('/')[2]} ({printable(known)})"
