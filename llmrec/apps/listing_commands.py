"""`llmrec recipes`, `prompts` and `tasks`: what is shipped, and copies of it to change."""

from __future__ import annotations

import ast
import re
import shlex
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.options import AsJson, History, Instruction
from llmrec.apps.output import print_json, print_table
from llmrec.apps.shipped_recipes import config_names, launch_names, nearest_sentence, recipe_names
from llmrec.errors import LlmrecError
from llmrec.resources import resource_path
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.evaluation.tasks import Task

Copy = Annotated[
    tuple[str, Path] | None,
    typer.Option("--copy", metavar="NAME DIR", help="Copy one into a folder; nothing there is overwritten."),
]


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One recipe; all by default.")] = None,
    settings: Annotated[
        bool, typer.Option("--settings", help="Show every setting of NAME; of everything as a page of Markdown.")
    ] = False,
    copy: Copy = None,
    as_json: AsJson = False,
) -> None:
    """List the training recipes, their configs, and ways to launch them; a copy of a recipe comes with its configs.

    \b
    Example:
      llmrec recipes
      llmrec recipes next_item --settings
      llmrec recipes --copy next_item my_recipes
    """
    root = resource_path("recipes")
    if copy:
        name = _known(copy[0], recipe_names(), "recipe")
        configs = [Path("configs") / name / f"{config}.yaml" for config in config_names(name)]
        _copy(root, [Path(f"{name}.py"), *configs], copy[1])
        return
    known = recipe_names() if name is None else [_known(name, recipe_names(), "recipe")]
    if settings:
        _show_settings(name, known, as_json)
        return
    rows = []
    for name in known:
        doc = ast.get_docstring(ast.parse((root / f"{name}.py").read_text(encoding="utf-8"))) or ""
        rows.append({"name": name, "description": _first_sentence(doc), "configs": config_names(name)})
    if as_json:
        print_json({"recipes": rows, "launch": launch_names()})
        return
    print_table(
        ("recipe", "what it does", "configs"),
        [(row["name"], row["description"], ", ".join(row["configs"]) or "none") for row in rows],
    )
    typer.echo(f"several accelerators: llmrec train RECIPE --launch {'|'.join(launch_names())}")


def _show_settings(name: str | None, known: list[str], as_json: bool) -> None:
    from llmrec.apps.settings_reference import recipe_settings, settings_page

    if as_json:
        print_json({"settings": {recipe: [vars(setting) for setting in recipe_settings(recipe)] for recipe in known}})
    elif name is None:
        typer.echo(settings_page(), nl=False)
    else:
        rows = [(row.key, row.type, row.default or "(required)", row.meaning) for row in recipe_settings(name)]
        print_table(("setting", "type", "default", "meaning"), rows)


def prompts(
    copy: Copy = None,
    render: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Show what this run's model reads for one user, items as their tokens."),
    ] = None,
    history: History = None,
    instruction: Instruction = None,
    candidate: Annotated[
        str | None, typer.Option(help="With --render: the item that a click prompt asks about.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the prompts that models are trained and asked with, or show the rendered prompt of one user.

    \b
    Example:
      llmrec prompts
      llmrec prompts --render runs/demo --history 50 --history 181
      llmrec prompts --copy next_item/instruction my_prompts
    """
    if render is not None:
        from llmrec.apps.render_prompt import render_prompt

        shown = render_prompt(render, history or [], instruction, candidate)
        if as_json:
            print_json({"run": str(render), "history": history or [], **shown})
            return
        typer.echo("\n".join(printable(line) for line in shown["text"].split("\n")))
        typer.echo(f"({shown['num_tokens']:,} tokens; the answer begins after them)")
        return
    if history or instruction or candidate:
        raise LlmrecError(
            "--history, --instruction and --candidate belong to --render RUN, which is missing. Name a run."
        )
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
    print_table(("prompt", "kind", "what it is for"), [tuple(row.values()) for row in rows])


def tasks(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME|FILE]", help="One task, or a YAML file of one; all by default.")
    ] = None,
    copy: Copy = None,
    as_json: AsJson = False,
) -> None:
    """List the evaluation tasks: what is asked of whom, and what is counted; or show all settings of one and what data it needs.

    \b
    Example:
      llmrec tasks
      llmrec tasks recbench/clicks
      llmrec tasks --copy leave_one_out my_tasks
    """
    from llmrec.evaluation.tasks import load_any_task, task_names

    if copy:
        name = _known(copy[0], task_names(), "task")
        _copy(resource_path("eval/tasks"), [Path(f"{name}.yaml")], copy[1])
        return
    loaded = [load_any_task(each) for each in (task_names() if name is None else [name])]
    if as_json:
        print_json({"tasks": [task.model_dump(mode="json") | {"needs": task.split.needs} for task in loaded]})
        return
    if name is not None:
        _show_task(name, loaded[0])
        return
    rows = []
    for task in loaded:
        rows.append((task.name, f"{task.kind}: {task.summary}", task.counted))
    print_table(("task", "what is asked", "metrics"), rows)


def _show_task(name: str, task: Task) -> None:
    """What the file says of it, all settings as a file would have them, the data it needs, and how it is asked."""
    import yaml

    file = Path(name) if Path(name).suffix else resource_path("eval/tasks") / f"{name}.yaml"
    for line in takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines()):
        typer.echo(printable(line))
    settings = yaml.safe_dump(task.model_dump(mode="json"), default_flow_style=None, sort_keys=False, width=130)
    for line in settings.splitlines():
        typer.echo(line)
    baseline = "item_mean" if task.kind == "clicks" else "ease_r"
    typer.echo(f"\nNeeds {task.split.needs}. Asked so:")
    for who in ("RUN", f"--baseline {baseline} --data DATA", "--model SmolLM2-135M-Instruct --data DATA"):
        typer.echo(f"  llmrec eval {who} --task {shlex.quote(printable(name))}")


def _first_sentence(doc: str) -> str:
    """The first sentence of a docstring, however its lines are broken; up to a colon where the launch line follows."""
    paragraph = " ".join(doc.partition("\n\n")[0].split())
    sentence = re.match(r".*?[.!?](?=\s|$)", paragraph)
    return sentence[0] if sentence else paragraph.rstrip(":") + "."


def _known(name: str, names: list[str], what: str) -> str:
    if name not in names:
        raise LlmrecError(f"there is no {what} '{name}' {nearest_sentence(name, names)}")
    return name


def _copy(root: Path, files: list[Path], folder: Path) -> None:
    """Copies files with their paths below `root` into `folder`; all of them, or none where one is there already."""
    from llmrec.files import write_text

    there = [folder / file for file in files if (folder / file).exists()]
    if there:
        raise LlmrecError(f"'{there[0]}' is there already and is left as it is. Name another folder.")
    for file in files:
        write_text(folder / file, (root / file).read_text(encoding="utf-8"))
        typer.echo(folder / file)
