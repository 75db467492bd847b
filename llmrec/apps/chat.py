"""`llmrec chat`: type titles you liked, get ten titles, ask why, go on. Reads a terminal or a pipe alike.

The recommender chooses titles; a language model with all its layers explains and answers. Titles that it writes are words.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmrec.apps.explanation_output import model_label, show_explanation
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
from llmrec.errors import LlmrecError
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.conversation.messages import Step
    from llmrec.recommender import Recommender
    from llmrec.text_models.protocol import TextModel
    from llmrec.text_models.settings import TextModelSettings

TOLD_OF = 10  # of the titles you liked and of those shown, the latest that a question's answer is given the facts of


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
        from llmrec.conversation.messages import MessageReader
        from llmrec.conversation.state import ChatState

        self.recommender, self.instruction, self.ask, self.say = recommender, instruction, ask, say
        self.language_model, self.write = language_model, write
        self.reader = MessageReader(recommender.catalog, recommender.rules)
        self.state = ChatState()

    def talk(self) -> None:
        """Reads and answers lines until `quit` or the end of the input."""
        from llmrec.conversation.messages import Leave

        self.say(f"{self.recommender.catalog.num_items:,} titles. Which did you like? (help says more)")
        while True:
            try:
                line = self.ask("> " if self.state.open is None else "number? ")
            except EOFError:
                self.say("")
                return
            for step in self.reader.read(line, self.state):
                if isinstance(step, Leave):
                    return
                self.take(step)

    def take(self, step: Step) -> None:
        """Does what one step of a message asks for."""
        from llmrec.conversation.messages import AnswerQuestion, Explain, Recommend, Say

        try:
            match step:
                case Say(text):
                    self.say(text)
                case Recommend():
                    self.recommend()
                case Explain(item_id):
                    self.explain(item_id)
                case AnswerQuestion(question):
                    self.answer_question(question)
        except LlmrecError as error:
            self.say(printable(str(error)))

    def recommend(self) -> None:
        """The next titles that were not shown for this history yet."""
        from llmrec.conversation.messages import TITLES

        catalog, left = self.recommender.catalog, self.reader.left(self.state)
        found = (
            []
            if left is None
            else self.recommender.recommend(
                [catalog.item_id(item) for item in self.state.liked],
                TITLES,
                where=left.where,
                exclude=left.exclude,
                instruction=self.instruction,
            )
        )
        self.say(self.reader.list_shown(self.state, [item.item_id for item in found]))

    def explain(self, item_id: str) -> None:
        """Why one of the titles shown: what was measured, and a language model's words about it."""
        from llmrec.explain.words import without_language_model

        liked = [self.recommender.catalog.item_id(item) for item in self.state.liked]
        has_writer = self.language_model is not None or not without_language_model(self.recommender.folder)
        writer = self.writer() if has_writer else None
        show_explanation(self.recommender.explain(liked, item_id, writer, instruction=self.instruction), self.say)

    def answer_question(self, question: str) -> None:
        """A language model's own words about the titles liked and shown, as they come."""
        from llmrec.explain.words import answer

        catalog = self.recommender.catalog
        liked = [catalog.item_id(item) for item in self.state.liked[-TOLD_OF:]]
        model = self.writer()
        self.write(f"{model_label(model.card)} says, in its own words: ")
        try:
            found = answer(catalog, question, liked, self.state.shown[-TOLD_OF:], model, on_text=self.write_piece)
        finally:
            self.say("")
        if found.hallucinated_titles:
            names = ", ".join(f"'{printable(name)}'" for name in found.hallucinated_titles)
            self.say(f"(It names {names}, which it was not told of: that is no recommendation.)")

    def writer(self) -> TextModel:
        """The language model, loaded the first time."""
        from llmrec.text_models.settings import TextModelSettings

        if self.language_model is None or isinstance(self.language_model, str | TextModelSettings):
            self.say("Loading the language model that explains and answers, once ...")
            self.language_model = self.recommender.text_model(self.language_model)
        return self.language_model

    def write_piece(self, text: str) -> None:
        """A piece of a model's text on the line that is being written, without what steers a terminal."""
        self.write("".join(" " if c.isspace() else printable(c) for c in text))
