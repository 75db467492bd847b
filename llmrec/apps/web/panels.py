"""The panels of a page as HTML: what a visit holds, put into templates that escape every text."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from llmrec.apps.web.inside import look_inside
from llmrec.apps.web.runs import Shelf
from llmrec.apps.web.visit import DIVERSITIES, RunList, Visit
from llmrec.conversation.session import Listed
from llmrec.conversation.state import MAX_COUNT
from llmrec.conversation.telling import told_state
from llmrec.errors import LlmrecError
from llmrec.recommenders.rules import Condition
from llmrec.terminal import printable

PILLS = 36  # values of a column to press, the most frequent ones
COLUMNS = 6  # of either kind
MOST_TITLES = 30  # that the slider offers; more can be asked for in words
FOUND = 8  # titles shown for what is typed
STATIC = Path(__file__).parent / "static"
_WORDS = {"=": "", "!=": "not ", ">=": "from ", "<=": "up to ", ">": "above ", "<": "below "}


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("llmrec.apps.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def rendered(name: str, **values: Any) -> str:
    """A template of this package with its values, every text of them escaped."""
    return _templates().get_template(f"{name}.html.j2").render(**values)


def picture_address(item: int) -> str:
    """Where the page finds an item's picture."""
    return f"picture/{item}"


def found_titles(shelf: Shelf, typed: str) -> list[dict[str, str]]:
    """The titles that what is typed may mean, for the search box: id, title, meta and picture of each."""
    items = shelf.search.find(typed).items[:FOUND]
    return [
        {
            "id": shelf.catalog.item_id(item),
            "title": _title(shelf, item),
            "meta": meta(shelf, item),
            "picture": picture_address(item),
        }
        for item in items
    ]


def cards(shelf: Shelf, visit: Visit) -> str:
    """The lists, a card a title."""
    ranks = [{one.item_id: one.rank for one in run.listed} for run in visit.lists]
    lists = []
    for place, found in enumerate(visit.lists):
        other = ranks[1 - place] if len(ranks) > 1 else {}
        same_reason = {one.reason for one in found.listed} if len(found.listed) > 1 else set()
        reason = printable(same_reason.pop()) if len(same_reason) == 1 else ""  # one for all is said once
        lists.append({
            "heading": found.run.name if len(visit.lists) > 1 else "For you" if visit.state.liked else "To begin with",
            "note": _note(found, other, len(visit.lists) > 1), "reason": reason,
            "problem": found.problem,
            "cards": [_card(shelf, found, one, other, says_why=not reason) for one in found.listed],
        })  # fmt: skip
    return rendered("cards", lists=lists, problem=visit.problem, number=visit.number)


def _note(found: RunList, other: dict[str, int], is_one_of_two: bool) -> str:
    if not found.listed:
        return ""
    if is_one_of_two:
        return f"{sum(one.item_id in other for one in found.listed)} of {len(found.listed)} in both lists"
    if not found.run.gives_probabilities:
        return f"{len(found.listed)} titles, best first"
    share = math.fsum(math.exp(one.score) for one in found.listed)
    return f"{len(found.listed)} titles, {_percent(share)} of the probability"


def _card(shelf: Shelf, found: RunList, one: Listed, other: dict[str, int], *, says_why: bool) -> dict[str, Any]:
    item = int(shelf.catalog.index([one.item_id])[0])
    worst, best = (edge(e.score for e in found.listed) for edge in (min, max))
    if found.run.gives_probabilities:
        score, told = _percent(math.exp(one.score)), f"log-probability {one.score:.3f}"
        share = math.exp(one.score - best)
    else:
        score, told = f"{one.score:.3g}", "the recommender's own score"
        share = (one.score - worst) / (best - worst) if best > worst else 1.0
    return {
        "rank": one.rank, "item_id": one.item_id, "title": _title(shelf, item), "meta": meta(shelf, item),
        "reason": printable(one.reason) if says_why else "", "picture": picture_address(item), "score": score, "score_title": told,
        "share": f"{100 * share:.0f}", "shared_rank": _ordinal(other[one.item_id]) if one.item_id in other else "",
    }  # fmt: skip


def meta(shelf: Shelf, item: int) -> str:
    """What stands below a title: its first number (the year, where there is one) and a few values of its first column of choices."""
    numbers = sorted(shelf.facets.number_columns, key=lambda name: name != "year")
    parts = []
    if numbers and (value := shelf.catalog.text(item, numbers[0])):
        parts.append(value if numbers[0] == "year" else f"{numbers[0]} {value}")
    if shelf.facets.choices:
        parts.append(shelf.catalog.text(item, next(iter(shelf.facets.choices))))
    return printable(" · ".join(part.removesuffix(".0") for part in parts if part))[:120]


def wishes(shelf: Shelf, visit: Visit) -> str:
    """What is liked, kept out and wished, each with a way to take it back."""
    state = visit.state
    return rendered(
        "wishes",
        liked=_named(shelf, state.liked),
        kept_out=_named(shelf, (*state.disliked, *state.seen)),
        wishes=[
            *(("release", str(one), in_words(one)) for one in state.where),
            *(
                ("release", str(one), printable(f"{'less' if one.less else 'more'} {one.value}"))
                for one in state.prefer
            ),
            *(("release", text, printable(f"no title with “{text}”")) for text in state.without),
            *([("surprise", "", "a surprise")] if state.surprise else []),
        ],
        can_undo=bool(visit.session.past),
        says_nothing=state.says_nothing,
    )


def talk(shelf: Shelf, visit: Visit) -> str:
    """What was said, and what is understood so far."""
    examples = [] if visit.talk else [f"like {_title(shelf, 0)}", "older ones", "surprise me", "help"]
    if visit.talk and visit.state.liked and visit.lists[0].listed:
        examples = ["more", f"why {visit.lists[0].listed[0].rank}", "undo"]
    understood = told_state(visit.state, shelf.reader.labels, shelf.facets)
    return rendered("talk", talk=visit.talk, choices=visit.choices, examples=examples, understood=understood)


def in_words(condition: Condition) -> str:
    """`genres=Comedy|Drama` as "genres: Comedy or Drama"."""
    return printable(f"{condition.column}: {_WORDS[condition.operator]}{' or '.join(condition.values)}")


def filters(shelf: Shelf, visit: Visit) -> str:
    """The length of the list, its variety, and the catalogue's columns to filter by."""
    facets, state = shelf.facets, visit.state
    return rendered(
        "filters",
        count=state.count, most=min(MAX_COUNT, max(MOST_TITLES, state.count)), diversities=DIVERSITIES, diversity=visit.diversity,
        surprise=state.surprise,
        numbers=[_number_column(shelf, visit, name) for name in facets.number_columns[:COLUMNS]],
        choices=[_choice_column(visit, name, facets.choices[name]) for name in list(facets.choices)[:COLUMNS]],
    )  # fmt: skip


def _number_column(shelf: Shelf, visit: Visit, name: str) -> dict[str, str]:
    numbers = shelf.facets.numbers(name)
    bounds = {one.operator[0]: one.values[0] for one in visit.state.where if one.column == name}
    low, high = bounds.get(">", ""), bounds.get("<", "")
    return {
        "name": name,
        "low": low,
        "high": high,
        "least": f"{np.nanmin(numbers):.10g}",
        "most": f"{np.nanmax(numbers):.10g}",
    }


def _choice_column(visit: Visit, name: str, values: tuple[str, ...]) -> dict[str, Any]:
    mode = {
        value: {"=": "want", "!=": "avoid"}.get(one.operator, "")
        for one in visit.state.where
        if one.column == name
        for value in one.values
    }
    shown = [*values[:PILLS], *(value for value in values[PILLS:] if value in mode)]
    pills = [(value, mode.get(value, "")) for value in shown]
    return {"name": name, "num_set": len(mode), "pills": pills, "more": len(values) - len(shown)}


def _named(shelf: Shelf, item_ids: tuple[str, ...]) -> list[dict[str, str]]:
    items = shelf.catalog.index(item_ids).tolist() if item_ids else []
    return [{"item_id": item_id, "title": _title(shelf, item)} for item_id, item in zip(item_ids, items, strict=True)]


def _title(shelf: Shelf, item: int) -> str:
    return printable(shelf.catalog.title(item))[:300] or shelf.catalog.item_id(item)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * min(share, 1.0):.0f} %"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def run_cards(shelf: Shelf) -> list[dict[str, str]]:
    """What the head of the page says of each run."""
    return [{"name": run.name, "about": _about(run.recommender.ranker)} for run in shelf.runs]


def _about(ranker: Any) -> str:
    card = getattr(ranker, "card", {})
    model = card.get("backbone", {}).get("name", ranker.name).rpartition("/")[2]
    parts = [model, card.get("layers", ""), card.get("form", "").replace("_", " ")]
    return printable(" · ".join(part for part in parts if part))


def inside(shelf: Shelf, visit: Visit) -> str:
    """What each run reads and searches for the state as it is."""
    state, views = visit.state, []
    for run in shelf.runs:
        try:
            allowed, instruction = run.reader.allowed(state), run.reader.instruction(state, visit.session.instruction)
            views.append((run.name, look_inside(run, state.liked, state.count, allowed, instruction), ""))
        except LlmrecError as error:
            views.append((run.name, None, printable(str(error))))
    return rendered(
        "inside", views=views, num_items=shelf.catalog.num_items,
        percent=lambda node: _percent(math.exp(node.log_prob)), width=lambda node: f"{100 * math.exp(node.log_prob):.1f}",
        in_words=lambda rule: rule if isinstance(rule, str) else in_words(rule),
        num_tokens=lambda view: f"{sum(piece.num_tokens for piece in view.prompt):,}",
    )  # fmt: skip
