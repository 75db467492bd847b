"""All that the reader knows to say over one catalogue: its values and what speaks of them, its columns of numbers, cues and fillers."""

from __future__ import annotations

from collections.abc import Iterable

from llmrec.conversation.edits import Bounds
from llmrec.conversation.facets import Facets
from llmrec.conversation.wish_rules.lexicon import Phrases, degrees, plural, vocabulary
from llmrec.conversation.wish_rules.numbers import Numbers, is_number
from llmrec.conversation.wish_rules.terms import (
    Adjective,
    ColumnName,
    Comparative,
    Cue,
    Filler,
    Meaning,
    Quality,
    Value,
)
from llmrec.conversation.wish_rules.words import plain_words, spoken_forms

OLD_UNTIL = 1969  # rule 5: what "old" is
NEW_YEARS = 2  # before the latest year: what "new" is
# What columns of choices are called besides their own names.
_COLUMN_WORDS = {
    "genres": "genre|genres|kind of film|type of film|subject",
    "genre": "genre|genres|subject",
    "brand": "brand|brands|maker|makers|manufacturer|manufacturers|label",
    "colour": "colour|colours|shade|hue",
    "color": "colour|colours|shade|hue",
    "category": "category|categories|department|section|kind of product|type of product",
}
# Of cues that the same words could be, the ones that come first here count.
_CUES = (
    "undo", "reset", "list", "quit", "help", "explain", "surprise_off", "surprise_on", "unneeded",
    "drop", "forget", "allow", "refuse", "ignore", "nomatter", "less", "more", "more_list", "not", "dislike", "bad", "like", "seen",
    "also", "fine", "good", "again", "any", "leave", "out", "aside", "but", "or", "and", "than", "start",
)  # fmt: skip


class Phrasebook:
    """phrases: what words of a message may mean.

    words: all single words of them, which a typing error is compared with; alone: those that are a phrase by themselves; telling: of
    these the ones that are no fillers; value_words: those of names of values.
    """

    def __init__(self, facets: Facets, numbers: Numbers) -> None:
        self.phrases: Phrases[Meaning] = Phrases()
        self.value_words: set[str] = set()
        self._columns(facets, numbers)
        self._values(facets)
        self._meanings(facets)
        self._roles(facets, numbers)
        known = vocabulary("cues")
        for name in _CUES:
            for pattern in known[name]:
                self.phrases.add(pattern, Cue(name))
        fillers = vocabulary("fillers")
        for pattern in (*fillers["phrases"], *fillers["words"]):
            self.phrases.add(pattern, Filler())
        self.words = self.phrases.words | numbers.words
        alone = {
            word: found[1] for word in self.words if (found := self.phrases.longest([word], 0, is_number)) is not None
        }
        self.alone, self.telling = (
            set(alone),
            {word for word, meaning in alone.items() if not isinstance(meaning, Filler)},
        )

    def _values(self, facets: Facets) -> None:
        """Every value by its own name, and in the plural."""
        for column, values in facets.choices.items():
            for value in values:
                for words in spoken_forms(value):
                    self._name(words, Value(column, value))

    def _name(self, words: tuple[str, ...], value: Value) -> None:
        *first, last = words
        self.phrases.add(_literal(words), value)
        if last.isalpha():
            many = plural(last)
            self.phrases.add(_literal((*first, many)), Value(value.column, value.value, is_many=True))
            self.value_words.add(many)
        if len(words) == 2:  # "livingroom"
            self.phrases.add("".join(words), value)
        self.value_words.update(words)

    def _meanings(self, facets: Facets) -> None:
        """Other words for values, and qualities."""
        by_name = {
            " ".join(plain_words(value)): (column, value)
            for column, values in facets.choices.items()
            for value in values
        }
        by_name |= {name.replace(" ", ""): found for name, found in by_name.items()}
        found = []
        for entry in vocabulary("meanings"):
            names = [" ".join(plain_words(name)) for name in entry["values"]]
            named = next((by_name[name] for name in names if name in by_name), None)
            if named is not None:
                found.append((named, entry))
        for (column, value), entry in found:
            own = {" ".join(plain_words(value)), plural(plain_words(value)[-1])}
            both = set(entry.get("leans", ())) & ({*entry.get("names", ())} | own)
            for word in (*entry.get("before", ()), *sorted(both)):
                is_before = word not in both
                self.phrases.override(word, Quality(column, value, word, before=is_before, also_names=not is_before))
                if is_before:
                    self.value_words.add(word)
            for pattern in entry.get("names", ()):
                is_many = pattern.endswith("s") and pattern[:-1] in (*entry["names"], *entry["values"])
                self.phrases.add(
                    pattern,
                    Value(column, value, is_many or pattern.endswith(("ies", "docs", "whodunits", "whodunnits"))),
                )
                self.value_words.update(pattern.split())
        for (column, value), entry in found:
            for pattern in entry.get("leans", ()):
                for form in degrees(pattern) if pattern.isalpha() else [pattern]:
                    self.phrases.add(form, Quality(column, value, form if form.isalpha() else ""))

    def _columns(self, facets: Facets, numbers: Numbers) -> None:
        """Columns by their names."""
        roles = vocabulary("roles")
        for role, column in numbers.columns.items():
            for name in roles[role]["names"]:
                self.phrases.add(name, ColumnName(column))
        for column in (*facets.number_columns, *facets.choices):
            if words := plain_words(column):
                patterns = _COLUMN_WORDS.get(column.casefold(), "").split("|")
                for pattern in filter(None, (_literal(words), *patterns)):
                    self.phrases.add(pattern, ColumnName(column))

    def _roles(self, facets: Facets, numbers: Numbers) -> None:
        """Adjectives and comparatives of columns of numbers."""
        for role, words in vocabulary("roles").items():
            column = numbers.columns.get(role)
            if column is None:
                continue
            for name, smaller in (("smaller", True), ("greater", False)):
                self._all(words[name], Comparative(column, smaller))
            plain: dict[bool, Bounds | None] = {True: None, False: None}
            if role == "year" and numbers.latest is not None:
                plain = {True: Bounds(column, high=OLD_UNTIL), False: Bounds(column, low=numbers.latest - NEW_YEARS)}
                self._all(words["old"], Adjective(column, True, plain[True]))
                self._all(words["new"], Adjective(column, False, plain[False]))
            for name, small in (("small", True), ("large", False)):
                self._all(words[name], Adjective(column, small, plain[small]))

    def _all(self, patterns: Iterable[str], meaning: Meaning) -> None:
        for pattern in patterns:
            self.phrases.add(pattern, meaning)


def _literal(words: Iterable[str]) -> str:
    """A name as a pattern: the signs of patterns are no words."""
    return " ".join(word for word in words if word not in ("(", ")", "|", "?"))
