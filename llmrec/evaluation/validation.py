"""What a training watches: a few figures of the validation cases, by the evaluation that reports the test's."""

from __future__ import annotations

from collections.abc import Callable

from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import Task
from llmrec.recommenders.requests import Ranker


def ranking_validation(
    recommender: Ranker, data: Data, task: Task, split: Split, *, max_users: int
) -> tuple[Callable[..., dict[str, float]], int]:
    """recall@10 and ndcg@10 of the first `max_users` validation cases, or of the first so many that it is called with; and how many
    those are."""
    watched = task.model_copy(update={"metrics": ("recall", "ndcg"), "ks": (10,)})
    num_cases = min(max_users, len(split.valid))

    def rank_validation(max_cases: int = num_cases) -> dict[str, float]:
        result = evaluate(recommender, data, watched, "valid", split=split, max_cases=max_cases)
        return {name: metric["value"] for name, metric in result.metrics.items()}

    return rank_validation, num_cases
