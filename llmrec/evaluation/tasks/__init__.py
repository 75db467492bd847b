"""Evaluation tasks: one YAML file says what is asked of whom, what may be learned from, and what is counted."""

from llmrec.evaluation.tasks.files import load_any_task, load_task, task_names
from llmrec.evaluation.tasks.kinds import (
    KINDS,
    CandidatesTask,
    ClicksTask,
    Interval,
    NextItemTask,
    RankingTask,
    Task,
)

__all__ = [
    "KINDS",
    "CandidatesTask",
    "ClicksTask",
    "Interval",
    "NextItemTask",
    "RankingTask",
    "Task",
    "load_any_task",
    "load_task",
    "task_names",
]
