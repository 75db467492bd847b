"""Requests a second and how long each takes, through HTTP: a server with batching and one without, asked by 1, 8 and 64 clients.

    python benchmarks/http_load.py --json
    python benchmarks/http_load.py --run runs/demo/run
    python benchmarks/http_load.py --run runs/demo/run --soak 10

Both servers are `llmrec serve` on this computer's own address, in processes of their own, alike but for `batch.size`: one answers
each request alone. First both are asked the same and must list the same items with the same scores; then they are asked in turn, A B
A B, and while one is asked the other waits. Every client asks again as soon as it is answered (a closed loop), each time with another
history, so that no cache knows the prompt. The load client is one process more on the same cores.

`p99_bound_ms`: what a request has in front of it at most, in calls of the model: those of the clients that fill the queue, the one
that is under way, and its own; times the longest call (an edge of the histogram in the server's /metrics), and the window.

--soak: minutes at capacity (the most clients) on the server with batching: answers that are no 200, and resident memory over time.

Without --run: a random model of the shape of the demo's (4 layers of 576, 1,682 items of one token each). Figures are by the wall's
clock, the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import harness
import numpy as np
from memory import write_run

SERVERS = {"batched": 32, "unbatched": 1}  # requests that one call of the model answers, at most
HISTORY = (10, 30)  # items of a history, drawn between these
K = 10
EXACT = 1e-4  # scores in float32: padding to another length moves their last digits
ROUNDED = (0.85, 0.1)  # in bfloat16 batches round otherwise: the share of common items, scores of these
COMPARED = 48
STARTUP_SECONDS = 180.0
ANSWER_SECONDS = 60.0


def flags() -> argparse.ArgumentParser:
    """The harness's flags and those of this bench."""
    quick = {"items": 300, "hidden_size": 48, "layers": 1, "seconds": 0.5, "rounds": 1, "clients": [1, 8]}
    result = harness.parser(__doc__, quick=quick, rounds=3)
    result.add_argument("--run", type=Path, help="a run folder to serve; by default a random model")
    result.add_argument("--items", type=int, default=1_682, help="of the random model")
    result.add_argument("--hidden-size", type=int, default=576, help="of the random model; a multiple of 12")
    result.add_argument("--layers", type=int, default=4, help="of the random model")
    result.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64], help="who ask at the same time")
    result.add_argument("--seconds", type=float, default=8.0, help="that each server is asked in a round")
    result.add_argument("--window-ms", type=float, default=5.0, help="the server's batch.window_ms")
    result.add_argument("--soak", type=float, default=0.0, metavar="MINUTES", help="instead: this long at capacity")
    return result


# ------------------------------------------------------------------------------------------------------------- client


@dataclass
class Load:
    """What clients saw. milliseconds: of each answer; statuses: how many of each, 0 for a connection that broke."""

    seconds: float
    milliseconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answers with status 200 a second."""
        return self.statuses.get(200, 0) / self.seconds

    @property
    def errors(self) -> dict[str, int]:
        """Status -> how many, of those that are not 200."""
        return {str(status): number for status, number in self.statuses.items() if status != 200}


class Connection:
    """One keep-alive connection that posts JSON to one path."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises OSError or EOFError where the connection breaks."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        length = int(re.search(rb"content-length: (\d+)", answer.lower())[1])
        return status, await reader.readexactly(length)

    def close(self) -> None:
        """Ends it; the next post opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def ask_all(port: int, bodies: Sequence[bytes], num_clients: int) -> list[dict]:
    """The answers to all bodies, in their order."""
    answers: list[dict] = [{}] * len(bodies)
    waiting = iter(enumerate(bodies))

    async def client() -> None:
        connection = Connection(port)
        for place, body in waiting:
            status, answer = await connection.post("/v1/recommend", body)
            assert status == 200, answer
            answers[place] = json.loads(answer)
        connection.close()

    await asyncio.gather(*(client() for _ in range(num_clients)))
    return answers


async def load(port: int, bodies: Iterator[bytes], num_clients: int, seconds: float) -> Load:
    """Asks for `seconds`, every client again as soon as it is answered."""
    found = Load(seconds)
    until = time.perf_counter() + seconds

    async def client() -> None:
        connection = Connection(port)
        while (begun := time.perf_counter()) < until:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    status, _ = await connection.post("/v1/recommend", next(bodies))
            except (OSError, EOFError, TimeoutError):
                status = 0
                connection.close()
            ended = time.perf_counter()
            found.statuses[status] = found.statuses.get(status, 0) + 1
            if status == 200:
                found.milliseconds.append(1000 * (ended - begun))
            elif status:
                await asyncio.sleep(0.1)  # refused: no storm of further refusals
        connection.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(num_clients)))
    found.seconds = time.perf_counter() - begun  # to the last answer
    return found


# ------------------------------------------------------------------------------------------------------------- servers


@dataclass
class Calls:
    """Calls of the model: how many, requests they answered, seconds they took; `within`: seconds -> calls that took no longer."""

    number: float
    requests: float
    seconds: float
    within: dict[float, float]

    def since(self, before: Calls) -> Calls:
        """Those that were not counted before."""
        within = {edge: number - before.within[edge] for edge, number in self.within.items()}
        return Calls(
            self.number - before.number, self.requests - before.requests, self.seconds - before.seconds, within
        )

    @property
    def longest(self) -> float:
        """Seconds that no call took longer than, one of the edges that the server counts by."""
        return min(edge for edge, number in self.within.items() if number == self.number)


class Served:
    """`llmrec serve` in a process of its own, on a free port."""

    def __init__(self, run: Path, size: int, window_ms: float) -> None:
        settings = [f"batch.size={size}", f"batch.window_ms={window_ms}", "batch.queue=1024"]
        command = [sys.executable, "-m", "llmrec", "serve", run, "--port", "0", "--device", "cpu", *settings]
        self._process = subprocess.Popen(command, cwd=harness.ROOT, stderr=subprocess.PIPE, text=True)
        self.port = 0

    def await_ready(self) -> None:
        """Until it serves. Raises RuntimeError with its words where it ends before."""
        words = []
        for line in self._process.stderr:
            words.append(line)
            if found := re.match(r"Serving at http://[^:]+:(\d+)", line):
                self.port = int(found[1])
                return
        raise RuntimeError(f"the server ended with status {self._process.wait()}: {''.join(words)}")

    def resident(self) -> float:
        """MiB of the process that are in memory."""
        (line,) = (
            line for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines() if "VmRSS" in line
        )
        return int(line.split()[1]) / 1024

    def calls(self) -> Calls:
        """Of the model since the start."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=ANSWER_SECONDS) as answer:
            page = answer.read().decode()

        def value(name: str) -> float:
            return float(re.search(rf"^{name} (\S+)$", page, re.MULTILINE)[1])

        edges = re.findall(r'^llmrec_call_seconds_bucket\{le="([^"]+)"\} (\S+)$', page, re.MULTILINE)
        return Calls(
            value("llmrec_call_seconds_count"), value("llmrec_call_requests_sum"), value("llmrec_call_seconds_sum"),
            {float(edge): float(number) for edge, number in edges},
        )  # fmt: skip

    def close(self) -> None:
        """Stops it, gently."""
        self._process.terminate()
        self._process.communicate(timeout=STARTUP_SECONDS)


@contextlib.contextmanager
def served(run: Path, names: Sequence[str], window_ms: float) -> Iterator[dict[str, Served]]:
    """The servers of these names, ready."""
    servers = {name: Served(run, SERVERS[name], window_ms) for name in names}
    try:
        for server in servers.values():
            server.await_ready()
        yield servers
    finally:
        for server in servers.values():
            server.close()


def bodies_for(run: Path, seed: int) -> Iterator[bytes]:
    """Requests without end, each with a history of its own."""
    from llmrec.artifacts.run_folder import find_model
    from llmrec.data.catalog import Catalog

    ids = np.array(Catalog.load(find_model(run) / "items.parquet").item_ids)
    rng = np.random.default_rng(seed)
    while True:
        history = rng.choice(ids, rng.integers(*HISTORY), replace=False).tolist()
        yield json.dumps({"history": history, "k": K}).encode()


# ---------------------------------------------------------------------------------------------------------- measuring


def require_same_answers(run: Path, servers: dict[str, Served], bodies: Sequence[bytes], num_clients: int) -> dict:
    """Both list the same items with the same scores, however many ask at once; in bfloat16 nearly so (see ROUNDED)."""
    from llmrec.artifacts.run_folder import find_model, read_manifest

    lists = {
        name: [answer["recommendations"] for answer in asyncio.run(ask_all(server.port, bodies, clients))]
        for (name, server), clients in zip(servers.items(), (num_clients, 1), strict=True)
    }
    pairs = list(zip(lists["batched"], lists["unbatched"], strict=True))
    common, apart, moved = [], 0.0, 0
    for one, other in pairs:
        scores = {item["item_id"]: item["score"] for item in other}
        both = [item for item in one if item["item_id"] in scores]
        common.append(len(both) / K)
        apart = max([apart, *(abs(item["score"] - scores[item["item_id"]]) for item in both)])
        moved += sum(mine["item_id"] != theirs["item_id"] for mine, theirs in zip(one, other, strict=True))
    dtype = read_manifest(find_model(run))["dtype"]
    share, largest = (1.0, EXACT) if dtype == "float32" else ROUNDED
    harness.require_identical(float(np.mean(common)) >= share, f"only {np.mean(common):.0%} of the items are common")
    harness.require_identical(apart <= largest, f"scores are up to {apart:.2g} apart")
    harness.require_identical(not moved or dtype != "float32", f"{moved} ranks have another item")
    return {
        "dtype": dtype,
        "lists": len(pairs),
        "common_items": float(np.mean(common)),
        "other_ranks": moved,
        "scores_apart": apart,
    }


def measured(server: Served, size: int, bodies: Iterator[bytes], num_clients: int, options: argparse.Namespace) -> dict:
    """One round of one server: rate, percentiles, what calls of the model took, the bound that follows."""
    before = server.calls()
    found = asyncio.run(load(server.port, bodies, num_clients, options.seconds))
    calls = server.calls().since(before)
    calls_ahead = math.ceil(num_clients / size) + 1
    p50, p95, p99 = np.percentile(found.milliseconds, [50, 95, 99]).tolist()
    return {
        "requests_per_s": found.rate, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99,
        "requests_a_call": calls.requests / calls.number, "call_ms": 1000 * calls.seconds / calls.number,
        "longest_call_ms": 1000 * calls.longest, "calls_ahead": calls_ahead,
        "p99_bound_ms": 1000 * calls_ahead * calls.longest + options.window_ms, "errors": found.errors,
    }  # fmt: skip


def run(options: argparse.Namespace) -> dict:
    """See the module's docstring."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.run
        if folder is None:
            folder = Path(temporary) / "run"
            shape = {"hidden_size": options.hidden_size, "num_layers": options.layers, "num_heads": 12}
            write_run(folder, options.items, "unique_id", **shape)
        return soak(folder, options) if options.soak else compare(folder, options)


def compare(folder: Path, options: argparse.Namespace) -> dict:
    """Both servers, interleaved."""
    bodies = bodies_for(folder, seed=1)
    rounds: dict[tuple[str, int], list[dict]] = {}
    with served(folder, list(SERVERS), options.window_ms) as servers:
        compared = require_same_answers(folder, servers, list(itertools.islice(bodies, COMPARED)), max(options.clients))
        for round_, num_clients in itertools.product(range(options.rounds), options.clients):
            for name, server in servers.items():
                if not round_:  # a warm-up: caches of the allocator, weights paged in
                    asyncio.run(load(server.port, bodies, num_clients, options.seconds / 4))
                found = measured(server, SERVERS[name], bodies, num_clients, options)
                rounds.setdefault((name, num_clients), []).append(found)
    figures = {f"{name}, {clients} clients": _median(found) for (name, clients), found in rounds.items()}
    ratio = {
        f"unbatched, {clients} clients": figures[f"batched, {clients} clients"]["requests_per_s"]
        / figures[f"unbatched, {clients} clients"]["requests_per_s"]
        for clients in options.clients
    }
    return {
        "identical": True,
        "compared": compared,
        "ratio": ratio,
        "figures": figures,
        "goals": [
            harness.goal("64 clients, batching on over off", ratio["unbatched, 64 clients"], 1.5, "x", at_least=True)
        ]
        if 64 in options.clients
        else [],
    }


def soak(folder: Path, options: argparse.Namespace) -> dict:
    """Minutes at capacity on the server with batching: errors, rate and memory, sampled ten times."""
    bodies, num_clients = bodies_for(folder, seed=2), max(options.clients)
    parts, errors, answers = 10, {}, 0
    with served(folder, ["batched"], options.window_ms) as servers:
        server = servers["batched"]
        asyncio.run(load(server.port, bodies, num_clients, min(20.0, 6 * options.soak)))  # caches fill
        resident, rates = [server.resident()], []
        for _ in range(parts):
            found = asyncio.run(load(server.port, bodies, num_clients, 60 * options.soak / parts))
            resident.append(server.resident())
            rates.append(found.rate)
            answers += found.statuses.get(200, 0)
            for status, number in found.errors.items():
                errors[status] = errors.get(status, 0) + number
    return {
        "answers": answers, "errors": errors, "rates": rates, "resident_mib": resident,
        "resident_growth_mib": resident[-1] - resident[0],
    }  # fmt: skip


def _median(rounds: Sequence[dict]) -> dict:
    """The median of every number over the rounds; errors are added up."""
    numbers = {key: statistics.median(found[key] for found in rounds) for key in rounds[0] if key != "errors"}
    errors: dict[str, int] = {}
    for found in rounds:
        for status, number in found["errors"].items():
            errors[status] = errors.get(status, 0) + number
    return {**numbers, "errors": errors}


def main() -> None:
    """The command line."""
    harness.main(flags(), run)


if __name__ == "__main__":
    main()
