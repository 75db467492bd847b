"""What answering and training cost, beside what they are worth (GreenRec's idea: accuracy is never shown without it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from llmrec.errors import DataError


@dataclass(frozen=True)
class Cost:
    """Never part of a protocol: the same model on another machine is the same result. None: not measured, or there is none.

    latency_ms_single_*: wall time of one request asked by itself; latency_ms_batched: wall time of batches of `batch_size` over their
    requests; tokens_per_prompt: mean; peak_memory_mib: highest resident memory of the process while it answered, peak_gpu_memory_mib:
    of the accelerator's; trained_parameters: those that training changed, of all_parameters that answering uses;
    cpu_seconds_per_1000_requests: process time of the batches, over all threads; training_cpu_minutes: process time of training or
    fitting, over all threads; device: where it ran, such as "cpu".
    """

    latency_ms_single_median: float | None = None
    latency_ms_single_p90: float | None = None
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
