"""Ways to serve one run of semantic ids: both of llmrec's engines, vLLM's own beam search, and `generate` of transformers.

    python benchmarks/serving.py --run runs/mine
    python benchmarks/serving.py --run runs/mine --gpu        # on one GPU, vLLM built for it; goals are checked there

| peer | how items are enforced |
|---|---|
| torch | llmrec, engine="torch": the trie, prompts read once for all beams |
| vllm | llmrec, engine="vllm": the trie, rounds of one-token requests on one vLLM engine |
| vllm_beam_search | vLLM's `LLM.beam_search` on the same engine: not at all, so the share of its beams that are items is shown |
| generate | transformers' beam search on the exported checkpoint, restricted by `prefix_allowed_tokens_fn` |

Outputs are compared first: torch, vllm and generate give the same items under the softmax scope `trie`. Every call asks for
histories of its own, all of one length, and caches of prompts are off or emptied, so that nothing answers from memory. Seconds are
the wall's (median, p95); cpu_s are the process's, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np


def flags() -> argparse.ArgumentParser:
    """See `harness.parser`."""
    result = harness.parser(__doc__, quick={"rounds": 3, "beams": [10, 20], "requests": [1, 8]}, rounds=10)
    result.add_argument("--run", type=Path, required=True, help="a run whose items are semantic ids, bare prompts")
    result.add_argument("--beams", type=int, nargs="+", default=[10, 20, 50])
    result.add_argument("--requests", type=int, nargs="+", default=[1, 8, 32])
    result.add_argument(
        "--tokens", type=int, default=64, help="of a prompt, at most; 64 fills two blocks of vLLM's cache"
    )
    result.add_argument(
        "--generate-rows", type=int, default=160, help="requests times beams up to which generate is timed"
    )
    result.add_argument("--gpu", dest="device", action="store_const", const="cuda", default="cpu", help="on one GPU")
    return result


def run(options: argparse.Namespace) -> dict:
    """The result: see `harness.KEYS`; here `table`, a row for each number of beams and of requests."""
    import torch

    from llmrec.recommender import Recommender

    on_vllm = Recommender.from_pretrained(
        options.run, dtype=torch.float32, engine="vllm", softmax_scope="trie", engine_options={"skip_tokenizer_init": False}
    )  # fmt: skip
    on_torch = Recommender.from_pretrained(
        options.run, dtype=torch.float32, device=options.device, softmax_scope="trie", prompt_cache_mib=0
    )
    peers = Peers(on_torch.ranker, on_vllm.ranker, options.tokens, options.device)
    table = []
    for requests in options.requests:
        for beams in options.beams:
            peers.require_alike(beams, requests)
            for row in measured(peers, beams, requests, options):
                table.append({"beams": beams, "requests": requests, "prompt_tokens": peers.length, **row})
                print(table[-1], file=sys.stderr)  # the whole table takes many minutes
    on_vllm.close()
    return {"identical": True, "table": table, **({"goals": goals(table)} if options.device == "cuda" else {})}


class Peers:
    """Each peer as a function of histories and beams that returns items (B, K) and the share of its beams that are items."""

    def __init__(self, on_torch, on_vllm, tokens: int, device: str) -> None:
        from decode_peers import Generate
        from transformers import AutoModelForCausalLM

        self.torch, self.vllm = on_torch, on_vllm
        model = on_vllm.model
        self.llm = model.engine.token_scores._llm
        lengths = model.encoder.prompt_sequences.lengths
        assert model.encoder.prompt.kind == "bare" and lengths.min() == lengths.max(), (
            "a run of semantic ids and bare prompts"
        )
        self.num_items_shown = min((tokens - len(model.encoder.prefix)) // int(lengths[0]), model.encoder.max_history)
        self.length = len(model.encoder.prefix) + self.num_items_shown * int(lengths[0])
        checkpoint = self.llm.llm_engine.model_config.model
        plain = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="float32").to(device).eval()
        self.answers = {tuple(row): item for item, row in enumerate(model.item_tokens.sequences.tolist())}
        self._generate = {beams: Generate(plain, model.item_tokens, beams, "trie") for beams in (10, 20, 50)}
        self._rng, self._plain = np.random.default_rng(0), plain

    def prompts(self, number: int) -> list[np.ndarray]:
        """Of histories nobody has asked about yet, all of one length."""
        items = [self._rng.choice(self.vllm.num_items, self.num_items_shown, replace=False) for _ in range(number)]
        self.llm.reset_prefix_cache()
        return [self.vllm.model.encoder.encode(history) for history in items]

    def of_engine(self, ranker, prompts: list[np.ndarray], beams: int) -> tuple[list[list[int]], float]:
        found, _ = ranker.model.engine.beam_search(
            ranker.trie, prompts, beams, num_beams=beams, allowed_items=None, softmax_scope="trie"
        )
        return found.tolist(), float((found >= 0).float().mean())

    def of_generate(self, prompts: list[np.ndarray], beams: int) -> tuple[list[list[int]], float]:
        import torch

        ids = torch.from_numpy(np.stack(prompts).astype(np.int64)).to(self._plain.device)
        return self._generate[beams].plain(ids)[0], 1.0

    def of_beam_search(self, prompts: list[np.ndarray], beams: int) -> tuple[list[list[int]], float]:
        from vllm.sampling_params import BeamSearchParams

        length = self.vllm.model.item_tokens.max_length
        settings = BeamSearchParams(beam_width=beams, max_tokens=length, ignore_eos=True, temperature=0.0)
        outputs = self.llm.beam_search([{"prompt_token_ids": prompt.tolist()} for prompt in prompts], settings)
        found = [
            [self.answers.get(tuple(each.tokens[-length:]), -1) for each in output.sequences] for output in outputs
        ]
        return found, float((np.array(found) >= 0).mean())

    def functions(self, beams: int) -> dict[str, Callable[[list[np.ndarray]], tuple[list[list[int]], float]]]:
        """By name, in the order of the table."""
        return {
            "torch": lambda prompts: self.of_engine(self.torch, prompts, beams),
            "vllm": lambda prompts: self.of_engine(self.vllm, prompts, beams),
            "vllm_beam_search": lambda prompts: self.of_beam_search(prompts, beams),
            "generate": lambda prompts: self.of_generate(prompts, beams),
        }

    def require_alike(self, beams: int, requests: int) -> None:
        """Raises NotIdentical unless the three that enforce items give the same ones in the same order."""
        prompts, functions = self.prompts(min(requests, 4)), self.functions(beams)
        ours = functions["torch"](prompts)[0]
        for name in ("vllm", "generate"):
            harness.require_identical(
                functions[name](prompts)[0] == ours, f"the items of {name} and torch with {beams} beams"
            )


def measured(peers: Peers, beams: int, requests: int, options: argparse.Namespace) -> list[dict]:
    """A row for each peer: calls in turn, A B C A B C, each with histories of its own."""
    functions = peers.functions(beams)
    if beams * requests > options.generate_rows:  # every beam reads the prompt: minutes a call
        del functions["generate"]
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in functions}
    valid: dict[str, list[float]] = {name: [] for name in functions}
    finish = harness.finisher(options.device)
    for round_ in range(-1, options.rounds):
        for name, function in functions.items():
            prompts = peers.prompts(requests)
            began, cpu_began = time.perf_counter(), time.process_time()
            _, share = function(prompts)
            if finish is not None:
                finish()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - began)
                cpu_seconds[name].append(time.process_time() - cpu_began)
                valid[name].append(share)
    return [
        {"peer": name, "median_s": statistics.median(times), "p95_s": float(np.quantile(times, 0.95)),
         "cpu_s": statistics.median(cpu_seconds[name]),
         "requests_per_s": requests / statistics.median(times), "valid": statistics.mean(valid[name])}
        for name, times in seconds.items()
    ]  # fmt: skip


def goals(table: list[dict]) -> list[dict]:
    """On a GPU: 3 times vLLM's own beam search at 50 beams, and at least the torch engine's requests a second at 32."""
    rates = {(row["peer"], row["beams"], row["requests"]): row["requests_per_s"] for row in table}
    own, ours, torch_engine = (rates[peer, 50, 32] for peer in ("vllm_beam_search", "vllm", "torch"))
    return [
        harness.goal("engine vllm over vLLM's beam_search, 50 beams, 32 requests", ours / own, 3, "x", at_least=True),
        harness.goal(
            "engine vllm over engine torch, 50 beams, 32 requests", ours / torch_engine, 1, "x", at_least=True
        ),
    ]


if __name__ == "__main__":
    harness.main(flags(), run)
