"""A form that a language model fills in: lines that begin with one of a few heads and may go on with an option.

The model chooses token by token among those that continue a head, or an option, that is still allowed, so whatever it says, what stands
there in the end is a head and an option of the lists. Where one token alone can follow, the model is not asked.

Letters: N options, L tokens of the longest one, V vocabulary, W tokens that may follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.data.interactions import Histories
from llmrec.engines.allowed_items import AllowedItems
from llmrec.engines.trie import TokenTrie, node_range
from llmrec.items.forms import ItemTokens
from llmrec.items.plain_text import Tokenizer, one_line, plain_ids

MAX_OPTION_TOKENS = 48  # longer options are cut
_USUAL_SHARE = 0.5  # of the logits after a prompt that says nothing; of 0, 0.5, 0.8 and 1 the best for a model of 135M (docs/chat.md)

NextLogits = Callable[[Sequence[int]], Tensor]  # token ids so far -> logits of the next token, float32 (V,)


class Options:
    """Texts to choose from, as a trie of their tokens. Each ends with its line, so none is the beginning of another."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, *, space: str = " ") -> None:
        """texts: at least one; white space in them is one space. space: what stands before each."""
        assert texts, "there has to be something to choose from"
        self.texts = tuple(texts)
        rows, _ = plain_ids([space + one_line(text) for text in texts], tokenizer, MAX_OPTION_TOKENS)
        end = plain_ids(["\n"], tokenizer, 1)[0][0]
        self.trie = _trie([row + end for row in rows])

    def log_probs(self, prompt: Sequence[int], next_logits: NextLogits) -> np.ndarray:
        """The log-probability of each option after a prompt (token ids), among the options alone: float64 (N,).

        The model is asked once for every beginning that more than one option has.
        """
        found = np.zeros(len(self.texts))
        open_nodes = [(self.trie.root, list[int](), 0.0)]
        while open_nodes:
            node, tokens, log_prob = open_nodes.pop()
            state = torch.tensor([node])
            if bool(self.trie.is_leaf(state, len(tokens))):
                start, end = (int(edge) for edge in node_range(state))
                found[self.trie.items[start:end].numpy()] = log_prob
                continue
            nexts, states = (row[0] for row in self.trie.children(state, len(tokens)))  # (W,)
            scores = torch.zeros(1)
            if len(nexts) > 1:
                scores = next_logits([*prompt, *tokens]).cpu()[nexts].log_softmax(-1)
            for token, below, more in zip(nexts.tolist(), states.tolist(), scores.tolist(), strict=True):
                open_nodes.append((below, [*tokens, token], log_prob + more))
        return found


@dataclass(frozen=True)
class Line:
    """One line that was written. option: place in the head's options (of equal ones the first), None where it has none.

    log_prob: of the head among all heads that were allowed and of the option among its options; stop_log_prob: of stopping instead,
    as far as the first token says by which that differs.
    """

    head: str
    option: int | None
    log_prob: float
    stop_log_prob: float


class Form:
    """What may be written: heads with the options that follow them (None: nothing follows), and the word that stops."""

    def __init__(self, heads: dict[str, Options | None], stop: str, tokenizer: Tokenizer) -> None:
        """heads: without ":", which stands after those that options follow."""
        assert heads and stop not in heads and not any(":" in head for head in heads), (list(heads), stop)
        self.heads, self.stop = heads, stop
        self._names = (*heads, stop)
        texts = [name if heads.get(name) is None else f"{name}:" for name in self._names]
        rows, _ = plain_ids(texts, tokenizer, MAX_OPTION_TOKENS)
        end = plain_ids(["\n"], tokenizer, 1)[0][0]
        rows = [row + end if heads.get(name) is None else row for name, row in zip(self._names, rows, strict=True)]
        self._starts, self._stop_row = _trie(rows), rows[-1]

    def write(
        self, prompt: Sequence[int], next_logits: NextLogits, max_lines: int, usual: Tensor | None = None
    ) -> list[Line]:
        """The lines that a model writes greedily after a prompt (token ids), until it stops; no line twice.

        usual: logits after a prompt that says nothing, float32 (V,): they are taken off where the first line begins, for a small model
        leans to some heads whatever it reads (contextual calibration, Zhao et al. 2021, arXiv:2102.09690).
        """
        ids, lines = list(prompt), []
        used_heads: list[int] = []  # those of which nothing is left
        used: dict[str, list[int]] = {name: [] for name in self.heads}
        while len(lines) < max_lines:
            head = _choose(self._starts, ids, used_heads, next_logits, self._stop_row, None if lines else usual)
            name, log_prob, ids = self._names[head.items[0]], head.log_prob, ids + head.tokens
            if name == self.stop:
                break
            options, option = self.heads[name], None
            if options is None:
                used_heads += head.items
            else:
                chosen = _choose(options.trie, ids, used[name], next_logits)
                option, log_prob, ids = chosen.items[0], log_prob + chosen.log_prob, ids + chosen.tokens
                used[name] += chosen.items
                used_heads += head.items if len(used[name]) == options.trie.num_items else []
            lines.append(Line(name, option, log_prob, head.other_log_prob))
        return lines


@dataclass(frozen=True)
class _Chosen:
    """items: on the leaf that was reached; other_log_prob: of the token by which another sequence parted from the way there."""

    items: list[int]
    tokens: list[int]
    log_prob: float
    other_log_prob: float


def _choose(
    trie: TokenTrie,
    ids: list[int],
    excluded: list[int],
    next_logits: NextLogits,
    other: Sequence[int] = (),
    usual: Tensor | None = None,
) -> _Chosen:
    """The way from the root to a leaf that takes the likeliest token at each node, past leaves whose items are excluded."""
    allowed = AllowedItems(trie, 1, None, Histories.from_lists([excluded]))
    state, tokens = torch.tensor([[trie.root]]), []
    log_prob, other_log_prob, together = 0.0, 0.0, bool(other)
    while not bool(trie.is_leaf(state, len(tokens))):
        found, states = trie.children(state, len(tokens))  # (1, 1, W)
        is_open = allowed.is_allowed(states)[0, 0]
        found, states = found[0, 0][is_open], states[0, 0][is_open]  # (W,)
        best = 0
        if len(found) > 1:
            logits = next_logits(ids + tokens)
            logits = logits if tokens or usual is None else logits - _USUAL_SHARE * usual
            scores = logits.cpu()[found].log_softmax(-1)
            best = int(scores.argmax())
            log_prob += float(scores[best])
            if together:
                is_other = found == other[len(tokens)]
                other_log_prob += float(scores[is_other][0])
        token = int(found[best])
        together = together and token == other[len(tokens)]
        tokens.append(token)
        state = states[best].view(1, 1)
    start, end = (int(edge) for edge in node_range(state))
    return _Chosen(trie.items[start:end].tolist(), tokens, log_prob, other_log_prob)


def _trie(rows: list[list[int]]) -> TokenTrie:
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    sequences = np.full((len(rows), int(lengths.max())), -1, dtype=np.int32)  # (N, L)
    for row, ids in enumerate(rows):
        sequences[row, : len(ids)] = ids
    return TokenTrie.from_item_tokens(
        ItemTokens(sequences, lengths, "text", int(sequences.max()) + 1, [], np.zeros(0, dtype=np.int32))
    )
