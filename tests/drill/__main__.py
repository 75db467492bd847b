"""The crash drill: `make drill`.

Every command that writes is killed (SIGKILL) right before each of its file operations, over an earlier result. Then:
- what lies there can be read, and is the earlier result or the new one, to the byte;
- the same command, started again, ends well (or says that it was done already), and its result is that of a run that nobody killed;
- nothing half-written stays.

    python -m tests.drill [--points N | --at OPERATION ...] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVER = """
import threading
from tests.enrich.serving import ChatServer, good_text
with ChatServer(good_text) as server:
    print(server.url, flush=True)
    threading.Event().wait()
"""


def main() -> None:
    """Exits with 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, help="kill each command at so many points, its last operation among them")
    parser.add_argument(
        "--at", type=int, nargs="*", help="kill at these operations, by number, to look at a failure again"
    )
    parser.add_argument("--only", metavar="NAME", nargs="*", help="the commands of these names")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "ACCELERATE_USE_CPU": "true"}
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        os.environ["LLMREC_CACHE"] = str(Path(folder) / "world" / "cache")
        server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        try:
            failures = _drill(
                Path(folder), server.stdout.readline().strip(), options.only, options.points or options.at
            )
        finally:
            server.terminate()
            server.wait()
    sys.exit(1 if failures else 0)


def _drill(folder: Path, server: str, only: list[str] | None, points: int | list[int] | None) -> int:
    from tests.drill.commands import commands, make_world
    from tests.drill.killing import run

    notes, world, start = folder / "notes", folder / "world", folder / "start"
    notes.mkdir()

    def make() -> None:
        make_world(world, server)
        (notes / "modules").write_text("\n".join(sys.modules))

    made = run(make, world, notes)
    if made.status:
        print(made.output)
        raise SystemExit("the drill's own world could not be made")
    for name in (notes / "modules").read_text().splitlines():  # once here rather than in each process
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    shutil.copytree(world, start)
    kills = failures = 0
    for command in commands(server):
        if only is not None and command.name not in only:
            continue
        began = time.monotonic()
        found, wrong = _drill_one(command, start, world, notes, points)
        kills, failures = kills + found, failures + len(wrong)
        print(f"{command.name:22}{found:5} kills, {len(wrong)} wrong, {time.monotonic() - began:.0f} s", flush=True)
        for sentence in wrong:
            print(f"    {sentence}", flush=True)
    print(f"{kills} kills, {failures} wrong")
    return failures


def _drill_one(command, start: Path, world: Path, notes: Path, points: int | list[int] | None) -> tuple[int, list[str]]:
    """How often it was killed, and what was wrong, in words."""
    from tests.drill.killing import run

    begun = notes / "begun"
    _replace(start, world)
    assert run(lambda: command.begin(world), world, notes).status == 0, command.name
    _replace(world, begun)
    before = command.digest(world)
    assert (before is None) == command.first, f"{command.name} begins with {before}"
    unbroken = run(lambda: command.act(world), world, notes)
    if unbroken.status:
        return 0, [f"does not run at all: {unbroken.output[-2000:]}"]
    after, wrong = command.digest(world), _left(world)
    assert after not in (None, before), f"{command.name} changes nothing"
    chosen = _chosen(len(unbroken.operations), points)
    for point in chosen:
        _replace(begun, world)
        killed = run(lambda: command.act(world), world, notes, kill_at=point)
        where = f"killed before operation {point} ({unbroken.operations[point]}): "
        if killed.status != -9:
            wrong.append(where + f"it ended with {killed.status} instead")
            continue
        read = run(lambda: command.read(world), world, notes)
        if read.status:
            wrong.append(where + f"what lies there cannot be read: {read.output.strip()[-300:]}")
        if (there := command.digest(world)) not in (before, after) and not (
            command.name == "train --fresh" and there is None
        ):
            wrong.append(where + "what lies there is neither the earlier result nor the new one")
        again = run(lambda: command.act(world), world, notes)
        done_before = there == after and again.status == 2  # what has been done already is refused in a sentence
        if again.status and not done_before:
            wrong.append(where + f"started again it ends with {again.status}: {again.output.strip()[-300:]}")
        elif command.digest(world) != after:
            wrong.append(where + "started again it comes to another result")
        wrong += [where + sentence for sentence in _left(world)]
    return len(chosen), wrong


def _chosen(number: int, points: int | list[int] | None) -> list[int]:
    """Kill points: those named, or so many spread over a command's operations, or all."""
    if isinstance(points, list):
        return [point for point in points if point < number]
    wanted = min(points or number, number)
    return [number * place // wanted - 1 for place in range(1, wanted + 1)]


def _left(world: Path) -> list[str]:
    hidden = [path for path in world.rglob(".*") if path.suffix in (".tmp", ".old", ".job")]
    return [f"'{path.relative_to(world)}' is left behind" for path in hidden]


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


if __name__ == "__main__":
    main()
