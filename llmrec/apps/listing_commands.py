"""`llmrec recipes`, `prompts` and `tasks`: what is shipped, and copies of it to change."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.output import print_json
from llmrec.apps.train_command import config_names, launch_names, nearest_sentence, recipe_names
from llmrec.errors import LlmrecError
from llmrec.resources import resource_path

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Copy = Annotated[
    tuple[str, Path] | None,
    typer.Option("--copy", metavar="NAME DIR", help="Copy one into a folder; nothing there is overwritten."),
]


def recipes(copy: Copy = None, as_json: AsJson = False) -> None:
    """List the training recipes, their configs, and ways to launch them; a copy of a recipe comes with its configs.

    \b
    Example:
      llmrec recipes
      llmrec recipes --copy next_item my_recipes
    """
    root = resource_path("recipes")
    if copy:
        name = _known(copy[0], recipe_names(), "recipe")
        configs = [Path("configs") / name / f"{config}.yaml" for config in config_names(name)]
        _copy(root, [Path(f"{name}.py"), *configs], copy[1])
        return
    rows = []
    for name in recipe_names():
        doc = ast.get_docstring(ast.parse((root / f"{name}.py").read_text(encoding="utf-8"))) or ""
        rows.append({"name": name, "description": doc.partition("\n")[0], "configs": config_names(name)})
    if as_json:
        print_json({"recipes": rows, "launch": launch_names()})
        return
    for row in rows:
        typer.echo(f"{row['name']:24}{row['description']}")
        typer.echo(f"{'':24}configs: {', '.join(row['configs']) or 'none'}")
    typer.echo(f"several accelerators: llmrec train RECIPE --launch {'|'.join(launch_names())}")


def prompts(copy: Copy = None, as_json: AsJson = False) -> None:
    """List the prompts that models are trained and asked with.

    \b
    Example:
      llmrec prompts
      llmrec prompts --copy next_item/instruction my_prompts
    """
    from llmrec.prompting.templates import list_prompts, load_prompt

    if copy:
        name = _known(copy[0], list_prompts(), "prompt")
        _copy(resource_path("prompts"), [Path(f"{name}.yaml")], copy[1])
        return
    loaded = {name: load_prompt(name) for name in list_prompts()}
    rows = [{"name": name, "kind": prompt.kind, "description": prompt.description} for name, prompt in loaded.items()]
    if as_json:
        print_json({"prompts": rows})
        return
    for row in rows:
        typer.echo(f"{row['name']:24}{row['kind']:8}{row['description']}")


def tasks(copy: Copy = None, as_json: AsJson = False) -> None:
    """List the evaluation tasks: what is asked of whom, and what is counted.

    \b
    Example:
      llmrec tasks
      llmrec tasks --copy leave_one_out my_tasks
    """
    from llmrec.evaluation.tasks import load_any_task, task_names

    if copy:
        name = _known(copy[0], task_names(), "task")
        _copy(resource_path("eval/tasks"), [Path(f"{name}.yaml")], copy[1])
        return
    loaded = [load_any_task(name) for name in task_names()]
    if as_json:
        print_json({"tasks": [task.model_dump(mode="json") for task in loaded]})
        return
    for task in loaded:
        typer.echo(f"{task.name:26}{task.kind}: {task.summary}")
        typer.echo(f"{'':26}{task.counted}")


def _known(name: str, names: list[str], what: str) -> str:
    if name not in names:
        raise LlmrecError(f"there is no {what} '{name}' {nearest_sentence(name, names)}")
    return name


def _copy(root: Path, files: list[Path], folder: Path) -> None:
    """Copies files with their places below `root` into `folder`; all of them, or none where one is there already."""
    from llmrec.files import write_text

    there = [folder / file for file in files if (folder / file).exists()]
    if there:
        raise LlmrecError(f"'{there[0]}' is there already and is left as it is. Name another folder.")
    for file in files:
        write_text(folder / file, (root / file).read_text(encoding="utf-8"))
        typer.echo(folder / file)
