"""The engine that asks one vLLM engine on the exported checkpoint: the torch engine's search, in rounds of one-token requests.

A round is one depth of the trie: all live beams of all waiting requests, each as its prompt and its own tokens. vLLM's prefix cache
reads what they share once, but for the tail of a prompt that fills no whole block of the cache.

Letters: B requests, K beams, W children, C candidates, L tokens of an answer, M nodes, R item embeddings.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.engines.allowed_items import AllowedItems
from llmrec.engines.beams import NEVER, Beams, Trace, beam_width, best_items, grow_beams, is_uncertain
from llmrec.engines.scopes import candidate_tokens, children_on_the_way, rows_of_levels
from llmrec.engines.torch.engine import TorchEngine
from llmrec.engines.trie import TokenTrie, node_range
from llmrec.engines.vllm.token_scores import TokenScores
from llmrec.errors import ConfigError, ModelError
from llmrec.items.forms import ItemTokens
from llmrec.processes import as_parent
from llmrec.text_models.vllm import engine_settings, import_vllm, uncompiled

NODES_A_CALL = 16_384  # nodes of beams, or prompts, that stand as lists of tokens at a time


@contextlib.contextmanager
def _or_refused() -> Iterator[None]:
    """What vLLM raises while it loads a checkpoint, or first computes with it, as a ModelError."""
    from vllm.v1.engine.exceptions import EngineDeadError  # of an engine in a process of its own

    expected = (OSError, ValueError, RuntimeError, TypeError, AssertionError, NotImplementedError, EngineDeadError)
    try:
        yield
    except expected as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
        raise ModelError(f'vLLM cannot serve this run\'s checkpoint ({first}); engine="torch" can.') from error


def check_device(name: str | None) -> None:
    """Raises ConfigError where vLLM is not installed, or was built for another device than the one named."""
    import_vllm('engine="vllm"', 'engine="torch"')
    from vllm.platforms import current_platform

    here = current_platform.device_type
    if name is not None and name.partition(":")[0] != here:
        raise ConfigError(
            f"vLLM is installed here for '{here}', but the device named is '{name}'. Leave the device out."
        )


class VllmEngine:
    """See `llmrec.engines.engine.Engine`. Tries lie on the CPU: the search itself is a small part of the work."""

    def __init__(
        self,
        checkpoint: Path,
        backbone: Backbone,
        *,
        dtype: torch.dtype,
        max_tokens: int,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts vLLM, in this process where it runs on a CPU.

        checkpoint: what `llmrec.backbones.export.export` wrote of `backbone`, of which the item table and its size are read here, and
        no layer. dtype: the engine's precision. max_tokens: of a prompt and its answer. options: more of `vllm.LLM`'s own settings.

        Raises ConfigError where vLLM is not installed, ModelError where it does not load the checkpoint.
        """
        vllm = import_vllm('engine="vllm"', 'engine="torch"')
        self.device = torch.device("cpu")
        self._dtype, self._version, self._backbone = str(dtype).removeprefix("torch."), vllm.__version__, backbone
        positions = getattr(backbone.config.get_text_config(decoder=True), "max_position_embeddings", max_tokens)
        settings = engine_settings() | {
            "dtype": self._dtype,
            "max_model_len": min(max_tokens, positions),
            "logprobs_mode": "processed_logprobs",  # after masks: allowed_token_ids are then what the softmax is over
            "max_logprobs": -1,
            "skip_tokenizer_init": True,
        }
        self._llm: Any = None
        with _or_refused(), uncompiled(), as_parent():
            self._llm = vllm.LLM(str(checkpoint), **settings | dict(options or {}))
        _alive.add(self)
        self.token_scores = TokenScores(self._llm, backbone.num_tokens, backbone.vector_tokens.num_tokens)

    @property
    def block_size(self) -> int:
        """Tokens of a block of the prefix cache."""
        return self._llm.llm_engine.vllm_config.cache_config.block_size

    @property
    def card(self) -> dict[str, Any]:
        """See `Engine`."""
        return {"dtype": self._dtype, "engine": f"vllm {self._version}"}

    def batches(self, prompts: Sequence[np.ndarray], *, positions_a_prompt: int = 0) -> Iterator[np.ndarray]:
        """Row numbers in their order; vLLM makes its own batches of what it is given at once."""
        at_once = max(1, NODES_A_CALL // max(1, positions_a_prompt))
        for start in range(0, len(prompts), at_once):
            yield np.arange(start, min(start + at_once, len(prompts)))

    def beam_search(
        self,
        trie: TokenTrie,
        prompts: Sequence[np.ndarray],
        k: int,
        *,
        num_beams: int,
        allowed_items: AllowedItems | None,
        softmax_scope: SoftmaxScope,
        trace: Trace | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Engine`."""
        width = beam_width(k, num_beams)
        rows = rows_of_levels(self._backbone, softmax_scope, trie.token_ranges)
        begun = [prompt.tolist() for prompt in prompts]

        def child_scores(beams: Beams, tokens: Tensor, is_allowed: Tensor, depth: int) -> Tensor:
            log_probs = torch.zeros(tokens.shape)
            is_read = is_uncertain(beams.states, beams.scores > NEVER, softmax_scope)
            request, beam = is_read.nonzero(as_tuple=True)  # (M,) each
            starts, _ = node_range(beams.states[request, beam])
            written = trie.tokens_at(starts[:, None].expand(-1, depth), torch.arange(depth).expand(len(starts), -1))
            may_follow, is_open = tokens[request, beam].numpy(), is_allowed[request, beam].numpy()  # (M, W) each
            asked = [row[mask] for row, mask in zip(may_follow, is_open, strict=True)]
            over = [self._compared(softmax_scope, rows[depth], row[row >= 0]) for row in may_follow]
            nodes = [begun[place] + tail for place, tail in zip(request.tolist(), written.tolist(), strict=True)]
            values = np.zeros(may_follow.shape, np.float32)
            values[is_open] = np.concatenate([values[:0, 0], *self.token_scores.log_probs(nodes, asked, over)])
            log_probs[request, beam] = torch.from_numpy(values)
            return log_probs

        finished = grow_beams(trie, len(prompts), width, allowed_items, child_scores, trace)
        return best_items(trie, allowed_items, finished, k)

    def _compared(self, scope: SoftmaxScope, level: slice | None, children: np.ndarray) -> np.ndarray | None:
        """What a softmax is over after a node with these children in the whole catalogue: token ids, None for all."""
        if scope == "trie":
            return children
        if scope == "vocabulary":
            return None
        return np.arange(level.start, level.stop) + self._backbone.base_vocab_size

    def score_candidates(
        self,
        trie: TokenTrie,
        item_tokens: ItemTokens,
        prompts: Sequence[np.ndarray],
        candidates: np.ndarray,
        *,
        softmax_scope: SoftmaxScope,
    ) -> Tensor:
        """See `Engine`. Every node that a candidate passes is read once, all of them together."""
        answers = candidate_tokens(item_tokens, prompts, candidates)  # (B, C, L), -1 beyond the end
        rows = rows_of_levels(self._backbone, softmax_scope, trie.token_ranges[: answers.shape[2]])
        children = children_on_the_way(trie, answers) if softmax_scope == "trie" else None
        wanted: dict[
            tuple[int, tuple[int, ...]], dict[int, int]
        ] = {}  # of each request and node, the tokens and their places
        over: dict[tuple[int, tuple[int, ...]], np.ndarray | None] = {}
        steps = []  # of each candidate the nodes it passes, and its token after each
        for request, listed in enumerate(answers.tolist()):
            for candidate, answer in enumerate(listed):
                for depth, token in enumerate(answer):
                    if token < 0:
                        break
                    node = (request, tuple(answer[:depth]))
                    if node not in over:
                        found = None if children is None else children[depth]
                        after = (
                            np.zeros(0, np.int64)
                            if found is None
                            else found.tokens[found.node_of[request, candidate]].numpy()
                        )
                        over[node] = self._compared(softmax_scope, rows[depth], after[after >= 0])
                    tokens = wanted.setdefault(node, {})
                    steps.append((request, candidate, node, tokens.setdefault(token, len(tokens))))
        nodes = list(wanted)
        begun = [prompt.tolist() for prompt in prompts]
        log_probs = self.token_scores.log_probs(
            [begun[request] + list(written) for request, written in nodes],
            [np.array(list(wanted[node])) for node in nodes],
            [over[node] for node in nodes],
        )
        values = dict(zip(nodes, log_probs, strict=True))
        scores = np.zeros(answers.shape[:2], np.float32)
        for request, candidate, node, place in steps:
            scores[request, candidate] += values[node][place]
        return torch.from_numpy(scores)

    def item_logits(self, prompts: Sequence[np.ndarray]) -> Callable[[slice], Tensor]:
        """See `Engine`."""
        found = self.item_log_probs(prompts, softmax_scope="level")
        return lambda rows: found[:, rows]

    def item_log_probs(self, prompts: Sequence[np.ndarray], *, softmax_scope: SoftmaxScope) -> Tensor:
        """See `Engine`."""
        items = np.arange(self._backbone.base_vocab_size, self._backbone.num_tokens)
        over = None if softmax_scope == "vocabulary" else items
        begun = [prompt.tolist() for prompt in prompts]
        found = self.token_scores.log_probs(begun, [items] * len(begun), [over] * len(begun))
        return torch.from_numpy(np.stack(found))

    @torch.no_grad()
    def check_agreement(self, prompts: Sequence[np.ndarray]) -> None:
        """Raises ModelError where vLLM computes something else after these prompts than the backbone, whose layers this needs.

        Of some makes of model vLLM ignores an untied head or a scale, and every answer would be wrong without a word.
        """
        model, words = self._backbone, self._backbone.base_vocab_size
        spread = np.append(np.linspace(0, words - 1, 32), np.linspace(words, model.num_tokens - 1, 32))
        names = np.unique(spread.astype(np.int64))
        names = names[names < model.num_tokens]  # titles have no item embeddings
        hidden = TorchEngine(model).last_hidden(prompts)
        ours = model.token_logits(hidden, torch.from_numpy(names).to(hidden.device)).log_softmax(1).cpu().numpy()
        asked = [names] * len(prompts)
        with _or_refused():
            theirs = np.stack(self.token_scores.log_probs([prompt.tolist() for prompt in prompts], asked, asked))
        tolerance = 1e-3 if self._dtype == "float32" else 5e-2
        off = float(np.abs(ours - theirs).max())
        if not off <= tolerance * max(1.0, float(np.abs(ours).max())):
            self.close()
            raise ModelError(
                f"vLLM {self._version} computes other scores of this run's {type(model.causal_lm).__name__} than the model itself "
                f'(they differ by {off:.2g}). Serve it with engine="torch".'
            )

    @property
    def is_alive(self) -> bool:
        """See `Engine`."""
        from vllm.v1.engine.core_client import MPClient

        core = None if self._llm is None else self._llm.llm_engine.engine_core
        return core is not None and not (isinstance(core, MPClient) and core.resources.engine_dead)

    def close(self) -> None:
        """Ends vLLM and gives its memory back. Other engines of this process go on."""
        if self._llm is None:
            return
        from vllm import envs

        _alive.discard(self)
        core = self._llm.llm_engine.engine_core
        if envs.VLLM_ENABLE_V1_MULTIPROCESSING or not _alive:
            core.shutdown()
        else:  # in one process vLLM's engines share process groups, which the end of one would take from the others
            core._finalizer.detach()
            del core
        self._llm = self.token_scores = None
        gc.unfreeze()  # vLLM hides what it has made from the collector
        gc.collect()


_alive: weakref.WeakSet[VllmEngine] = weakref.WeakSet()  # of this process
