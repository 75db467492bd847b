"""The command `llmrec`. Every command imports what it needs when it runs, so that --help loads neither torch nor numpy."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.add_items_command import add_items
from llmrec.apps.chat import chat
from llmrec.apps.compare_command import compare
from llmrec.apps.data_commands import data_app
from llmrec.apps.enrich_command import enrich
from llmrec.apps.eval.command import evaluate
from llmrec.apps.explain_command import explain
from llmrec.apps.export_command import export
from llmrec.apps.features_command import features
from llmrec.apps.image_command import image
from llmrec.apps.listing_commands import prompts, recipes, tasks
from llmrec.apps.published_command import published
from llmrec.apps.recommend_commands import recommend, score
from llmrec.apps.results_command import results
from llmrec.apps.serve_command import serve
from llmrec.apps.stack_command import stack
from llmrec.apps.suite_command import suite
from llmrec.apps.tokenize_command import tokenize
from llmrec.apps.train_command import train
from llmrec.apps.web_command import web
from llmrec.errors import LlmrecError, sentence_of_place
from llmrec.terminal import printable, say_warnings_in_sentences
from llmrec.version import __version__


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmrec {__version__}")
        raise typer.Exit


def llmrec(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Make a language model into a recommender: prepare data, train, measure, recommend.

    \b
    Example, from your own files to ten titles:
      llmrec data prepare --items items.csv --interactions events.csv --out data/mine
      llmrec tokenize data/mine
      llmrec train next_item --config demo data=data/mine output=runs/mine
      llmrec eval runs/mine --with-baselines
      llmrec recommend runs/mine --history ITEM_ID -k 10
    """


def demo(
    smoke: Annotated[bool, typer.Option("--smoke", help="The same code path cut to some three minutes.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of data, runs and report.")] = Path("runs/demo"),
    seed: Annotated[
        int, typer.Option(help="Of both trainings; give each seed a folder of its own with --out.", min=0)
    ] = 0,
    posters: Annotated[
        Path | None,
        typer.Option(help="Folder of film posters named ITEM_ID.jpg or ITEM_ID.png. Default: drawn title cards."),
    ] = None,
) -> None:
    """Real films, a real small language model: prepare, tokenise, train, measure next to baselines, recommend, report.

    About a quarter of an hour on two cores; a second run reuses what is finished.

    \b
    Example:
      llmrec demo
      llmrec demo --seed 1 --out runs/demo1
    """
    from llmrec.apps.demo import run_demo

    run_demo(out, seed=seed, smoke=smoke, posters=posters)


COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "demo": demo,
    "data": data_app,
    "features": features,
    "tokenize": tokenize,
    "enrich": enrich,
    "train": train,
    "stack": stack,
    "recommend": recommend,
    "score": score,
    "image": image,
    "explain": explain,
    "chat": chat,
    "serve": serve,
    "web": web,
    "add-items": add_items,
    "export": export,
    "recipes": recipes,
    "prompts": prompts,
    "tasks": tasks,
    "results": results,
    "eval": evaluate,
    "compare": compare,
    "suite": suite,
}
data_app.command("published")(published)


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with these commands: the options of each take some milliseconds to build."""
    app = typer.Typer(
        name="llmrec",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(llmrec)
    for name in names:
        command = COMMANDS[name]
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line: exit status 2 and one sentence for a mistake of the user's, 130 for Ctrl-C, else its own."""
    # Threads that spin while they wait double a step's time as soon as something else wants a core; torch is not loaded yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a title that the terminal's encoding lacks is no crash
    say_warnings_in_sentences()
    asked = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if arguments is None and _needs_no_pandas(asked):
            from llmrec.data.arrow import leave_pandas_out

            leave_pandas_out()  # this process is nobody else's
        make_app(asked[:1] if asked and asked[0] in COMMANDS else COMMANDS)(arguments, prog_name="llmrec")
    except LlmrecError as error:
        print(f"llmrec: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if (sentence := sentence_of_place(error)) is None:
            raise
        print(f"llmrec: {printable(sentence)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _needs_no_pandas(asked: Sequence[str]) -> bool:
    """Whether a command answers one request soon: Ray's tables are pandas' sometimes, and help needs nothing at all."""
    others = ("--help", "--ray")
    return asked[:1] in (["recommend"], ["score"]) and not any(argument.startswith(others) for argument in asked)
