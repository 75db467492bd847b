"""What answering and training cost, beside what they are worth (GreenRec's idea: accuracy is never shown without it)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.baselines.baseline import Baseline
from llmrec.data.click_examples import PADDING, ClickExamples
from llmrec.data.interactions import Histories
from llmrec.errors import DataError
from llmrec.files import read_json
from llmrec.memory import peak_bytes, restart_peak
from llmrec.recommenders.clicks import ClickScorer
from llmrec.recommenders.hybrid import Hybrid
from llmrec.recommenders.requests import DenseRecommender, Ranker, Requests
from llmrec.recommenders.stacked import ListedScores, Stacked

if TYPE_CHECKING:
    import torch

    from llmrec.recommenders.language_model import LanguageModel

ESTIMATE = "estimate.json"  # of a run: what its training was expected to take, and took
SINGLE, BATCH, SECONDS = 20, 64, 6.0
_LEAST = 3  # requests asked by themselves, however slow
_MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """Never part of a protocol: the same model on another machine is the same result. None: not measured, or there is none.

    latency_ms_single_*: wall time of one request asked by itself, of `num_single` of them; latency_ms_batched: wall time of batches of
    `batch_size` over their requests; tokens_per_prompt: mean; peak_memory_mib: highest resident memory of the process while it
    answered, peak_gpu_memory_mib: of the accelerator's; trained_parameters: those that training changed, of all_parameters that
    answering uses; cpu_seconds_per_1000_requests: process time of the batches, over all threads; training_cpu_minutes: process time of
    training or fitting, over all threads; device: where it ran, such as "cpu".
    """

    latency_ms_single_median: float | None = None
    latency_ms_single_p90: float | None = None
    num_single: int | None = None
    latency_ms_batched: float | None = None
    batch_size: int | None = None
    tokens_per_prompt: float | None = None
    peak_memory_mib: float | None = None
    peak_gpu_memory_mib: float | None = None
    trained_parameters: int | None = None
    all_parameters: int | None = None
    cpu_seconds_per_1000_requests: float | None = None
    training_cpu_minutes: float | None = None
    device: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Every field that is known."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cost:
        """What `to_json` gave. Raises DataError for a field that there is not."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(value.keys() - known):
            raise DataError(
                f"a cost has no {', '.join(unknown)} (it has: {', '.join(sorted(known))}). Was it written by another version of llmrec?"
            )
        return cls(**value)


def mean_cost(costs: Sequence[Cost | None]) -> Cost | None:
    """Of runs that differ in their seed: the mean of every number all have, and what they say alike; None where one has none."""
    if not costs or None in costs:
        return None
    means: dict[str, Any] = {}
    for field in fields(Cost):
        values = [getattr(cost, field.name) for cost in costs]
        if len(set(values)) == 1:
            means[field.name] = values[0]
        elif all(isinstance(value, int | float) for value in values):
            means[field.name] = sum(values) / len(values)
    return Cost(**means)


def pareto_front(costs: Sequence[float], values: Sequence[float], *, higher_is_better: bool = True) -> list[bool]:
    """Whether no other is at least as good at no more cost, and better or cheaper. costs, values: of each, in any unit."""
    sign = 1 if higher_is_better else -1
    points = [(cost, -sign * value) for cost, value in zip(costs, values, strict=True)]
    return [
        not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)
        for point in points
    ]


def training_cost(run: Path) -> Cost:
    """What a run folder says of its training: CPU minutes, trained parameters and all; of what it does not say, nothing."""
    if not (run / ESTIMATE).is_file():
        return Cost()
    found = read_json(run / ESTIMATE, "time and memory of the training")
    estimate, seconds = found.get("estimate") or {}, (found.get("measured") or {}).get("cpu_seconds")
    trained, frozen = estimate.get("trained_parameters"), estimate.get("frozen_parameters")
    return Cost(
        trained_parameters=trained,
        all_parameters=None if trained is None or frozen is None else trained + frozen,
        training_cpu_minutes=None if seconds is None else seconds / 60,
    )


def measure_cost(
    model: Ranker | ClickScorer,
    asked: Requests | ClickExamples,
    *,
    k: int = 10,
    exclude_seen: bool = True,
    candidates: np.ndarray | None = None,
    known: Cost | None = None,
    single: int = SINGLE,
    batch: int = BATCH,
    seconds: float = SECONDS,
) -> Cost:
    """Asks a sample of requests one by one, others in batches; about `seconds` in all, more only where three requests take longer.

    asked: requests of a ranker, which lists k of all items or, with candidates, int (U, C) of each request, scores those; or rows of a
    click scorer. known: what need not be measured, such as `training_cost(run)`, taken as it is. single, batch: how many requests by
    themselves, and in a batch; fewer where the time is up or there are not so many. The first request is asked before anything is
    timed. Call it before the evaluation: vLLM would remember the prompts (what llmrec's own engine remembers is cleared).
    """
    ask = _asker(model, asked, k, exclude_seen, candidates)
    language_model, networks = _language_model(model), _networks(model)
    if language_model is not None and language_model.prompt_cache is not None:
        language_model.prompt_cache.clear()
    ask(np.zeros(1, np.int64))
    restart_peak()
    device = _device(language_model, networks)
    on_gpu = device.startswith("cuda")
    if on_gpu:
        sys.modules["torch"].cuda.reset_peak_memory_stats(device)
    singles = _times_of_singles(ask, len(asked), single, seconds / 2)
    size = int(np.clip(seconds / 2 / np.median(singles), 1, min(batch, len(asked))))
    wall, cpu = _times_of_batches(ask, len(asked), 1 + len(singles), size, seconds / 2)
    peak = peak_bytes()
    measured = Cost(
        latency_ms_single_median=1000 * float(np.median(singles)),
        latency_ms_single_p90=1000 * float(np.quantile(singles, 0.9)),
        num_single=len(singles),
        latency_ms_batched=1000 * wall,
        batch_size=size,
        tokens_per_prompt=_tokens_per_prompt(language_model, asked, candidates, 1 + len(singles)),
        peak_memory_mib=None if peak is None else peak / _MIB,
        peak_gpu_memory_mib=sys.modules["torch"].cuda.max_memory_allocated(device) / _MIB if on_gpu else None,
        cpu_seconds_per_1000_requests=1000 * cpu,
        device=device,
        **({} if language_model is not None else _counts(networks)),  # packed to serve, a language model no longer says
        training_cpu_minutes=model.fit_cpu_minutes if isinstance(model, Baseline) else None,
    )
    measured = replace(measured, **({} if known is None else known.to_json()))
    if isinstance(model, Hybrid) and isinstance(model.ease_r, Baseline):
        both = (measured.training_cpu_minutes, model.ease_r.fit_cpu_minutes)
        measured = replace(measured, training_cpu_minutes=None if None in both else sum(both))
    return measured


def _asker(
    model: Any, asked: Requests | ClickExamples, k: int, exclude_seen: bool, candidates: np.ndarray | None
) -> Callable[[np.ndarray], object]:
    """Asks about the given rows, integers (M,)."""
    if isinstance(asked, ClickExamples):
        return lambda rows: model.score_rows(asked.take(rows))
    if candidates is not None:
        return lambda rows: model.score(asked.take(rows), candidates[rows])
    return lambda rows: model.rank(asked.take(rows), k, exclude_seen=exclude_seen)


def _times_of_singles(ask: Callable[[np.ndarray], object], num_asked: int, single: int, seconds: float) -> list[float]:
    """Wall seconds of each request from the second on, by itself."""
    times: list[float] = []
    while len(times) < single and (len(times) < _LEAST or sum(times) < seconds):
        began = time.perf_counter()
        ask(np.array([(1 + len(times)) % num_asked]))
        times.append(time.perf_counter() - began)
    return times


def _times_of_batches(
    ask: Callable[[np.ndarray], object], num_asked: int, first: int, size: int, seconds: float
) -> tuple[float, float]:
    """Wall and process seconds a request, of batches from row `first` on: as many as the time and the rows allow, one at least."""
    wall = cpu = 0.0
    num_batches = 0
    while not num_batches or (wall < seconds / 4 and first + (num_batches + 1) * size <= num_asked):
        rows = (first + num_batches * size + np.arange(size)) % num_asked
        began, cpu_began = time.perf_counter(), time.process_time()
        ask(rows)
        wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - cpu_began
        num_batches += 1
    return wall / (num_batches * size), cpu / (num_batches * size)


def _language_model(model: Any) -> LanguageModel | None:
    """The language model that a recommender asks; None where it has none, and where nothing has loaded one."""
    loaded = sys.modules.get("llmrec.recommenders.language_model")
    if isinstance(model, Hybrid):
        return _language_model(model.model)
    held = getattr(model, "model", None)
    return held if loaded is not None and isinstance(held, loaded.LanguageModel) else None


def _networks(model: Any) -> list[torch.nn.Module]:
    """The networks that a recommender or scorer is, or holds."""
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    if isinstance(model, Hybrid):
        return _networks(model.model)
    if isinstance(model, Stacked):
        return [network for part in model.parts for network in _networks(part.ranker)]
    if isinstance(model, ListedScores):
        return _networks(model.ranker)
    if (language_model := _language_model(model)) is not None:
        return [language_model.backbone] if language_model.served_by is None else []
    parts = [model, *vars(model).values()]
    inner = [network for part in parts[1:] if isinstance(part, DenseRecommender) for network in _networks(part)]
    return [*(part for part in parts if isinstance(part, torch.nn.Module)), *inner]


def _device(language_model: LanguageModel | None, networks: Sequence[torch.nn.Module]) -> str:
    if language_model is not None:
        return str(language_model.engine.device)
    return next((str(weights.device) for network in networks for weights in network.parameters()), "cpu")


def _counts(networks: Sequence[torch.nn.Module]) -> dict[str, int]:
    """trained_parameters, all_parameters of networks that were trained whole; of none, nothing: counters learn no parameters."""
    if not networks:
        return {}
    weights = {id(each): each for network in networks for each in network.parameters()}.values()
    return {
        "trained_parameters": sum(each.numel() for each in weights if each.requires_grad),
        "all_parameters": sum(each.numel() for each in weights),
    }


def _tokens_per_prompt(
    language_model: LanguageModel | None,
    asked: Requests | ClickExamples,
    candidates: np.ndarray | None,
    num_prompts: int,
) -> float | None:
    """Mean tokens of the prompts of the first requests; where a prompt asks about one item, of the first candidate's."""
    if language_model is None:
        return None
    rows = np.arange(min(num_prompts, len(asked)))
    if isinstance(asked, ClickExamples):
        histories = Histories.from_lists([row[row != PADDING] for row in asked.histories[rows]])
        requests, items = Requests(histories), asked.items[rows]
    else:
        requests = asked.take(rows)
        items = np.zeros(len(rows), np.int64) if candidates is None else candidates[rows, 0]
    if language_model.encoder.prompt.answers is None:
        return float(np.mean([len(prompt) for prompt in language_model.prompts(requests)]))
    encode = language_model.encoder.encode
    return float(
        np.mean([len(encode(requests.histories[row], None, candidate=int(items[row]))) for row in rows.tolist()])
    )
