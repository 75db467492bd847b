"""Examples of messages and the lines they are written as, made of a catalogue's own columns, values and titles.

They teach a language model the form of `wish_form`, whatever the catalogue is of.
"""

from __future__ import annotations

import numpy as np

from llmrec.conversation.facets import Facets
from llmrec.conversation.wish_form import MAX_COLUMNS, STOP, comparatives, listed, plain
from llmrec.files import content_hash
from llmrec.items.plain_text import one_line

# What people say instead of values that many catalogues have; an example each where this one has the value.
QUALITIES = {
    "Comedy": "something funny", "Horror": "something scary", "War": "something with tanks", "Sci-Fi": "something futuristic",
    "Romance": "something romantic", "Western": "something with saloons and sheriffs", "Mystery": "something puzzling",
    "Red": "something in red", "Office": "something to put on my desk", "Blue": "something the colour of the sea",
    "Kitchen": "something to boil water", "Travel": "something for the beach holiday", "Black": "something dark",
}  # fmt: skip
NOTHING = ("something for later", "something cheap", "something my friends know")
_FEWEST_QUALITIES, _NAMED_VALUES = 3, 4
_VALUE_COLUMNS = 3  # that examples are made of
_TITLES = 3

Example = tuple[str, tuple[str, ...]]  # a message, and its lines


def examples(facets: Facets) -> list[Example]:
    """A few dozen examples, the same ones for the same catalogue."""
    columns, qualities = listed(facets)[:_VALUE_COLUMNS], _qualities(facets)
    found: list[Example] = [("hello there", ())]
    for place, (column, values) in enumerate(columns):
        found += _of_values(plain(column), [one_line(value) for value in values], place)
    found += [*qualities, *((words, ()) for words in NOTHING)]
    for column in facets.number_columns[:MAX_COLUMNS]:
        found += _of_numbers(facets, column)
    titles = _short_titles(facets)
    for title, (words, head) in zip(
        titles, (("something like {}", "like"), ("I hated {}", "dislike"), ("I have seen {}", "seen")), strict=False
    ):
        found.append((words.format(title), (f"{head}: {title}",)))
    if titles and qualities:
        quality, lines = qualities[0]
        found.append((f"like {titles[-1]}, but {quality.removeprefix('something ')}", (f"like: {titles[-1]}", *lines)))
    found += [
        ("more like the second", ("like: number 2",)),
        ("not the first one", ("dislike: number 1",)),
        ("I know that one already", ("seen: that one",)),
        ("why the third?", ("explain: number 3",)),
        ("surprise me", ("surprise: yes",)),
        ("no surprises, please", ("surprise: no",)),
        ("show me six", ("count: 6",)),
        ("go on", ("next titles",)),
        ("is it any good?", ("answer the question",)),
        ("what do you know about me?", ("list wishes",)),
        ("no, take it back", ("undo",)),
        ("forget everything", ("start over",)),
        ("what can I say?", ("help",)),
        ("see you", ("goodbye",)),
    ]  # fmt: skip
    return sorted(found, key=lambda one: content_hash(one[0]))


def lines_of(example: Example) -> str:
    """The lines as the model would write them."""
    return "\n".join([*example[1], STOP])


def examples_of_values(facets: Facets) -> list[tuple[str, str]]:
    """Words and the value they speak of, or "nothing"; a catalogue without values of `QUALITIES` has its own values for words."""
    columns = listed(facets)
    known = {value for _, values in columns for value in values}
    found = [(words, f"more {value}") for value, words in QUALITIES.items() if value in known]
    if len(found) < _FEWEST_QUALITIES:
        named = [one_line(value) for _, values in columns for value in values[:_NAMED_VALUES]]
        found += [(f"something {value.lower()}", f"more {value}") for value in named[: 2 * _NAMED_VALUES]]
    for place, words in enumerate(NOTHING):
        found.insert(3 * place + 1, (words, "nothing"))
    return found


def _of_values(column: str, values: list[str], place: int) -> list[Example]:
    """Every kind of line about values for the first column, two for the others."""
    a, b, c, d = (values * 4)[:4]
    found: list[Example] = [
        (f"{a.lower()}, please", (f"only {column}: {a}",)),
        (f"no {b.lower()}", (f"not {column}: {b}",)),
    ]
    if place:
        return found
    return [
        *found,
        (f"{c.lower()} or {d.lower()}", (f"only {column}: {c}", f"also {column}: {d}")),
        (f"a bit more {b.lower()}", (f"more {column}: {b}",)),
        (f"less {c.lower()} and no {d.lower()}", (f"less {column}: {c}", f"not {column}: {d}")),
        (f"{d.lower()} is fine again", (f"again {column}: {d}",)),
        (f"it need not be {a.lower()}", (f"drop {column}: {a}",)),
        (f"any {column}", (f"any {column}",)),
    ]


def _of_numbers(facets: Facets, column: str) -> list[Example]:
    numbers = facets.numbers(column)
    low, high = (float(np.nanquantile(numbers, share, method="nearest")) for share in (0.25, 0.75))
    name, is_years = plain(column), facets.is_whole(column) and 1000 <= low <= high <= 2200
    lower, higher = comparatives(facets, column)
    if is_years:
        decade, after = int(high) // 10 * 10, int(low)
        return [
            (f"from the {decade}s", (f"{name} from: {decade}", f"{name} to: {decade + 9}")),
            (f"after {after}", (f"{name} from: {after + 1}",)),
            (f"before {decade}", (f"{name} to: {decade - 1}",)),
            (f"a bit {lower}", (lower,)),
            (f"{higher} ones, please", (higher,)),
            (f"any {name}", (f"any {name}",)),
        ]
    under, over = ("to", "from") if facets.is_whole(column) else ("under", "over")
    return [
        (f"{name} below {low:g}", (f"{name} {under}: {low:g}",)),
        (f"{name} over {high:g}", (f"{name} {over}: {high:g}",)),
        (f"a bit {lower}", (lower,)),
        (f"{higher} ones, please", (higher,)),
    ]


def _qualities(facets: Facets) -> list[Example]:
    columns = {value: column for column, values in reversed(listed(facets)) for value in values}
    return [
        (words, (f"more {plain(columns[value])}: {value}",)) for value, words in QUALITIES.items() if value in columns
    ]


def _short_titles(facets: Facets) -> list[str]:
    """The first few titles of two or three words."""
    catalog, found = facets.catalog, list[str]()
    for item in range(min(catalog.num_items, 1000)):
        title = one_line(catalog.title(item))
        if 2 <= len(title.split()) <= 3 and len(title) <= 30 and title not in found:
            found.append(title)
        if len(found) == _TITLES:
            break
    return found
