"""What `make bench`, `make bench-full` and `make bench-gpu` run: one line per result. Goals are for one CPU thread at full sizes.

A result is one JSON file, benchmarks/results/MACHINE/NAME.json; goals that depend on the settings of a run stand here, the others
in the bench itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Goal:
    """A limit on one number of the result. path: its keys, with dots; at_least: a lower limit, else an upper one."""

    what: str
    path: str
    limit: float
    unit: str = "x"
    at_least: bool = True


@dataclass(frozen=True)
class Run:
    """One start of a bench: `python benchmarks/{bench}.py {flags} --json`."""

    name: str
    bench: str
    flags: str = ""
    goals: tuple[Goal, ...] = field(default=())


def _decode(name: str, flags: str, *goals: tuple[str, str, float, bool]) -> Run:
    return Run(
        f"decode-{name}", "decode", flags, tuple(Goal(what, path, limit, "x", low) for what, path, limit, low in goals)
    )


QUICK = tuple(
    Run(bench, bench, "--quick")
    for bench in ("decode", "training", "trie", "evaluation", "data", "semantic_ids", "ease_r", "memory", "growth", "http_load")
)  # fmt: skip

FULL = (
    _decode("vocabulary-135m-128", "--shape smollm2-135m --prompt 128 --softmax-scope vocabulary",
            ("vocabulary, 135M, prompt 128, vs generate", "ratio.hf", 11, True),
            ("vocabulary, 135M, prompt 128, vs prefill once", "ratio.hf_prefill_once", 1.6, True),
            ("vocabulary, 135M, prompt 128, request over prefill", "over_prefill", 1.8, False)),
    _decode("vocabulary-135m-512", "--shape smollm2-135m --prompt 512 --softmax-scope vocabulary --rounds 3",
            ("vocabulary, 135M, prompt 512, vs generate", "ratio.hf", 16, True),
            ("vocabulary, 135M, prompt 512, request over prefill", "over_prefill", 1.25, False)),
    _decode("trie-135m-128", "--shape smollm2-135m --prompt 128 --softmax-scope trie",
            ("trie, 135M, prompt 128, vs generate", "ratio.hf", 14, True),
            ("trie, 135M, prompt 128, request over prefill", "over_prefill", 1.35, False)),
    _decode("trie-135m-512", "--shape smollm2-135m --prompt 512 --softmax-scope trie --rounds 3",
            ("trie, 135M, prompt 512, vs generate", "ratio.hf", 18, True),
            ("trie, 135M, prompt 512, request over prefill", "over_prefill", 1.1, False)),
    _decode("vocabulary-135m-128-unpacked", "--shape smollm2-135m --prompt 128 --softmax-scope vocabulary --no-pack",
            ("vocabulary, 135M, prompt 128, weights unpacked, vs generate", "ratio.hf", 11, True),
            ("vocabulary, 135M, prompt 128, weights unpacked, request over prefill", "over_prefill", 1.8, False)),
    _decode("trie-135m-128-unpacked", "--shape smollm2-135m --prompt 128 --softmax-scope trie --no-pack --peers hf_prefill_once",
            ("trie, 135M, prompt 128, weights unpacked, request over prefill", "over_prefill", 1.35, False)),
    *(
        _decode(f"{scope}-135m-{prompt}-batch8",
            f"--shape smollm2-135m --prompt {prompt} --batch 8 --softmax-scope {scope} --rounds 3 --peers hf_prefill_once",
            (f"{scope}, 135M, prompt {prompt}, batch 8, request over prefill", "over_prefill", limit, False))
        for scope, prompt, limit in (("vocabulary", 128, 1.8), ("vocabulary", 512, 1.25), ("trie", 128, 1.35), ("trie", 512, 1.1))
    ),
    _decode("vocabulary-4x384-128",
            "--shape 4x384 --prompt 128 --batch 8 --softmax-scope vocabulary --peers hf hf_prefill_once hf_hash_mask",
            ("vocabulary, 4 x 384, batch 8, vs generate", "ratio.hf", 18, True),
            ("vocabulary, 4 x 384, batch 8, vs prefill once", "ratio.hf_prefill_once", 2.5, True)),
    _decode("vocabulary-4x384-128-words", "--shape 4x384 --prompt 128 --batch 8 --softmax-scope vocabulary --vocab 49152"),
    _decode("returning-135m-128", "--shape smollm2-135m --prompt 128 --returning 8 --softmax-scope vocabulary",
            ("returning user, 8 new tokens, 135M, prompt 128, vs generate", "ratio.hf", 25, True)),
    _decode("vocabulary-135m-128-bf16", "--shape smollm2-135m --prompt 128 --softmax-scope vocabulary --dtype bfloat16"),
    Run("training", "training", "--rounds 1 --targets 10"),
    Run("training-6-layers", "training", "--layers 6 --rounds 2 --targets 50"),
    Run("trie", "trie"),
    Run("evaluation", "evaluation"),
    Run("data", "data"),
    Run("semantic_ids", "semantic_ids"),
    Run("ease_r", "ease_r"),
    Run("memory", "memory"),
    Run("growth", "growth"),
    Run("http_load", "http_load"),
)  # fmt: skip

# The order is that of importance, so that a run that is cut short has said the most. Each run starts anew (some 15 seconds), the
# largest batches of `generate` take seconds per call: eight minutes in all on an H100, estimated.
GPU_SHAPE = "--device cuda --shape smollm2-135m --prompt 128"
GPU = (
    *(
        _decode(f"gpu-{scope}-bf16-beams{beams}-batch{batch}",
            f"{GPU_SHAPE} --dtype bfloat16 --softmax-scope {scope} --beams {beams} --batch {batch} --rounds {5 if batch < 16 else 3}")
        for scope, beams in (("vocabulary", 20), ("trie", 20), ("vocabulary", 50))
        for batch in (1, 4, 16, 64)
    ),
    *(
        _decode(f"gpu-{scope}-fp32-beams20-batch{batch}", f"{GPU_SHAPE} --softmax-scope {scope} --batch {batch} --rounds 3")
        for scope in ("vocabulary", "trie")
        for batch in (1, 16)
    ),
    Run("gpu-training", "training", "--device cuda --layers 6 --rounds 3 --targets 10 50"),
    *(
        _decode(f"gpu-trie-bf16-beams50-batch{batch}",
            f"{GPU_SHAPE} --dtype bfloat16 --softmax-scope trie --beams 50 --batch {batch} --rounds 3")
        for batch in (1, 4, 16, 64)
    ),
    _decode("gpu-vocabulary-fp32-beams20-batch64",
        f"{GPU_SHAPE} --softmax-scope vocabulary --batch 64 --rounds 3 --peers hf_prefill_once"),
)  # fmt: skip
