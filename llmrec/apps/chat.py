"""`llmrec chat`: type titles you liked, get ten titles, ask why, go on. Reads a terminal or a pipe alike.

The recommender chooses titles; a language model with all its layers explains and answers. Titles that it writes are words.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmrec.apps.explanation_output import model_label, show_explanation
from llmrec.apps.options import (
    BaseUrl,
    Beams,
    Decoding,
    Device,
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
    from llmrec.recommender import Recommender
    from llmrec.text_models.protocol import TextModel
    from llmrec.text_models.settings import TextModelSettings

TITLES = 10  # recommended at a time
CHOICES = 9  # offered at most where a title is not clear
TOLD_OF = 10  # of the titles you liked and of those shown, the latest that a question's answer is given the facts of
_WHY = re.compile(r"/?why(?:\s+(?P<number>\d{1,6}))?\s*$", re.IGNORECASE)
_QUESTION = re.compile(r"(?:/?ask\s+|\?)(?P<question>.*\w.*)$", re.IGNORECASE)
NOTHING_SHOWN = "There are no titles yet: name some that you liked."
HELP = """\
Type titles you liked, the latest last; several with ';' between them. Spelling, case and articles do not matter.
Where a title is not clear, answer with a number (or several), with Enter for none, or with another title.
  list    what you liked so far        undo    take the last one back      reset   forget them all
  more    ten more titles              help    this text                   quit    leave (also Ctrl-D)
  why 3   why the third title of the list, measured and in words
  ask Is it a comedy?   or  ? Is it a comedy?   a language model's own words about these titles
  /where genres=Comedy|Drama; year>=1990    only titles of which the catalogue says so (also !=, <=, <, >)
  /where off    all titles again            /where    what holds now
All of them may be typed with the slash. A title that reads like one of these goes in quotes: "more"."""


def chat(
    run: Run,
    instruction: Instruction = None,
    num_beams: Beams = None,
    decoding: Decoding = "trie",
    softmax_scope: Rule = None,
    model: TextModelName = None,
    provider: Provider = "transformers",
    base_url: BaseUrl = None,
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
    recommender = open_run(run, num_beams=num_beams, device=device, decoding=decoding, softmax_scope=softmax_scope)
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # not on every system
            import readline  # noqa: F401  (lines can be edited and recalled)
    else:
        sys.stdin.reconfigure(errors="replace")
    Chat(recommender, instruction, language_model, ask=input, say=shown.say, write=shown.write).talk()


class Chat:
    """One conversation: what was liked, what was shown, and the line that is being dealt with."""

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
        from llmrec.data.title_search import TitleSearch

        self.recommender, self.instruction, self.ask, self.say = recommender, instruction, ask, say
        self.language_model, self.write = language_model, write
        self.search = TitleSearch(recommender.catalog)
        self.liked: list[int] = []  # oldest first
        self.where: list[str] = []  # what the catalogue must say of a recommended title
        self.shown: list[str] = []  # item ids in the order recommended since `liked` or `where` last changed
        self.commands = {"help": lambda: say(HELP), "list": self.show_liked, "undo": self.undo, "reset": self.reset,
                         "more": self.recommend}  # fmt: skip

    def talk(self) -> None:
        """Reads and answers lines until `quit` or the end of the input."""
        self.say(f"{self.recommender.catalog.num_items:,} titles. Which did you like? (help says more)")
        line = None
        while True:
            try:
                line = self.ask("> ") if line is None else line
                if line.strip().casefold().removeprefix("/") in ("quit", "exit"):
                    return
                line = self.answer(line.strip())
            except EOFError:
                self.say("")
                return

    def answer(self, line: str) -> str | None:
        """Deals with one line. Returns a line that was typed instead of a number and is to be dealt with next."""
        if line.casefold().split(" ")[0] == "/where":
            self.filter(line[len("/where") :].strip())
            return None
        asked_why, question = _WHY.match(line), _QUESTION.match(line)
        if asked_why or question:
            try:
                self.explain(asked_why["number"]) if asked_why else self.answer_question(question["question"])
            except LlmrecError as error:
                self.say(printable(str(error)))
            return None
        command = self.commands.get(line.casefold().removeprefix("/"))
        if command:
            command()
            return None
        added, other = False, None
        for title in filter(None, (part.strip() for part in line.split(";"))):
            chosen, other = self.meant_by(title)
            added |= self.add(chosen)
            if other is not None:
                break
        if added:
            self.show_liked()
            self.recommend()
        return other

    def meant_by(self, title: str) -> tuple[list[int], str | None]:
        """The items a typed title means, asked back where that is not clear, and a line typed instead of an answer."""
        match = self.search.find(title)
        if match.kind == "sure":
            return match.items, None
        name = printable(title)[:80]
        if not match.items:
            self.say(f"Nothing here is called '{name}'.")
            return [], None
        offered = match.items[:CHOICES]
        if match.kind == "near":
            self.say(f"Nothing here is called '{name}'. The nearest:")
        else:
            self.say(f"Did you mean by '{name}':" if len(offered) == 1 else f"Which '{name}' do you mean?")
        for number, label in enumerate(self.labels(offered), 1):
            self.say(f"  {number}) {label}")
        if len(match.items) > CHOICES:
            self.say(f"  and {len(match.items) - CHOICES} more: type more of the title to see them")
        return self.choice(offered)

    def choice(self, offered: list[int]) -> tuple[list[int], str | None]:
        """Reads numbers, nothing, or another line: the items chosen, and that other line."""
        while True:
            line = self.ask("number? ").strip()
            words = line.replace(",", " ").split()
            if not all(word.isdecimal() for word in words):
                return [], line
            numbers = [int(word) for word in words]
            if all(1 <= number <= len(offered) for number in numbers):
                return [offered[number - 1] for number in numbers], None
            self.say(f"The choices are 1 to {len(offered)}; Enter for none.")

    def add(self, items: list[int]) -> bool:
        """Puts items after what was liked; says so where they are there already. Whether any is new."""
        new = [item for item in dict.fromkeys(items) if item not in self.liked]
        for label in self.labels([item for item in items if item in self.liked]):
            self.say(f"You have {label} already.")
        self.liked += new
        self.shown = [] if new else self.shown
        return bool(new)

    def undo(self) -> None:
        """Takes back the last title."""
        if not self.liked:
            self.say("There is nothing to take back.")
            return
        (label,) = self.labels([self.liked.pop()])
        self.shown = []
        self.say(f"Took back {label}.")
        if self.liked:
            self.show_liked()
            self.recommend()

    def reset(self) -> None:
        """Forgets all titles."""
        self.liked, self.shown = [], []
        self.say("Forgotten. Which titles did you like?")

    def filter(self, asked: str) -> None:
        """Recommends only what the conditions allow, several with ';' between them; "off" lifts them, nothing shows them."""
        from llmrec.errors import RequestError

        if not asked:
            columns = ", ".join(map(printable, self.recommender.catalog.fields))
            here = f"Only titles with {'; '.join(self.where)}." if self.where else "All titles may be recommended."
            self.say(f"{here} The catalogue tells of each: {columns}.")
            return
        where = [] if asked.casefold() == "off" else [part.strip() for part in asked.split(";") if part.strip()]
        try:
            left = self.recommender.rules.choice(where=where)
        except RequestError as error:
            self.say(printable(str(error)))
            return
        self.where, self.shown = where, []
        self.say("All titles again." if left.items is None else f"{left.num_left:,} titles left.")
        if self.liked:
            self.recommend()

    def show_liked(self) -> None:
        """Says what was liked, oldest first."""
        self.say(f"You liked: {'; '.join(self.labels(self.liked)) or 'nothing yet'}")

    def recommend(self) -> None:
        """The next ten titles that were not shown for this history yet."""
        catalog = self.recommender.catalog
        # Asked for all shown ones too: a wider search may put a title that was shown further down.
        found = self.recommender.recommend(
            [catalog.item_id(item) for item in self.liked],
            TITLES + len(self.shown),
            where=self.where,
            instruction=self.instruction,
        )
        fresh = [item for item in found if item.item_id not in self.shown][:TITLES]
        if not fresh:
            self.say(
                "That was the whole catalogue." if not self.where else f"No more titles with {'; '.join(self.where)}."
            )
            return
        self.say("More titles:" if self.shown else "You may like:")
        labels = self.labels(catalog.index([item.item_id for item in fresh]).tolist())
        for rank, label in enumerate(labels, len(self.shown) + 1):
            self.say(f"{rank:>4}. {label}")
        self.shown += [item.item_id for item in fresh]

    def explain(self, number: str | None) -> None:
        """Why one of the titles shown: what was measured, and a language model's words about it."""
        from llmrec.explain.words import without_language_model

        if number is None or not 1 <= int(number) <= len(self.shown):
            self.say(f"why takes the number of a title shown, 1 to {len(self.shown)}." if self.shown else NOTHING_SHOWN)
            return
        if not self.liked:
            self.say("There is nothing yet that it could suit: name titles you liked.")
            return
        liked = [self.recommender.catalog.item_id(item) for item in self.liked]
        item_id = self.shown[int(number) - 1]
        has_writer = self.language_model is not None or not without_language_model(self.recommender.folder)
        writer = self.writer() if has_writer else None
        show_explanation(self.recommender.explain(liked, item_id, writer, instruction=self.instruction), self.say)

    def answer_question(self, question: str) -> None:
        """A language model's own words about the titles liked and shown, as they come."""
        from llmrec.explain.words import answer

        catalog = self.recommender.catalog
        liked = [catalog.item_id(item) for item in self.liked[-TOLD_OF:]]
        if not liked:
            self.say(NOTHING_SHOWN)
            return
        model = self.writer()
        self.write(f"{model_label(model.card)} says, in its own words: ")
        try:
            found = answer(catalog, question, liked, self.shown[-TOLD_OF:], model, on_text=self.write_piece)
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

    def labels(self, items: list[int]) -> list[str]:
        """How items are shown: title and year, and the item id where titles alone would look alike."""
        catalog, years = self.recommender.catalog, self.search.years
        labels = []
        for item in items:
            title, year = printable(catalog.title(item)) or printable(catalog.item_id(item)), years[item]
            labels.append(f"{title} ({printable(year)})" if year and f"({year})" not in title else title)
        return [
            f"{label} [{printable(catalog.item_id(item))}]" if labels.count(label) > 1 else label
            for label, item in zip(labels, items, strict=True)
        ]
