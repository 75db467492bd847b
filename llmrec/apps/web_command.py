"""`llmrec web`: a page to pick titles, see what a run recommends, and talk to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.grouped import grouped
from llmrec.apps.options import Decoder, Run, Wishes, check_wishes
from llmrec.errors import ConfigError
from llmrec.terminal import printable


@grouped
def web(
    run: Run,
    other: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN2]", help="A second run on the same catalogue, shown beside the first."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 127.0.0.1 is this computer alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 for any free one.", min=0, max=65_535)] = 7860,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data folder with the items' pictures. Default: the one the run was trained on; else cards are drawn."
        ),
    ] = None,
    *,
    decoder: Decoder,
    wishes: Wishes = "rules",
) -> None:
    """Open a page in the browser: pick titles, see what a run recommends and why, filter, talk to it, look inside the model.

    Nothing is loaded from elsewhere and nothing is sent anywhere: it works without a network.

    \b
    Example:
      llmrec web runs/demo/run
      llmrec web runs/demo/run runs/demo/soft --port 8080
    """
    import os

    check_wishes(wishes, None)

    # Read when gradio is imported: it is to ask nobody for newer versions, and to report to nobody.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"the web page needs a package that is not installed ({error}): pip install 'llmrec[web]'."
        ) from error
    from llmrec.apps.listening import is_this_computer, listen
    from llmrec.apps.web.runs import shelf_of
    from llmrec.apps.web.server import Server

    if not is_this_computer(host):
        typer.echo(f"Warning: everybody who reaches {printable(host)} may ask: the page has no password.", err=True)
    listening = listen(host, port)
    folders = [run] if other is None else [run, other]
    opened = []
    for folder in folders:
        typer.echo(f"Loading the recommender of {printable(str(folder))} ...", err=True)
        opened.append(decoder.open(folder, wishes=wishes))
    shelf = shelf_of(folders, opened, data)
    typer.echo(f"Indexing {shelf.catalog.num_items:,} titles ...", err=True)
    _ = shelf.reader
    server = Server(shelf, host, listening)
    typer.echo(f"Open http://{printable(host)}:{listening.getsockname()[1]} in a browser. Ctrl-C ends it.", err=True)
    try:
        server.run()
    finally:
        for recommender in opened:
            recommender.close()
