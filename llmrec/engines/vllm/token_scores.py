"""Log-probabilities of named tokens after prompts, as one-token requests to a stock vLLM engine.

| asked for | over | request |
|---|---|---|
| up to 128 tokens | everything | `logprob_token_ids` |
| any of them | up to 128 tokens | all of these as `logprob_token_ids`, and their softmax is taken here |
| up to 128 tokens | up to 1,024 tokens | `logprob_token_ids`, and `allowed_token_ids` is what the softmax is over |
| more | any set | parts of the set as `allowed_token_ids`, `logprobs` of all of a part; one token in every part ties them |

vLLM takes 128 `logprob_token_ids` at most, and on GPUs quietly heeds no more than 1,024 `allowed_token_ids`. Requests with `logprobs`
and with `logprob_token_ids` in one step of the engine give wrong numbers, so each kind is a call of its own.

Letters: M prompts, N tokens asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmrec.errors import ModelError
from llmrec.text_models.vllm import uncompiled

MOST_IDS = 128  # logprob_token_ids of a request
MOST_ALLOWED = 1024  # allowed_token_ids of a request
_REQUESTS_A_CALL = 1024  # with every log-probability of their part: 1,024 x 1,024 of them are 100 MB of Python numbers
_MOST_VECTOR_MASS = 0.999


class TokenScores:
    """Asks the engine, and counts what it computes.

    num_computed: tokens that the engine read so far and did not have in its prefix cache.
    """

    def __init__(self, llm: Any, num_tokens: int, num_vectors: int) -> None:
        """llm: `vllm.LLM`. num_tokens: V + R, the ids that have logits. num_vectors: S, ids after those, whose logits in an exported
        head are 0 and count in no softmax of ours."""
        self._llm, self._num_tokens, self._num_vectors = llm, num_tokens, num_vectors
        self.num_computed = 0

    def log_probs(
        self, prompts: Sequence[list[int]], asked: Sequence[np.ndarray], over: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """The log-probabilities of the tokens `asked` after each of M prompts: float32 (N,) each.

        asked: integers (N,), each once. over: what the softmax is over, integers that hold those asked for; None: all V + R.
        """
        found: list[np.ndarray] = [np.zeros(len(tokens), np.float32) for tokens in asked]
        # a choice of one is certain
        open_rows = [
            row for row in range(len(prompts)) if len(asked[row]) and (over[row] is None or len(over[row]) > 1)
        ]
        by_id = [row for row in open_rows if self._fits(asked[row], over[row])]
        in_parts = [row for row in open_rows if not self._fits(asked[row], over[row])]
        everything = [row for row in in_parts if over[row] is None]
        # where a softmax over everything is asked about in parts, the token that ties the parts is also asked for by its id
        named = self._named(
            [prompts[row] for row in by_id + everything],
            [asked[row] for row in by_id] + [asked[row][:1] for row in everything],
            [over[row] for row in by_id] + [None] * len(everything),
        )
        for row, values in zip(by_id, named, strict=False):
            found[row] = values
        ties = dict(zip(everything, named[len(by_id) :], strict=True))
        wholes = [asked[row] if over[row] is None else over[row] for row in in_parts]
        for row, whole, values in zip(
            in_parts, wholes, self._relative([prompts[row] for row in in_parts], wholes), strict=True
        ):
            shift = -_logsumexp(values) if over[row] is not None else ties[row][0]
            found[row] = (values[_places(whole, asked[row])] + shift).astype(np.float32)
        return found

    def _fits(self, asked: np.ndarray, over: np.ndarray | None) -> bool:
        """Whether one request by ids is enough."""
        if over is None:
            return len(asked) + (self._num_vectors > 0) <= MOST_IDS
        return len(asked) <= MOST_IDS and len(over) <= MOST_ALLOWED

    def _named(
        self, prompts: Sequence[list[int]], asked: Sequence[np.ndarray], over: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """Of at most 128 tokens each: float64 (N,)."""
        vector = np.array(
            [self._num_tokens] if self._num_vectors else [], np.int64
        )  # one stands for all: their logits are equal
        # A small set is asked for whole and its softmax taken here: a mask would cost vLLM a row of the vocabulary's length.
        small = [among is not None and len(among) <= MOST_IDS for among in over]
        wanted = [
            np.append(tokens, vector) if among is None else among if is_small else tokens
            for tokens, among, is_small in zip(asked, over, small, strict=True)
        ]
        parameters = [
            {
                "logprob_token_ids": tokens.tolist(),
                "allowed_token_ids": None if among is None or is_small else among.tolist(),
            }
            for tokens, among, is_small in zip(wanted, over, small, strict=True)
        ]
        found = []
        for place, values in enumerate(self._ask(prompts, parameters, wanted)):
            if small[place]:
                values = (values - _logsumexp(values))[_places(over[place], asked[place])]
            elif over[place] is None and len(vector):
                values = self._without_vectors(values)
            assert len(values) == len(asked[place]), (len(values), len(asked[place]))
            found.append(values)
        return found

    def _without_vectors(self, values: np.ndarray) -> np.ndarray:
        """Log-probabilities over V + R tokens, of some over V + R + S of which the last is that of a vector token: (N + 1,) -> (N,)."""
        mass = self._num_vectors * np.exp(values[-1])
        if mass > _MOST_VECTOR_MASS:
            raise ModelError(
                "the logits of this model lie so far below zero that vLLM sees little but the rows of soft tokens next to them, so the "
                'softmax over the vocabulary cannot be had from it. Serve the run with engine="torch", or with the softmax scope trie.'
            )
        return values[:-1] - np.log1p(-mass)

    def _relative(self, prompts: Sequence[list[int]], wholes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logits of whole sets less that of their first token: integers (N,) each -> float64 (N,) each."""
        parts = [(row, part) for row, whole in enumerate(wholes) for part in _tied_parts(whole)]
        found: list[list[np.ndarray]] = [[np.zeros(1)] for _ in wholes]
        for start in range(0, len(parts), _REQUESTS_A_CALL):
            some = parts[start : start + _REQUESTS_A_CALL]
            sets = [part for _, part in some]
            parameters = [{"allowed_token_ids": part.tolist(), "logprobs": len(part)} for part in sets]
            answers = self._ask([prompts[row] for row, _ in some], parameters, sets)
            for (row, _), values in zip(some, answers, strict=True):
                found[row].append(values[1:] - values[0])
        return [np.concatenate(pieces) for pieces in found]

    def _ask(
        self, prompts: Sequence[list[int]], parameters: Sequence[dict[str, Any]], wanted: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """What the engine says of the wanted tokens: float64 (N,) each. All requests are of one kind."""
        if not prompts:
            return []
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        made = [
            SamplingParams(
                max_tokens=1, temperature=0, detokenize=False, ignore_eos=True, flat_logprobs=True, skip_clone=True,
                output_kind=RequestOutputKind.FINAL_ONLY, **given,
            )
            for given in parameters
        ]  # fmt: skip
        with uncompiled():
            outputs = self._llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], made, use_tqdm=False)
        found = []
        for output, prompt, tokens in zip(outputs, prompts, wanted, strict=True):
            self.num_computed += len(prompt) - (output.num_cached_tokens or 0)
            flat = output.outputs[0].logprobs
            ids, values = np.array(flat.token_ids), np.array(flat.logprobs, np.float64)
            found.append(values[_places(ids, tokens)])
        return found


def _places(tokens: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where the wanted tokens stand among `tokens`, which may name one twice."""
    order = np.argsort(tokens, kind="stable")
    places = order[np.searchsorted(tokens, wanted, sorter=order).clip(max=len(tokens) - 1)]
    assert (tokens[places] == wanted).all(), "the engine left out tokens that were asked for"
    return places


def _tied_parts(whole: np.ndarray) -> list[np.ndarray]:
    """A set in parts of at most MOST_ALLOWED tokens, each with the set's first token at its beginning."""
    step = MOST_ALLOWED - 1
    return [np.append(whole[:1], whole[start : start + step]) for start in range(1, len(whole), step)]


def _logsumexp(values: np.ndarray) -> float:
    highest = values.max()
    return float(highest + np.log(np.exp(values - highest).sum()))
