"""What goes on inside the model for one visit: the prompt it reads, what rules keep out, the beams as a tree with probabilities.

Letters: K beams of a depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from llmrec.apps.render_prompt import spelt
from llmrec.apps.web.runs import ShownRun
from llmrec.data.interactions import Histories
from llmrec.engines.beams import NEVER
from llmrec.engines.trie import node_range
from llmrec.recommenders.filters import Filter, ruled
from llmrec.recommenders.generative import GenerativeRecommender, OneTokenRecommender
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.requests import Requests
from llmrec.recommenders.rules import Condition, NothingLeft

GIVEN_UP = 4  # nodes that are shown below one node although no title of the list came of them, the likeliest


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt. title: of the item whose slot it is, "" for the words between. num_tokens: of the stretch."""

    text: str
    title: str
    num_tokens: int


@dataclass
class Node:
    """A beam: what it begins with. log_prob: of all tokens down to here. title: of the item (or items) that ends here.

    is_kept: whether a title of the list lies at or below it.
    """

    words: str
    log_prob: float
    title: str = ""
    is_kept: bool = False
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Removed:
    """A rule and how many items it keeps out by itself."""

    rule: str | Condition
    num_items: int


@dataclass(frozen=True)
class Inside:
    """What one run read and searched. root: None for a recommender that is no language model; then there is no prompt either."""

    prompt: tuple[Piece, ...]
    root: Node | None
    removed: tuple[Removed, ...]
    num_left: int
    num_levels: int


def look_inside(
    run: ShownRun, history: tuple[str, ...], k: int, allowed: Filter, instruction: str | None = None
) -> Inside:
    """Ranks once more, watching. Raises RequestError where nothing is left to rank."""
    recommender, ranker = run.recommender, run.recommender.ranker
    removed, num_left = removed_by(run, history, allowed)
    model = getattr(ranker, "model", None)
    if not isinstance(ranker, GenerativeRecommender | OneTokenRecommender) or not isinstance(model, LanguageModel):
        return Inside((), None, removed, num_left, 0)
    items = recommender.catalog.index(history) if history else np.zeros(0, np.int32)
    if "instruction" in model.encoder.prompt.variables:
        instruction = instruction or ""
    requests = Requests(Histories.from_lists([items]), instructions=None if instruction is None else [instruction])
    requests, _ = ruled(recommender.rules, requests, allowed, None)
    with recommender.lock:
        if isinstance(ranker, GenerativeRecommender):
            root, num_levels = _tree(ranker, requests, k), ranker.trie.depth
        else:
            root, num_levels = _one_level(ranker, requests, k), 1
    return Inside(prompt_pieces(model, items, instruction), root, removed, num_left, num_levels)


def prompt_pieces(model: LanguageModel, items: np.ndarray, instruction: str | None) -> tuple[Piece, ...]:
    """The prompt for a history, items int (H,), cut where the slots of items begin and end."""
    rendered = model.encoder.encode_with_spans(items, instruction)
    ids, shown = rendered.input_ids.tolist(), items[len(items) - len(rendered.item_spans) :]
    pieces, at = [], 0
    for item, (start, end) in zip(shown, rendered.item_spans.tolist(), strict=True):
        if start > at:
            pieces.append(Piece(spelt(model, ids[at:start]), "", start - at))
        title = model.catalog.title(item) or model.catalog.item_id(item)
        pieces.append(Piece(spelt(model, ids[start:end]), title, end - start))
        at = end
    if at < len(ids):
        pieces.append(Piece(spelt(model, ids[at:]), "", len(ids) - at))
    return tuple(pieces)


def removed_by(run: ShownRun, history: tuple[str, ...], allowed: Filter) -> tuple[tuple[Removed, ...], int]:
    """What each rule keeps out by itself, and how many items all of them leave together with what was seen."""
    recommender, num_items = run.recommender, run.recommender.catalog.num_items

    def left(**rules: object) -> int:
        try:
            return recommender.rules.choice(**rules).num_left
        except NothingLeft:
            return 0

    removed = [Removed("liked already", len(set(history)))] if history else []
    removed += [Removed("kept out by name", num_items - left(exclude=allowed.exclude))] if len(allowed.exclude) else []
    removed += [Removed(one, num_items - left(where=[one])) for one in allowed.where]
    seen = tuple(dict.fromkeys((*allowed.exclude, *history)))
    return tuple(removed), left(where=allowed.where, exclude=seen)


def _one_level(ranker: OneTokenRecommender, requests: Requests, k: int) -> Node:
    """Every item is one token, so the tree has one level: the list, and what is left to all others."""
    ranking = ranker.rank(requests, k, exclude_seen=True)
    listed = ranking.items[0] >= 0
    root = Node("", 0.0, is_kept=True)
    for item, score in zip(ranking.items[0][listed].tolist(), ranking.scores[0][listed].tolist(), strict=True):
        words = ranker.model.item_tokens.row_strings[item]
        root.children.append(Node(words, score, _title(ranker.model, item), is_kept=True))
    rest = 1.0 - math.fsum(math.exp(node.log_prob) for node in root.children)
    if rest > 0:
        root.children.append(Node(f"{ranker.num_items - int(listed.sum()):,} others", math.log(rest)))
    return root


def _tree(ranker: GenerativeRecommender, requests: Requests, k: int) -> Node:
    """The beams of the search, each below the one it grew from."""
    ranking, trace = ranker.traced(requests, k, exclude_seen=True)
    listed, trie = {item for item in ranking.items[0].tolist() if item >= 0}, ranker.trie
    root = Node("", 0.0, is_kept=True)
    above = [(0, trie.num_items, root)]  # the ranks below each node of the depth before
    for depth, pair in enumerate(trace):
        below = {}
        for beams in pair:  # those that go on are among the best, but where leaves took the places
            starts, ends = (edges[0].tolist() for edges in node_range(beams.states))
            is_leaf = trie.is_leaf(beams.states[0], depth + 1).tolist()
            for place, score in enumerate(beams.scores[0].tolist()):
                if score == NEVER or starts[place] in below:
                    continue
                items = trie.items[starts[place] : ends[place]].tolist()
                node = Node(
                    spelt(ranker.model, [int(beams.tokens[0, place])]), score, is_kept=not listed.isdisjoint(items)
                )
                if is_leaf[place]:
                    node.title = " / ".join(_title(ranker.model, item) for item in items[:3])
                parent = next(node for start, end, node in above if start <= starts[place] < end)
                parent.children.append(node)
                below[starts[place]] = (starts[place], ends[place], node)
        above = list(below.values())
    return _readable(root)


def _readable(node: Node) -> Node:
    """What came of nothing cut down to the likeliest, and stretches without a branch made one node."""
    kept = [child for child in node.children if child.is_kept]
    lost = sorted((child for child in node.children if not child.is_kept), key=lambda child: -child.log_prob)[:GIVEN_UP]
    for child in lost:
        child.children = []
    node.children = sorted([*map(_readable, kept), *lost], key=lambda child: -child.log_prob)
    while len(node.children) == 1 and not node.title and node.words:
        (only,) = node.children
        node.words, node.log_prob, node.title, node.children = (
            node.words + only.words,
            only.log_prob,
            only.title,
            only.children,
        )
    return node


def _title(model: LanguageModel, item: int) -> str:
    return model.catalog.title(item) or model.catalog.item_id(item)
