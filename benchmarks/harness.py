"""What every speed bench shares: flags, interleaved timing, this machine's peak, the record of the machine, the printing.

A bench is one file with
    def flags() -> argparse.ArgumentParser     harness.parser(__doc__, quick={...}) and flags of its own
    def run(options) -> dict                   its result: plain JSON values, see KEYS
    def main() -> None                         harness.main(flags(), run)
and is started from the repository root, `python benchmarks/trie.py --json`. `benchmarks/run_all.py` starts all of them.

How a number comes about: outputs are compared first (`require_identical`), then all peers are timed in one process, A B C
A B C, after a warm-up; a ratio is the peer's median process time over ours. Process time does not count other programs
(what it cannot leave out is that they share caches and memory); on a GPU, where the process only waits, the clock is the
wall's.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
# The keys of a result that the table and docs/speed.md know; a bench adds what else it has to say.
KEYS = {
    "identical": "true: every peer gave our output before anything was timed",
    "seconds": "name -> Timing.to_json(): process and wall seconds per call, median, min and max",
    "ratio": "peer -> its median over ours",
    "clock": "what ratios and rates are of: process, or wall on a GPU",
    "requests_per_s": "ours and peers -> requests of a batch over the median time it takes",
    "lower_bound": "what no implementation can go below, next to ours",
    "absent": "peer -> how to have it, where it is not installed",
    "goals": "list of goal(...)",
}
# Read when the libraries are loaded, so they must stand before Python starts: see with_threads.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class NotIdentical(Exception):
    """Two implementations gave different outputs, so their times do not compare."""


class NoDevice(Exception):
    """The device that was asked for is not there."""


def require_identical(same: bool, what: str) -> None:
    """Raises NotIdentical (exit code 1) unless `same`. what: which outputs differ, a clause to follow 'not identical: '."""
    if not same:
        raise NotIdentical(what)


def require_device(device: str) -> None:
    """Raises NoDevice (exit code 2) for a GPU that torch does not find."""
    if on_gpu(device):
        import torch  # here: a bench without torch is timed without it

        if not torch.cuda.is_available():
            raise NoDevice(
                f"expected a GPU for {device!r}, but torch {torch.__version__} finds none; run this where there is one and torch is "
                "built for it."
            )


def on_gpu(device: str) -> bool:
    """Whether `device`, as torch spells it, is a GPU."""
    return device.startswith("cuda")


def clock_of(device: str) -> str:
    """What times are read from: "process", or "wall" on a GPU, where the process waits."""
    return "wall" if on_gpu(device) else "process"


def finisher(device: str) -> Callable[[], object] | None:
    """What waits for work that is still under way on `device`, for `measure`; None on a CPU, which returns when it is done."""
    if not on_gpu(device):
        return None
    import torch

    return torch.cuda.synchronize


# ------------------------------------------------------------------------------------------------------------- timing


class Timing:
    """Seconds per call in each round, by two clocks: `process` (CPU time of all threads) and `wall`."""

    def __init__(self) -> None:
        self.process: list[float] = []
        self.wall: list[float] = []

    @property
    def median(self) -> float:
        """Median process seconds per call."""
        return statistics.median(self.process)

    @property
    def median_wall(self) -> float:
        """Median wall seconds per call."""
        return statistics.median(self.wall)

    def scaled(self, factor: float) -> Timing:
        """All times `factor` as long: of a part or a run of several calls, as an estimate of the whole or of one."""
        result = Timing()
        result.process, result.wall = ([factor * s for s in seconds] for seconds in (self.process, self.wall))
        return result

    def to_json(self) -> dict[str, dict[str, float]]:
        """{"process": {"median", "min", "max"}, "wall": {...}}, seconds."""
        return {
            clock: {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}
            for clock, seconds in (("process", self.process), ("wall", self.wall))
        }


def measure(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    *,
    calls: int = 1,
    finish: Callable[[], object] | None = None,
) -> dict[str, Timing]:
    """Times each function in turn, A B C A B C, so that a slow moment of the machine hits all of them.

    warmup: rounds that are not counted; calls: calls in a row that share one reading of the clocks (for what takes
    microseconds); finish: waits for work still under way (torch.cuda.synchronize), inside the time.
    """
    timings = {name: Timing() for name in functions}
    for round_ in range(-warmup, rounds):
        for name, function in functions.items():
            process, wall = time.process_time(), time.perf_counter()
            kept = [function() for _ in range(calls)]  # what they return is freed after the clocks are read
            if finish is not None:
                finish()
            process, wall = time.process_time() - process, time.perf_counter() - wall
            kept.clear()
            if round_ >= 0:
                timings[name].process.append(process / calls)
                timings[name].wall.append(wall / calls)
    return timings


def ratios(timings: Mapping[str, Timing], ours: str = "ours", clock: str = "process") -> dict[str, float]:
    """peer -> median seconds of the peer / median seconds of `ours`. clock: "process", or "wall" on a GPU."""
    own = statistics.median(getattr(timings[ours], clock))
    return {peer: statistics.median(getattr(t, clock)) / own for peer, t in timings.items() if peer != ours}


def gemm_peak(dtype: str = "float32", size: int = 2048, rounds: int = 3, device: str = "cpu") -> float:
    """Multiply-adds per second, times two (FLOP/s), of a square matrix product: the machine's peak for lower bounds."""
    import torch  # here: a bench without torch is timed without it

    a, b = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))
    timing = measure({"gemm": lambda: torch.mm(a, b)}, rounds, finish=finisher(device))["gemm"]
    return 2 * size**3 / min(getattr(timing, clock_of(device)))


# -------------------------------------------------------------------------------------------------------------- goals


def goal(what: str, measured: float, limit: float, unit: str, *, at_least: bool = False) -> dict:
    """One row of the table in docs/speed.md. unit: "s", "MiB", "x"; at_least: the goal is a lower bound, else an upper."""
    reached = measured >= limit if at_least else measured <= limit
    bound = "at least" if at_least else "at most"
    return {"what": what, "goal": f"{bound} {limit:g} {unit}", "measured": measured, "unit": unit, "reached": reached}


# ------------------------------------------------------------------------------------------------------------ machine


def machine(threads: int, device: str = "cpu") -> dict:
    """What a number depends on besides the code: CPU, versions, commit, day. No path and no host name.

    instructions: the widest that torch's own kernels use there, AVX2, AVX512, ...; one name is sold with either.
    """
    import torch  # here: by now everything was timed

    record = {
        "cpu": _cpu_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "threads": threads,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("numpy", "torch", "transformers")},
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    if on_gpu(device):
        record["gpu"] = torch.cuda.get_device_name(device)
    return record


def processor(machine: Mapping) -> str:
    """What does the work: the GPU, or else the CPU. Results of different ones do not compare."""
    return machine.get("gpu") or f"{machine['cpu']} ({machine['instructions']})"


def folder_name(machine: Mapping) -> str:
    """The name of the machine's folder of results: "Intel(R) Xeon(R) Processor (AVX512)" -> "intel-xeon-processor-avx512"."""
    words = re.sub(r"\((r|tm)\)", "", processor(machine).lower())
    return "-".join(re.findall("[a-z0-9]+", words))


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo")
    if lines.exists():  # Linux
        names = [
            line.split(":", 1)[1].strip() for line in lines.read_text().splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit, with '+changes' where code differs from it; 'unknown' outside a checkout."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "llmrec", "benchmarks/*.py")
        return git("rev-parse", "--short=10", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# ------------------------------------------------------------------------------------------------- flags and printing


def parser(description: str | None, quick: Mapping[str, object], *, rounds: int = 5) -> argparse.ArgumentParser:
    """A parser with the flags of every bench: --threads, --rounds, --json, --quick, --out.

    description: the bench's docstring; quick: flag -> the value it has by default under --quick ({"items": 20000}).
    """
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--threads", type=int, default=1, help="CPU threads; 1 for every number claimed")
    result.add_argument("--rounds", type=int, default=rounds, help="rounds timed, after one warm-up")
    result.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    result.add_argument("--quick", action="store_true", help=f"small sizes, seconds instead of minutes: {dict(quick)}")
    result.add_argument("--out", type=Path, help="also write the JSON object to this file")
    result.set_defaults(quick_values=dict(quick))
    return result


def parse(flags: argparse.ArgumentParser, arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; --quick changes defaults, a flag that is given wins over it."""
    options = flags.parse_args(arguments)
    if options.quick:
        flags.set_defaults(**options.quick_values)
        options = flags.parse_args(arguments)
    return options


def main(flags: argparse.ArgumentParser, run: Callable[[argparse.Namespace], dict]) -> None:
    """Parses, runs, prints, writes. Exits with a sentence on stderr: 1 where outputs are not identical, 2 without the device."""
    options = parse(flags)
    with_threads(options.threads)
    name = Path(sys.argv[0]).stem
    try:
        require_device(getattr(options, "device", "cpu"))
        result = complete(name, options, run(options))
    except NoDevice as absent:
        print(f"{name}: {absent}", file=sys.stderr)
        sys.exit(2)
    except NotIdentical as difference:
        print(f"{name}: not identical: {difference}. No time is printed.", file=sys.stderr)
        sys.exit(1)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))
    else:
        print_table(result)


def complete(name: str, options: argparse.Namespace, result: dict) -> dict:
    """The result with the bench's name, its settings and the machine. Goals are for full sizes: --quick drops them."""
    settings = {
        key: value
        for key, value in vars(options).items()
        if key not in ("json", "out", "quick_values") and not isinstance(value, Path)  # a path is of this machine alone
    }
    if options.quick:
        result = {key: value for key, value in result.items() if key != "goals"}
    device = settings.get("device", "cpu")
    return _rounded({"bench": name, "settings": settings, **result, "machine": machine(options.threads, device)})


def print_table(result: Mapping) -> None:
    """The result for people."""
    console = Console()
    settings = ", ".join(f"{key} {value}" for key, value in result["settings"].items())
    console.print(f"[bold]{result['bench']}[/bold]  {settings}", highlight=False)
    if "seconds" in result:
        table = Table("", "process s", "min", "max", "wall s", "ratio")
        for name, clocks in result["seconds"].items():
            process, ratio = clocks["process"], result.get("ratio", {}).get(name)
            cells = [f"{process[key]:.4g}" for key in ("median", "min", "max")] + [f"{clocks['wall']['median']:.4g}"]
            table.add_row(name, *cells, "" if ratio is None else f"{ratio:.2f}x")
        console.print(table)
    for name, value in result.items():
        if name not in ("bench", "settings", "seconds", "ratio", "goals", "machine"):
            console.print(f"{name}: {value}", highlight=False)
    for row in result.get("goals", ()):
        verdict = "reached" if row["reached"] else "MISSED"
        console.print(f"{verdict}: {row['what']}: {row['measured']:.4g} {row['unit']} (goal: {row['goal']})")
    console.print(", ".join(f"{key} {value}" for key, value in result["machine"].items()), style="dim", highlight=False)


def _rounded(value: object) -> object:
    """Floats to four significant digits, throughout: more than any clock here repeats."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def with_threads(threads: int) -> None:
    """Starts the program anew with the thread variables set, unless they are: BLAS reads them when it is loaded."""
    wanted = dict.fromkeys(_THREAD_VARIABLES, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, sys.orig_argv, os.environ | wanted)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
