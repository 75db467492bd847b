"""The page: Gradio carries actions and new panels between browser and `visit.act`; their HTML, style and scripts are our own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from llmrec.apps.web import panels
from llmrec.apps.web.runs import Shelf
from llmrec.apps.web.visit import Visit, act, give_reasons, needs_reasons, rank
from llmrec.conversation.turn import MAX_MESSAGE_CHARACTERS

QUEUE = 64  # actions that wait; further ones are told to come again
AT_ONCE = 4  # actions at a time: the model answers one after the other anyway
SESSIONS = 1000  # visitors whose state is kept; the oldest goes
VISIT_SECONDS = 6 * 3600.0
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]


def make_page(shelf: Shelf) -> gr.Blocks:
    """The page of one or two runs."""
    panel_js, search_js, say_js = ((panels.STATIC / name).read_text() for name in ("panel.js", "search.js", "say.js"))

    def find(typed: str) -> list[dict[str, str]]:
        return panels.found_titles(shelf, typed) if isinstance(typed, str) else []

    def shown(visit: Visit) -> tuple[str, ...]:
        return tuple(panel(shelf, visit) for panel in (panels.wishes, panels.filters, panels.talk, panels.cards))

    def begin() -> tuple[Any, ...]:
        visit = Visit()
        rank(shelf, visit)
        return visit, *shown(visit)

    def do(visit: Visit, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        """The new list at once; its reasons, which take a score more for every title that was liked, when they are measured."""
        act(shelf, visit, event._data if isinstance(event._data, dict) else {})
        yield visit, *shown(visit)
        if needs_reasons(visit) and give_reasons(visit):
            yield visit, gr.skip(), gr.skip(), gr.skip(), panels.cards(shelf, visit)

    def panel(name: str) -> gr.HTML:
        return gr.HTML("", elem_id=name, elem_classes="panel", js_on_load=panel_js, apply_default_css=False)

    with gr.Blocks(title="llmrec", analytics_enabled=False, fill_width=True) as page:
        page.state_session_capacity = SESSIONS
        visit = gr.State(Visit(), time_to_live=VISIT_SECONDS)
        gr.HTML(
            panels.rendered("head", runs=panels.run_cards(shelf)),
            elem_id="head",
            js_on_load=None,
            apply_default_css=False,
        )
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("For you"), gr.Row(elem_id="layout"):
                with gr.Column(elem_id="left"):
                    search = gr.HTML(
                        panels.rendered("search", num_items=f"{shelf.catalog.num_items:,}"), elem_id="search", js_on_load=search_js,
                        server_functions=[find], apply_default_css=False,
                    )  # fmt: skip
                    wishes, filters = panel("wishes"), panel("filters")
                with gr.Column(elem_id="right"):
                    talk = panel("talk")
                    said = gr.HTML(
                        panels.rendered("say", most=MAX_MESSAGE_CHARACTERS),
                        elem_id="say",
                        js_on_load=say_js,
                        apply_default_css=False,
                    )
                with gr.Column(elem_id="middle"):
                    cards = panel("cards")
            with gr.Tab("Inside the model") as inside_tab:
                inside = panel("inside")
        outputs = [visit, wishes, filters, talk, cards]
        inside_tab.select(
            lambda visit: panels.inside(shelf, visit), visit, inside, show_progress="hidden", api_visibility="private"
        )
        page.load(begin, None, outputs, show_progress="hidden", api_visibility="private")
        for source in (search, wishes, filters, cards, talk, said):
            # "multiple": the next action need not wait for the reasons of the one before
            source.act(
                do, visit, outputs, show_progress="hidden", api_visibility="private", trigger_mode="multiple"
            ).failure(None, js="() => document.body.classList.remove('busy')", api_visibility="private")
    return page.queue(max_size=QUEUE, default_concurrency_limit=AT_ONCE)


def theme() -> gr.themes.Base:
    """Gradio's plainest, with the fonts of the reader's own system: none is fetched."""
    return gr.themes.Base(font=FONTS, font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"])
