"""Questions about titles, which no list answers: "is it in black and white?", "who is in Fargo?"."""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.conversation.wish_rules.lexicon import word_list
from llmrec.conversation.wish_rules.terms import (
    Adjective,
    Comparative,
    Cue,
    Filler,
    Limits,
    Quality,
    Term,
    Titles,
    Value,
)

_LEADS = word_list("leads")
_WH = {"who", "whom", "whose", "when", "where"}
_AFTER_HOW = word_list("after_how")
_AFTER_WHAT = word_list("after_what")
_AUXILIARIES = {"is", "are", "was", "were", "does", "did", "has", "do", "if", "whether", "had"}
_MODALS = {"can", "could", "will", "would", "should"}
_LONGEST = 60  # terms of a clause that are looked at
_WISHED = (Value, Quality, Comparative, Limits, Adjective)


def is_question(terms: Sequence[Term], texts: Sequence[str]) -> bool:
    """Whether a clause of the message asks something of a title."""
    starts = [
        place
        for place in range(len(terms))
        if not _is_break(terms[place]) and (not place or _is_break(terms[place - 1]))
    ]
    return any(_asks(list(terms[start : start + _LONGEST]), texts) for start in starts)


def _asks(terms: list[Term], texts: Sequence[str]) -> bool:
    first_word = next((place for place, term in enumerate(terms) if texts[term.start] not in _LEADS), len(terms))
    terms = terms[first_word:]
    end = next((place for place, term in enumerate(terms) if _is_break(term, comma=False)), len(terms))
    clause = terms[:end]
    if not clause:
        return False
    is_asked, clause = _told(clause, texts)
    if not clause:
        return is_asked
    first = clause[0]
    word = texts[first.start]
    after = texts[first.start + 1] if first.start + 1 < len(texts) else ""
    spoken = texts[first.start : clause[-1].end]
    has_titles = any(isinstance(term.meaning, Titles) for term in clause) or bool(
        {"these", "those", "them"} & set(spoken)
    )
    has_names = any(isinstance(term.meaning, Titles) and not term.meaning.is_weak for term in clause)
    if word in ("is", "are") and after == "there":  # "is there a sequel to Jaws?", but "is there anything like Jaws?"
        return has_names and not any(isinstance(term.meaning, Cue) for term in clause)
    if isinstance(first.meaning, Filler) and first.end - first.start > 1:
        return False
    if word in _WH:
        return after not in ("else", "can", "do", "should") or has_titles
    if word == "how":
        return after in _AFTER_HOW
    if word in ("what", "which"):
        return after in _AFTER_WHAT and after != "else" and has_titles
    if word not in _AUXILIARIES | _MODALS or first.end - first.start > 1:
        return False
    subject = clause[1].meaning if len(clause) > 1 else None
    if after == "not":
        return False
    if word in _MODALS and after in ("my", "our", "the") and has_names:
        return True
    if word == "did" and after not in ("you", "i"):
        return True
    is_wished = any(isinstance(term.meaning, _WISHED) for term in clause)
    if word in _AUXILIARIES and after in ("the", "this", "that", "these", "those") and not is_wished:
        return True
    if not isinstance(subject, Titles) and after not in ("anyone", "anybody", "someone", "he", "she"):
        return False
    return word in _AUXILIARIES or not is_wished


def _told(clause: list[Term], texts: Sequence[str]) -> tuple[bool, list[Term]]:
    """Without "do you know", "can you tell me": whether "tell me about it" asks already, and the rest."""
    words = [texts[place] for term in clause for place in range(term.start, term.end)]
    for lead in (
        "do you know",
        "can you tell me",
        "could you tell me",
        "tell me",
        "i wonder",
        "i was wondering",
        "any idea",
        "would you know",
    ):
        length = len(lead.split())
        if " ".join(words[:length]) == lead:
            rest = [term for term in clause if term.start >= clause[0].start + length]
            is_about = any(word == "about" for word in words[length : length + 3]) and any(
                isinstance(term.meaning, Titles) for term in rest
            )
            return is_about, [] if is_about else rest
    return False, clause


def _is_break(term: Term, *, comma: bool = True) -> bool:
    return isinstance(term.meaning, Cue) and term.meaning.name in (("stop", "but", "comma") if comma else ("stop",))
