"""A language model reads a message: it fills in the form of `wish_form`, and whatever it says, only the catalogue's own comes out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

from torch import Tensor

from llmrec.conversation.asks import ReadByModel
from llmrec.conversation.edits import Wishes
from llmrec.conversation.facets import Facets
from llmrec.conversation.wish_examples import examples, lines_of
from llmrec.conversation.wish_form import MAX_LINES, STOP, heads, wishes_of
from llmrec.conversation.wish_rules.title_words import TitleWords
from llmrec.data.title_search import TitleSearch
from llmrec.engines.forms import MAX_OPTION_TOKENS, Form, Options
from llmrec.errors import ConfigError, RequestError
from llmrec.prompting.templates import Prompt, PromptItem, load_prompt
from llmrec.terminal import printable
from llmrec.text_models.next_token import NextToken
from llmrec.text_models.protocol import PlainText, TextModel
from llmrec.text_models.transformers import TransformersModel

_KEPT = 64  # lists of options
MAX_MESSAGE_CHARACTERS = 300  # that the model reads; it takes time with each


class WishModel:
    """Reads messages over one catalogue by a language model that this process runs. One thread at a time uses it.

    What stands before the message is the same every time, and is read once.
    """

    def __init__(self, model: TextModel, facets: Facets, search: TitleSearch) -> None:
        """Raises ConfigError for a model that somebody else runs."""
        self.model, self.facets = checked(model), facets
        self.titles = TitleWords(facets.catalog, search)
        self.next_token = NextToken(self.model)
        self._prompt = load_prompt("wishes/plain")
        # values of columns are the same every time
        self._options = lru_cache(_KEPT)(lambda texts: Options(texts, self.model.prompts.tokenizer))

    def read(self, ask: ReadByModel) -> Wishes:
        """What a message asks for, read by the language model alone."""
        message = printable(ask.message)[:MAX_MESSAGE_CHARACTERS]
        found = heads(self.facets, self.titles, message, ask.state)
        options = {name: None if one.options is None else self._options(one.options) for name, one in found.items()}
        form = Form(options, STOP, self.model.prompts.tokenizer)
        lines = form.write(self._ids(message), self.next_token, MAX_LINES, self._usual)
        return wishes_of([found[line.head].means(line.option or 0) for line in lines])

    def _ids(self, message: str) -> list[int]:
        return prompt_ids(self.model, self._prompt, self._examples, message, MAX_LINES * MAX_OPTION_TOKENS)

    @cached_property
    def _examples(self) -> list[PromptItem]:
        return [
            PromptItem(place, {"message": one[0], "lines": lines_of(one)})
            for place, one in enumerate(examples(self.facets))
        ]

    @cached_property
    def _usual(self) -> Tensor:
        """What the model would write of a message that says nothing."""
        return self.next_token(self._ids("N/A"))


def prompt_ids(
    model: TransformersModel, prompt: Prompt, examples: Sequence[PromptItem], message: str, room: int
) -> list[int]:
    """The ids of a prompt about a message. Raises RequestError where it and `room` tokens are more than the model reads."""
    (text,) = prompt.render(examples, message)
    ids = model.prompts.prompt_ids(PlainText(text))
    if model.max_tokens is not None and len(ids) + room > model.max_tokens:
        raise RequestError(
            f"reading a message takes {len(ids) + room:,} tokens, but '{model.identity['name']}' reads {model.max_tokens:,}. "
            "Choose another model, or let the rules alone read: --wishes rules."
        )
    return ids


def checked(model: TextModel) -> TransformersModel:
    """The model, which this process runs. Raises ConfigError for another: its next tokens cannot be chosen from."""
    if not isinstance(model, TransformersModel):
        raise ConfigError(
            f"a language model that reads messages has to be run by transformers, but '{model.identity['name']}' is run by "
            f"{model.identity['provider']}. Take --provider transformers, or let the rules alone read: --wishes rules."
        )
    return model
