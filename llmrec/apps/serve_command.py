"""`llmrec serve`: a run that answers over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.grouped import grouped
from llmrec.apps.options import (
    BaseUrl,
    Decoder,
    Provider,
    Run,
    TextModelName,
    Wishes,
    as_overrides,
    check_wishes,
    text_model_settings,
)
from llmrec.errors import ConfigError
from llmrec.terminal import printable


@grouped
def serve(
    run: Run,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="key=value...", help="Settings of the server, such as batch.size=16 (docs/settings.md)."
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen at. Default: 127.0.0.1, this computer alone.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen at. Default: 8000; 0 for any free one.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of the server's settings.")] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the API key that every request must send. Default: $LLMREC_API_KEY, if set."),
    ] = None,
    runs_folder: Annotated[
        Path | None, typer.Option(help="Folder of the runs that POST /admin/reload may load. Default: none but RUN.")
    ] = None,
    keep_items: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which POST /v1/items writes a new run folder. Default: added items end with the server."
        ),
    ] = None,
    *,
    decoder: Decoder,
    model: TextModelName = None,
    provider: Provider = "transformers",
    base_url: BaseUrl = None,
    wishes: Wishes = "rules",
) -> None:
    """Serve a run over HTTP: /v1/recommend, /v1/score, /v1/explain; /docs lists every route with examples.

    Requests that come together are answered together. SIGTERM or Ctrl-C: what was taken is finished first.

    \b
    Example:
      llmrec serve runs/demo/run
      curl localhost:8000/v1/recommend -H 'Content-Type: application/json' -d '{"history": ["50", "Fargo"], "k": 5}'
    """
    import logging
    import os

    from llmrec.config import load_config
    from llmrec.serving.settings import ServingSettings

    given = {"host": host, "port": port, "runs_folder": _text(runs_folder), "keep_items": _text(keep_items)}
    settings = load_config(ServingSettings, config, [*(overrides or []), *as_overrides(given)])
    language_model = text_model_settings(model, provider, base_url)
    check_wishes(wishes, language_model)
    try:
        from llmrec.apps.http.keys import read_api_key
        from llmrec.apps.http.server import Server
        from llmrec.apps.http.service import Service
    except ImportError as error:
        raise ConfigError(
            f"serving needs packages that are not installed ({error}): pip install 'llmrec[serve]'."
        ) from error
    from llmrec.apps.listening import is_this_computer, listen

    api_key = read_api_key(api_key_file)
    if settings.runs_folder is not None and not settings.runs_folder.is_dir():
        raise ConfigError(f"the runs folder '{settings.runs_folder}' is no folder.")
    if api_key is None and not is_this_computer(settings.host):
        typer.echo(
            f"Warning: everybody who reaches {printable(settings.host)} may ask: no API key is set (--api-key-file).",
            err=True,
        )
    if decoder.engine == "vllm":
        # A process of its own, on a CPU too: it leaves this one time for requests, two of them can stand side by side while one takes
        # the other's place, and one that is killed can be replaced. Not by fork: this process has threads.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
        os.environ.setdefault("VLLM_WORKER_MULTIPROCESSING_METHOD", "spawn")
    listening = listen(settings.host, settings.port)
    address = f"http://{printable(settings.host)}:{listening.getsockname()[1]}"
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # else a line for everybody who sends what is no HTTP
    typer.echo(f"Loading the recommender of {printable(str(run))} ...", err=True)
    service = Service(lambda folder: decoder.open(folder, wishes=wishes), settings, language_model, api_key)
    Server(
        service, run, listening, lambda: typer.echo(f"Serving at {address}; {address}/docs lists the routes.", err=True)
    ).run()


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
