"""`llmrec enrich`: a language model writes texts about items or users; cached, resumable, within a budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.options import AsJson, BaseUrl, Provider, as_overrides
from llmrec.apps.output import check_writable, print_json
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.enrich.generated_texts import GeneratedTexts
    from llmrec.enrich.run import Enrichment, Estimate

ASK_CALLS, ASK_SECONDS = 1_000, 300  # from so much work on, a person at a terminal is asked first
SAMPLES = 3


def enrich(
    data_dir: Annotated[Path, typer.Argument(metavar="DATA", help="A prepared data folder.")],
    model: Annotated[str, typer.Option(help="A folder, wheel or hub name; of a server, what it calls the model.")],
    prompt: Annotated[
        str | None,
        typer.Option(
            help="A prompt of the task enrich (`llmrec prompts`) or a .yaml file; by default what fits --about."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the texts; by default the model's (-users for users).")
    ] = None,
    about: Annotated[str, typer.Option(help="items, or users: profiles from their training events.")] = "items",
    provider: Provider = "transformers",
    base_url: BaseUrl = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Of one text; 64 by default.")] = None,
    retries: Annotated[int | None, typer.Option(help="Of a text that is no good; 2 by default.")] = None,
    max_items: Annotated[int | None, typer.Option(help="Ask about the first so many items (or users).")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Read and written in all; what does not fit is not asked.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting of docs/enrichment.md; repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the estimate and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before long or paid work.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a language model write a text about every item, or a profile of every user; what is finished is never asked again.

    Writes DATA/generated_texts/NAME. A killed run goes on where it was; equal items are asked about once; empty, looping, copied and
    refused texts are asked for again, then flagged.

    \b
    Example:
      llmrec enrich data/ml-100k --model SmolLM2-135M-Instruct --prompt enrich/film_knowledge --dry-run
      llmrec enrich data/mine --model my-model --provider openai --base-url http://localhost:8000/v1 --max-items 20
    """
    given = {"model": model, "prompt": prompt, "about": about, "provider": provider, "base_url": base_url, "retries": retries,
             "max_new_tokens": max_new_tokens, "max_items": max_items, "max_tokens": max_tokens}  # fmt: skip
    _write_texts(data_dir, name, [*as_overrides(given), *(setting or [])], dry_run=dry_run, yes=yes, as_json=as_json)


def _write_texts(
    data_dir: Path, name: str | None, overrides: list[str], *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Says what it would take, asks where that is much, and has the texts written."""
    # Loaded here so that --help needs no torch.
    from llmrec.config import load_config
    from llmrec.data.folder import load_data
    from llmrec.enrich.generated_texts import generated_texts_folder
    from llmrec.enrich.questions import enrich_prompt
    from llmrec.enrich.run import Enrichment
    from llmrec.enrich.settings import EnrichSettings
    from llmrec.text_models.open_model import open_text_model

    settings = load_config(EnrichSettings, None, overrides)
    data = load_data(data_dir)
    enrich_prompt(settings)  # what it refuses is said before a model is loaded
    by_default = settings.model.rstrip("/").rsplit("/", 1)[-1] + ("-users" if settings.about == "users" else "")
    folder = generated_texts_folder(data_dir, name or by_default)
    if not dry_run:
        check_writable(folder.parent / "card.json")
    enrichment = Enrichment(
        data, settings, open_text_model(settings), progress=_Bar() if sys.stderr.isatty() else _silent
    )
    # A server is not asked before the question below: calls may cost money.
    estimate = enrichment.plan(probe=enrichment.model.local or (yes and not dry_run))
    for line in _in_words(estimate, settings.about):
        typer.echo(line, err=True)
    if dry_run:
        if as_json:
            print_json({"estimate": vars(estimate)})
        return
    if _is_large(estimate, enrichment) and not yes and sys.stdin.isatty() and not typer.confirm("Go on?", err=True):
        typer.echo("Nothing more was asked. What was asked is kept.", err=True)
        return
    generated_texts = enrichment.run()
    generated_texts.save(folder)
    _finish(generated_texts, enrichment, folder, as_json)


def _finish(generated_texts: GeneratedTexts, enrichment: Enrichment, folder: Path, as_json: bool) -> None:
    """Prints what came of it; raises ProviderError where questions are left without an answer."""
    from llmrec.text_models.protocol import ProviderError

    tally = enrichment.tally
    samples = [text for text in generated_texts.texts if text is not None]
    samples = [samples[len(samples) * (2 * n + 1) // (2 * SAMPLES)] for n in range(min(SAMPLES, len(samples)))]
    run = {"calls": tally.calls, "prompt_tokens": tally.prompt_tokens, "new_tokens": tally.new_tokens,
           "seconds": round(tally.seconds, 1), "not_asked": len(tally.unasked), "failed": len(tally.failures)}  # fmt: skip
    if as_json:
        print_json({"folder": str(folder), "card": generated_texts.card, "run": run, "samples": samples})
    else:
        counts = ", ".join(
            f"{number:,} {status}" for status, number in generated_texts.card["counts"]["statuses"].items()
        )
        typer.echo(
            f"{counts or 'no texts'}. Asked {run['calls']:,} times in {run['seconds']:,} s: {run['prompt_tokens']:,} tokens read, "
            f"{run['new_tokens']:,} written."
        )
        for sample in samples:
            typer.echo(f"  {printable(sample)}")
        typer.echo(f"Written to {folder}")
    if tally.cut_in_thought:
        left = sum(status == "cut_off" for status in generated_texts.statuses)
        typer.echo(
            f"{len(tally.cut_in_thought):,} answers ended while the model was still thinking, so they were asked for again with up to "
            f"{tally.most_new_tokens:,} tokens; {left:,} are still cut off. A reasoning model needs a higher "
            f"--max-new-tokens than {enrichment.settings.max_new_tokens:,}.",
            err=True,
        )
    if tally.unasked:
        typer.echo(
            f"{len(tally.unasked):,} questions were not asked: the budget of {enrichment.settings.max_tokens:,} tokens would not hold "
            "them. Raise --max-tokens and run the same command again.",
            err=True,
        )
    if tally.failures:
        raise ProviderError(
            f"{len(tally.failures):,} questions have no answer: {next(reversed(tally.failures.values()))} The others are kept; the "
            "same command asks for those again."
        )


def _is_large(estimate: Estimate, enrichment: Enrichment) -> bool:
    return estimate.num_calls > ASK_CALLS or (estimate.seconds or 0) > ASK_SECONDS or not enrichment.model.local


def _in_words(estimate: Estimate, about: str) -> list[str]:
    lines = [
        f"{estimate.num_rows:,} {about}, {estimate.num_different:,} different questions, {estimate.num_cached:,} answered already."
    ]
    if estimate.num_calls:
        seconds = "" if estimate.seconds is None else f", about {_duration(estimate.seconds)}"
        lines.append(
            f"Left: {estimate.num_calls:,} calls, {'' if estimate.is_exact else 'about '}{estimate.prompt_tokens:,} tokens to read, "
            f"{estimate.most_new_tokens:,} to write at most{seconds}; texts that are no good are asked for again on top."
        )
    return lines


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _silent(done: int, total: int, tally: object) -> None:
    """Where nobody looks on."""


class _Bar:
    """A progress bar on standard error, one for each round of questions."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("asking")

    def __call__(self, done: int, total: int, tally: object) -> None:
        if not self._bar.live.is_started:
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)
        if done == total:
            self._bar.stop()
