"""Terms put together: groups of titles, values and numbers under one cue, with what is said of them behind (rule 12).

A cue reaches to the next "but", the next sentence, the next cue, or a word that begins something else ("something", "show"); over "or"
it reaches any object, over "and" or a comma only one of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.conversation.wish_rules.lexicon import word_list
from llmrec.conversation.wish_rules.objects import Group, Object, Reading
from llmrec.conversation.wish_rules.terms import (
    Adjective,
    Comparative,
    Cue,
    Filler,
    Limits,
    Meaning,
    Number,
    Quality,
    Term,
    Titles,
    Unknown,
    Value,
)

ACTIONS = ("undo", "reset", "list", "quit", "help", "more_list", "explain", "surprise_on", "surprise_off")
_SCOPED = ("not", "dislike", "less", "more", "drop", "allow", "forget", "seen", "like", "unseen", "ignore")
_NEGATIVE = ("not", "dislike", "less")
_NAMES_BEHIND = word_list("names_behind")
_NO_COUNT = word_list("no_count")


class Grouping:
    """Reads terms one after another into groups."""

    def __init__(self, terms: Sequence[Term], texts: Sequence[str]) -> None:
        self.terms, self.texts = terms, texts
        self.groups: list[Group] = []
        self.now = Group("", 0)
        self.sentence = 0
        self.joiner = ""
        self.awaits_than = False
        self.compared: Titles | None = None
        self.weak: Titles | None = None
        self.count: int | None = None
        self.named: list[str] = []

    def read(self) -> Reading:
        for place, term in enumerate(self.terms):
            if isinstance(term.meaning, Cue):
                self._cue(term.meaning.name, place)
            elif not isinstance(term.meaning, Filler | Unknown):
                self._object(term.meaning, place)
            elif isinstance(term.meaning, Unknown):
                self.awaits_than = False
        self._close()
        has_more = any(group.mode == "more" and not group.objects for group in self.groups)
        groups = self._with_modes_behind()
        return Reading(groups, self.named, self.count, has_more)

    # Cues

    def _cue(self, name: str, place: int) -> None:
        name = self._as_meant(name, place)
        last = self.now.objects[-1].meaning if self.now.objects else None
        if self._text(place) == ["enough"] and isinstance(last, Quality | Adjective):
            self.now.mode = "more" if self.now.mode in _NEGATIVE else self.now.mode  # "not funny enough"
            return
        if name in ("comma", "and", "or"):
            self.joiner = "or" if "or" in (name, self.joiner) else name
        elif name == "than":
            self.awaits_than = True
        elif name in ("stop", "but"):
            self._open("")
            self.sentence += name == "stop"
            self.now.sentence = self.sentence
            self.weak = None
        elif name in ACTIONS:
            self._named(name)
        elif name in ("fine", "good", "bad", "again", "also", "nomatter", "unneeded"):
            self._flag(name, place)
            if name == "fine" and self._text(place)[-1] in ("too", "also", "well"):
                self._flag("also", place)
        elif name == "aside":
            self._put_aside()
        elif name == "refuse":
            self._refuse()
        elif name == "out":
            self.now.mode = "not" if self.now.mode == "leave" else self.now.mode
        elif name == "any":
            if not (self.now.mode and not self.now.objects):
                self._open("any")
        elif name == "start":
            if self.now.objects:
                self._open("")
            if "also" in self._text(place):
                self.now.also_at.add(0)
        elif name == "less" and "too" in self._text(place):
            compared = self._put_aside()
            self._open(self._combined(name))
            self.compared = compared
        else:
            self._open(self._combined(name))

    def _text(self, place: int) -> list[str]:
        return list(self.texts[self.terms[place].start : self.terms[place].end])

    def _as_meant(self, name: str, place: int) -> str:
        """Cues that mean another where nothing follows that they could speak of."""
        text = self._text(place)
        after = next((one.meaning for one in self.terms[place + 1 :] if not isinstance(one.meaning, Filler)), None)
        if name == "less" and not isinstance(after, Quality | Adjective | Value | Comparative):
            if text == ["too"]:
                return "also"
            return "not" if text[0] in ("not", "nothing", "without") else name
        if name == "more" and place and isinstance(self.terms[place - 1].meaning, Number):
            return "more_list"  # "five more westerns"
        if name == "seen" and text[-1] in ("got", "have", "had") and not isinstance(after, Titles):
            return "start"  # "got any westerns"
        if name == "more_list" and text[-1] == "more" and isinstance(after, Quality | Adjective | Value | Titles):
            return "more"
        if (
            name == "not"
            and text in (["no"], ["not"])
            and (after is None or (isinstance(after, Cue) and after.name in ("comma", "stop")))
        ):
            return "start"  # "no, something else": an answer
        return name

    def _combined(self, name: str) -> str:
        """The mode of a cue behind another that has no object yet: "not ... like"."""
        if self.now.objects or not self.now.mode:
            return name
        before = self.now.mode
        if before == "forget" and name in ("like", "dislike", "seen", "not"):
            return "forget"
        if before in _NEGATIVE and name in ("like", "more"):
            return "dislike" if name == "like" else "less"
        if before == "not":
            return {"dislike": "like", "seen": "unseen", "less": "more", "not": "not"}.get(name, name)
        return name

    def _named(self, name: str) -> None:
        if name == "surprise_on" and self.now.mode in _NEGATIVE and not self.now.objects:
            name = "surprise_off"
        elif name == "surprise_off" and self.now.mode in _NEGATIVE and not self.now.objects:
            name = "surprise_on"
        self.named.append(name)
        if self.now.mode in _NEGATIVE and not self.now.objects:
            self.now.mode = ""

    def _flag(self, name: str, place: int) -> None:
        """What is said of objects: of those of this group, else of those before it in the sentence."""
        target = self.now
        if not target.objects and name != "also":
            if self.weak is not None and name in ("good", "bad"):
                target.objects.append(Object(self.weak, place))
            elif (
                not target.mode
                and self.groups
                and self.groups[-1].sentence == self.sentence
                and self.groups[-1].objects
            ):
                target = self.groups[-1]
            elif name not in ("again", "nomatter", "unneeded"):
                return
        if name == "also":
            target.also_at.add(target.num_values)
        elif name == "bad" and target.mode in _NEGATIVE:
            return
        else:
            target.flags.add(name)

    def _put_aside(self) -> Titles | None:
        """Titles of which something is said that is no wish for more of them: "the first is too expensive"."""
        before = self.now if self.now.objects else self.groups[-1] if self.groups else None
        if before is None or before.mode or before.sentence != self.sentence or not before.objects:
            return None
        last = before.objects[-1].meaning
        if not isinstance(last, Titles):
            return None
        before.flags.add("aside")
        return last

    def _refuse(self) -> None:
        """ "Titanic? No thanks." """
        before = self.now if self.now.objects else self.groups[-1] if self.groups else None
        if before is not None and not before.mode and before.sentence >= self.sentence - 1:
            before.flags.add("bad")

    # Objects

    def _object(self, meaning: Meaning, place: int) -> None:
        if isinstance(meaning, Titles) and not self._takes(meaning):
            self.awaits_than = False
            return
        if isinstance(meaning, Titles) and meaning.is_weak:
            meaning = self._antecedent(meaning)
        if isinstance(meaning, Number):
            self._number(meaning, place)
            return
        if isinstance(meaning, Quality):
            meaning = self._named_quality(meaning, place)
        if self.awaits_than and isinstance(meaning, Titles) and self.now.objects:
            self.now.objects[-1].than = meaning
            self.awaits_than = False
            return
        self.awaits_than = False
        if not self._fits(meaning, place):
            self._open("")
        self.now.objects.append(Object(meaning, place, self.joiner, self.compared))
        self.joiner, self.compared = "", None
        self.awaits_than = isinstance(meaning, Comparative) and self._text(place) in (["before"], ["after"])

    def _takes(self, titles: Titles) -> bool:
        """Whether titles are meant: a pronoun only where something must be liked, known or compared with."""
        if not titles.is_weak:
            return True
        if self.awaits_than and self.now.objects:
            return True
        if self.now.mode in ("like", "dislike", "seen") and not any(
            isinstance(one.meaning, Titles) for one in self.now.objects
        ):
            return True
        self.weak = self._antecedent(titles)
        return False

    def _antecedent(self, pronoun: Titles) -> Titles:
        """The titles that this message named last, else what the pronoun says of earlier turns."""
        for group in (self.now, *reversed(self.groups)):
            for one in reversed(group.objects):
                if isinstance(one.meaning, Titles) and not one.meaning.is_weak:
                    return one.meaning
        return pronoun

    def _number(self, number: Number, place: int) -> None:
        after = self.texts[self.terms[place].end : self.terms[place].end + 1]
        is_count = 1 <= number.number <= 100 and not (after and after[0] in _NO_COUNT) and self.now.mode != "not"
        is_one = self.texts[self.terms[place].start : self.terms[place].end] == ["one"]
        if is_count and not (is_one and not self._is_just_one(place)):
            self.count = number.number

    def _is_just_one(self, place: int) -> bool:
        """ "one" is a number of titles behind "just" or "only", or before "film" or "more"."""
        start, end = self.terms[place].start, self.terms[place].end
        before, after = self.texts[start - 2 : start] if start > 1 else self.texts[:start], self.texts[end : end + 1]
        return bool({"just", "only", "exactly", "give", "show", "single", "me"} & set(before)) or bool(
            after
            and after[0]
            in (
                "film",
                "movie",
                "title",
                "more",
                "suggestion",
                "recommendation",
                "thing",
                "book",
                "result",
                "option",
                "pick",
                "idea",
            )
        )

    def _named_quality(self, quality: Quality, place: int) -> Meaning:
        """A quality that names its value: "romantic" before another value, "a musical"."""
        after = self.terms[place + 1].meaning if place + 1 < len(self.terms) else None
        is_before = isinstance(after, Value | Quality) and after.column == quality.column
        is_before = is_before and (isinstance(after, Value) or after.before or after.also_names)
        first = place  # "a funny musical"
        while first and isinstance(self.terms[first - 1].meaning, Quality | Adjective):
            first -= 1
        start = self.terms[first].start
        is_named = quality.also_names and (start == 0 or self.texts[start - 1] in _NAMES_BEHIND)
        if (quality.before or quality.also_names) and (is_before or is_named) and self.now.mode != "more":
            return Value(quality.column, quality.value)
        return quality

    def _fits(self, meaning: Meaning, place: int) -> bool:
        """Whether an object stands under the cue of the group."""
        if not self.now.objects or self.now.mode not in _SCOPED:
            return True
        last = self.now.objects[-1].meaning
        if self.joiner == "or":
            return not isinstance(meaning, Limits) or isinstance(last, Limits)
        if self.joiner == "comma" and self.now.mode in _NEGATIVE and self._is_begun_anew(place):
            return False
        if self.joiner == "" and self.now.mode in ("not", "dislike", "drop", "allow", "forget"):
            return not isinstance(meaning, Limits | Comparative)
        if self.joiner == "" and self.now.mode in ("more", "less"):
            return False
        return isinstance(meaning, type(last)) and not isinstance(meaning, Limits | Comparative)

    def _is_begun_anew(self, place: int) -> bool:
        """ "not a drama, a comedy" against "not a drama, a comedy or a western"."""
        start = self.terms[place].start
        rest = self.terms[place:]
        end = next((after for after, term in enumerate(rest) if term.meaning in (Cue("stop"), Cue("but"))), len(rest))
        return self.texts[start - 1] in ("a", "an") and Cue("or") not in [term.meaning for term in rest[:end]]

    def _open(self, mode: str) -> None:
        self._close()
        self.now = Group(mode, self.sentence)
        self.joiner = ""

    def _close(self) -> None:
        if self.now.objects or self.now.mode or self.now.flags:
            self.groups.append(self.now)

    def _with_modes_behind(self) -> list[Group]:
        """ "Fargo I have seen": a cue without objects speaks of the titles before it."""
        kept: list[Group] = []
        for group in self.groups:
            if not group.objects and group.mode in ("like", "dislike", "seen") and kept:
                before = kept[-1]
                has_titles = any(isinstance(one.meaning, Titles) for one in before.objects)
                if before.sentence == group.sentence and before.mode in ("", "any") and has_titles:
                    before.mode = group.mode
                elif (
                    before.sentence == group.sentence and not before.mode and before.objects and group.mode == "dislike"
                ):
                    before.flags.add("bad")
                continue
            kept.append(group)
        return kept
