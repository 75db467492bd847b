"""Runs the benches of `plan.py`, each in a process of its own, one after another; those of small sizes two at a time.

    make bench                                      # small sizes, a minute or two, prints a table, writes nothing
    make bench-full                                 # full sizes: benchmarks/results/MACHINE/*.json, the plots, docs/speed.md
    make bench-gpu                                  # the same for a GPU, under its name, some eight minutes on an H100
    python benchmarks/run_all.py --full --only trie evaluation
    python benchmarks/run_all.py --gpu --only 'decode-gpu-vocabulary-bf16-*'
    python benchmarks/run_all.py --page             # the plots and the page again, from the results that are there

Exits 1 if a bench fails, after the others have run; a result that failed keeps the file of its last success. Exits 2 without a GPU
where one is asked for, or if --only names nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

import page
from harness import ROOT, NoDevice, folder_name, goal, require_device
from plan import FULL, GPU, QUICK, Goal, Run
from rich.console import Console
from rich.table import Table

# Small sizes take mostly the loading of libraries, and no number of them is kept: two benches share the time of two cores.
SMALL_AT_ONCE = min(2, os.cpu_count() or 1)


def run_bench(run: Run, extra: Sequence[str], out: Path) -> dict | None:
    """The result, with the goals of the plan; None where the bench failed (its own words are on stderr)."""
    command = [sys.executable, ROOT / "benchmarks" / f"{run.bench}.py", *shlex.split(run.flags), *extra, "--out", out]
    if subprocess.run(command, stdout=subprocess.DEVNULL, cwd=ROOT).returncode != 0:
        return None
    result = json.loads(out.read_text())
    if run.goals:
        result["goals"] = [*result.get("goals", ()), *(judged(wanted, result) for wanted in run.goals)]
    return result


def chosen(plan: Sequence[Run], names: Sequence[str]) -> list[Run]:
    """The runs that one of the names fits."""
    return [run for run in plan if any(fnmatch(run.name, name) for name in names)]


def judged(wanted: Goal, result: dict) -> dict:
    """The row that `harness.goal` makes of a number in the result."""
    value = result
    for key in wanted.path.split("."):
        value = value[key]
    return goal(wanted.what, value, wanted.limit, wanted.unit, at_least=wanted.at_least)


def print_summary(results: dict[str, dict | None], seconds: dict[str, float]) -> None:
    """A line per bench: whether outputs were identical, our median time, the ratios, what it took."""
    table = Table("bench", "identical", "ratio of the peers' time to ours", "absent", "took")
    for name, result in results.items():
        took = f"{seconds[name]:.0f} s"
        if result is None:
            table.add_row(name, "FAILED", "", "", took)
            continue
        shown = ", ".join(f"{peer} {value:.3g}x" for peer, value in result.get("ratio", {}).items())
        same = {True: "true", False: "peer absent", None: "no peer"}[result.get("identical")]
        table.add_row(name, same, shown, ", ".join(result.get("absent", ())), took)
    Console().print(table)
    for result in filter(None, results.values()):
        for peer, how in result.get("absent", {}).items():
            print(f"{result['bench']}: {peer} is not here. To have it: {how}")


def main() -> None:
    """The command line; what it does not know goes on to the benches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--full", action="store_true", help="full sizes; writes results, plots and docs/speed.md")
    which.add_argument("--gpu", action="store_true", help="the same on a GPU, with runs of its own")
    which.add_argument(
        "--page", action="store_true", help="run nothing: plots and docs/speed.md from benchmarks/results"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", default=["*"], help="names of plan.py, * for any letters")
    parser.add_argument("--static", help="a clone of STATIC for trie.py; also LLMREC_STATIC")
    options = parser.parse_args()
    if options.page:
        page.write()
        return
    plan = chosen(FULL if options.full else GPU if options.gpu else QUICK, options.only)
    if not plan:
        parser.error(f"no run is called {' or '.join(options.only)}; benchmarks/plan.py has their names.")
    if options.gpu:
        try:
            require_device("cuda")
        except NoDevice as absent:
            print(f"run_all: {absent}", file=sys.stderr)
            sys.exit(2)
    is_kept = options.full or options.gpu
    static = options.static or os.environ.get("LLMREC_STATIC")
    results, seconds = {}, {}

    def start(run: Run) -> None:
        print(f"{run.name}: python benchmarks/{run.bench}.py {run.flags}", file=sys.stderr)
        begun = time.perf_counter()
        extra = ["--static", static] if static and run.bench == "trie" else []
        result = results[run.name] = run_bench(run, extra, Path(scratch, f"{run.name}.json"))
        seconds[run.name] = time.perf_counter() - begun
        if is_kept and result is not None:
            folder = page.RESULTS / folder_name(result["machine"])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{run.name}.json").write_text(json.dumps(result, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(1 if is_kept else SMALL_AT_ONCE) as pool:
        list(pool.map(start, plan))
    print_summary({run.name: results[run.name] for run in plan}, seconds)
    if is_kept:
        page.write()
    if None in results.values():
        sys.exit(1)


if __name__ == "__main__":
    main()
