"""What a training monitors: a few figures of the validation instances, by the evaluation that reports the test's."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from pydantic import Field

from llmrec.config import Settings
from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.slices import repeated_targets
from llmrec.evaluation.tasks import RankingTask
from llmrec.recommenders.requests import Ranker

# what is measured, of the first so many instances or of all; and how many there are
Validation = tuple[Callable[..., dict[str, float]], int]


class ValidationSettings(Settings):
    """How checkpoints are chosen where items are ranked."""

    task: str = "leave_one_out"
    max_users: int = Field(1000, ge=1)
    num_beams: int = Field(20, ge=1)


def ranking_validation(
    recommender: Ranker, data: Data, task: RankingTask, split: Split, *, max_users: int
) -> Validation:
    """recall@10 and ndcg@10 of the first `max_users` validation instances, or of the first so many that it is called with; and how many
    those are.

    Targets that lie in the history cannot be hit where the task excludes seen items: they are counted on standard error. Raises
    ConfigError where all of them do: every checkpoint would be as good as any other.
    """
    monitored = task.model_copy(update={"metrics": ("recall", "ndcg"), "ks": (10,)})
    num_instances = min(max_users, len(split.valid))
    unreachable = (
        int(np.count_nonzero(repeated_targets(split.valid.targets, split.valid.histories)[:num_instances]))
        if task.exclude_seen
        else 0
    )
    if unreachable:
        counted = (
            f"{unreachable:,} of {num_instances:,} validation targets lie in the user's own history and cannot be hit, because the "
            f"task '{task.name}' filters seen items"
        )
        if unreachable == num_instances:
            raise ConfigError(
                f"{counted}: no checkpoint could be told from another. Name the task "
                "leave_one_out_unfiltered (or one of your own with exclude_seen: false), or prepare the data without repeated events."
            )
        print(f"note: {counted}.", file=sys.stderr)

    def rank_validation(max_instances: int = num_instances) -> dict[str, float]:
        result = evaluate(recommender, data, monitored, "valid", split=split, max_instances=max_instances)
        return {name: metric["value"] for name, metric in result.metrics.items()}

    return rank_validation, num_instances
