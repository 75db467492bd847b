"""`llmrec chat`: type titles you liked, get ten titles, ask why, go on. Reads a terminal or a pipe alike.

The recommender chooses titles; a language model with all its layers explains and answers. Titles that it writes are words.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmrec.apps.options import (
    BaseUrl,
    Beams,
    Decoding,
    Device,
    Engine,
    Instruction,
    OldTextModelName,
    Provider,
    Rule,
    Run,
    TextModelName,
    open_run,
    text_model_settings,
)
from llmrec.apps.output import screen
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.recommender import Recommender
    from llmrec.text_models.protocol import TextModel
    from llmrec.text_models.settings import TextModelSettings


def chat(
    run: Run,
    instruction: Instruction = None,
    num_beams: Beams = None,
    decoding: Decoding = "trie",
    softmax_scope: Rule = None,
    model: TextModelName = None,
    provider: Provider = "transformers",
    base_url: BaseUrl = None,
    engine: Engine = "torch",
    device: Device = None,
    old_model: OldTextModelName = None,
) -> None:
    """Type titles you liked and get ten more, again and again. Titles are found however they are spelt.

    `why 3` explains the third of them, `ask ...` answers a question about them; a language model is loaded for it.

    \b
    Example:
      llmrec chat runs/demo
      echo "Star Wars; Fargo" | llmrec chat runs/demo
    """
    from llmrec.text_models.open_model import check_text_model

    language_model = text_model_settings(model, provider, base_url)
    if language_model is not None:
        check_text_model(language_model)
    shown = screen()
    shown.say(f"Loading the recommender of {printable(str(run))} ...")
    recommender = open_run(
        run, num_beams=num_beams, device=device, engine=engine, decoding=decoding, softmax_scope=softmax_scope
    )
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # not on every system
            import readline  # noqa: F401  (lines can be edited and recalled)
    else:
        sys.stdin.reconfigure(errors="replace")
    Chat(recommender, instruction, language_model, ask=input, say=shown.say, write=shown.write).talk()


class Chat:
    """One conversation in a terminal or a pipe: reads lines, takes the steps they ask for."""

    def __init__(
        self,
        recommender: Recommender,
        instruction: str | None,
        language_model: str | TextModelSettings | TextModel | None,
        *,
        ask: Callable[[str], str],
        say: Callable[[str], None],
        write: Callable[[str], None],
    ) -> None:
        """ask(prompt) -> the next line, EOFError at the end; say(text) shows a text, write(text) a piece of a line.

        language_model: who explains and answers, as `Recommender.explain` takes it; loaded when first needed.
        """
        from llmrec.conversation.session import Session

        self.recommender, self.ask, self.say, self.write = recommender, ask, say, write
        self.language_model = language_model
        self.session = Session(instruction=instruction)
        self.written = ""  # of the reply, what was shown while it was written

    def talk(self) -> None:
        """Reads and answers lines until `quit` or the end of the input."""
        from llmrec.conversation.turn import greeting

        self.say(greeting(self.recommender.catalog.num_items))
        while True:
            try:
                line = self.ask("> " if self.session.open is None else "number? ")
            except EOFError:
                self.say("")
                return
            if self.answer(line):
                return

    def answer(self, line: str) -> bool:
        """Answers one line; whether it ends the conversation."""
        self.written = ""
        try:
            reply = self.recommender.converse(
                self.session, line, language_model=self.language_model, on_text=self.write_piece, on_wait=self.say
            )
        except KeyboardInterrupt:
            if self.written:
                self.say("")
            raise
        self.say(reply.text.removeprefix(self.written))
        return reply.ended

    def write_piece(self, text: str) -> None:
        """A piece of a reply that is being written."""
        self.written += text
        self.write(text)
