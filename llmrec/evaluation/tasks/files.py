"""The shipped task files, named by their path below eval/tasks without the suffix, and files of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rapidfuzz import process

from llmrec.config import load_config
from llmrec.errors import ConfigError
from llmrec.evaluation.tasks.kinds import KINDS, RankingTask, Task
from llmrec.resources import resource_path
from llmrec.yaml_text import read_yaml


def task_names() -> list[str]:
    """The shipped tasks, such as leave_one_out and recbench/clicks."""
    root = resource_path("eval/tasks")
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def load_task(name_or_path: str | Path, overrides: Sequence[str] = ()) -> RankingTask:
    """`load_any_task` where a ranking over the catalogue is wanted. Raises ConfigError for a task of another kind."""
    task = load_any_task(name_or_path, overrides)
    if not isinstance(task, RankingTask):
        raise ConfigError(
            f"a task of the kind 'ranking' is needed here, but '{task.name}' is of the kind '{task.kind}'."
        )
    return task


def load_any_task(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Task:
    """Reads a shipped task by name, or any YAML file by path, with overrides such as "fit=train+valid" on top. `kind` in the file says
    which of KINDS it is; without it, a ranking.

    Raises ConfigError for an unknown name (naming the nearest), an unreadable file, an unknown kind or key, or a wrong value.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = resource_path("eval/tasks") / f"{name_or_path}.yaml"
        if not path.is_file():
            names = task_names()
            nearest = process.extractOne(str(name_or_path), names)
            hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
            raise ConfigError(f"there is no task '{name_or_path}' (there are: {', '.join(names)}).{hint}")
    values = read_yaml(path, f"the task in '{path}'") if path.is_file() else None
    kind = values.get("kind", "ranking") if isinstance(values, dict) else "ranking"
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"the kind of a task is one of {', '.join(KINDS)}, but '{path}' says {kind!r}.")
    return load_config(KINDS[kind], path, overrides)
