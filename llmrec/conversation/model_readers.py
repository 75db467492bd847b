"""Who reads a message, by name: the rules alone, the rules and a language model for words they do not know, or the model alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from llmrec.conversation.asks import ReadByModel
from llmrec.conversation.edits import Wishes
from llmrec.conversation.reader import Reader
from llmrec.errors import ConfigError
from llmrec.text_models.protocol import TextModel

if TYPE_CHECKING:
    from llmrec.conversation.wish_model import WishModel
    from llmrec.conversation.wish_values import ValueModel

WishReading = Literal["rules", "both", "model"]
NO_MODEL_READS = "no language model reads messages here: it would have to be asked for (--wishes both)."


def checked_wishes(wishes: str) -> WishReading:
    """Who reads messages. Raises ConfigError for nobody."""
    if wishes not in get_args(WishReading):
        raise ConfigError(
            f"wishes are read by {', '.join(get_args(WishReading))}, but '{str(wishes)[:60]}' was asked for."
        )
    return wishes


class ModelReaders:
    """What answers `ReadByModel` over one catalogue, made when it is first asked. One thread at a time uses it."""

    def __init__(self, wishes: WishReading, reader: Reader) -> None:
        self.wishes, self._reader = wishes, reader
        self._made: WishModel | ValueModel | None = None

    def read(self, ask: ReadByModel, model: TextModel) -> Wishes:
        """What `model` reads in the message.

        Raises ConfigError where it is not this process that runs the model, ModelError where the sentence encoder is not installed.
        """
        from llmrec.conversation.wish_model import (
            WishModel,
        )  # here: transformers takes seconds, and rules need none of it
        from llmrec.conversation.wish_values import ValueModel
        from llmrec.encoders.text import TextEncoder

        if self._made is None or self._made.model is not model:
            facets = self._reader.facets
            if self.wishes == "model":
                self._made = WishModel(model, facets, self._reader.search)
            elif self.wishes == "both":
                self._made = ValueModel(model, TextEncoder(), facets)
            else:
                raise ConfigError(NO_MODEL_READS)
        return self._made.read(ask)
