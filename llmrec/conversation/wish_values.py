"""Words that no rule knows ("something whimsical") as values of the catalogue that they speak of.

A language model says how likely each value is to be written after the words, a sentence encoder how near each is to them; each is right
where the other is not, and their sum is better than either (docs/chat.md). Where no value stands out, nothing is said.

Letters: V values, C candidates, D width of the encoder.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property

import numpy as np

from llmrec.conversation.asks import ReadByModel
from llmrec.conversation.edits import Lean, Wishes
from llmrec.conversation.facets import Facets
from llmrec.conversation.wish_examples import examples_of_values
from llmrec.conversation.wish_form import leans
from llmrec.conversation.wish_model import checked, prompt_ids
from llmrec.encoders.text import BATCH_SIZE, TextEncoder
from llmrec.engines.forms import MAX_OPTION_TOKENS, Options
from llmrec.prompting.templates import PromptItem, load_prompt
from llmrec.terminal import printable
from llmrec.text_models.next_token import NextToken
from llmrec.text_models.protocol import TextModel

MAX_WORDS = 8  # more of them are no quality
CANDIDATES = 48  # values, the nearest ones, that the language model is asked about
# Chosen on every second line of eval/phrasings/words.jsonl, measured on the others.
NEARNESS = 20.0  # what a cosine counts beside a log-probability
STANDS_OUT = 6.0
_LESS = re.compile(
    r"\b(?:not|no|less|nothing|without|never|isn['’]t|aren['’]t|don['’]t|doesn['’]t)\b(?:\W+\w+){0,2}\W*$",
    re.IGNORECASE,
)


class ValueModel:
    """Reads the words that rules left unread. One thread at a time uses it."""

    def __init__(self, model: TextModel, encoder: TextEncoder, facets: Facets) -> None:
        """Raises ConfigError for a model that somebody else runs."""
        self.model, self.encoder, self.facets = checked(model), encoder, facets
        self.next_token = NextToken(self.model)
        self._leans = list({lean.value: lean for lean in reversed(leans(facets))}.values())[::-1]  # (V,)
        self._prompt = load_prompt("wishes/value")

    def read(self, ask: ReadByModel) -> Wishes:
        """What the rules read in the message and, where its unread words speak of a value, that this ranks higher (or lower)."""
        wishes = ask.wishes
        lean = self.meant(wishes.unread)
        if lean is None:
            return wishes
        before = ask.message[: max(0, ask.message.find(wishes.unread.split()[0]))]
        lean = replace(lean, word=wishes.unread, less=_LESS.search(before) is not None)
        return replace(wishes, edits=(*wishes.edits, lean), unread="")

    def meant(self, words: str) -> Lean | None:
        """The value that a few words speak of, None where none stands out."""
        if not self._leans or not 1 <= len(words.split()) <= MAX_WORDS:
            return None
        candidates, log_probs, nearness = self.scores(words)
        scores = log_probs + NEARNESS * nearness
        best = int(scores.argmax())
        return candidates[best] if scores[best] > STANDS_OUT else None

    def scores(self, words: str) -> tuple[list[Lean], np.ndarray, np.ndarray]:
        """The candidates, the nearest first; the log-probability of each among them and its cosine to the words: float (C,) each."""
        message = f"something {printable(words)}"
        nearness = self._vectors @ self.encoder.vectors([message])[0]  # (V,)
        nearest = np.argsort(-nearness, kind="stable")[:CANDIDATES]
        options = Options([self._leans[place].value for place in nearest], self.model.prompts.tokenizer)
        ids = prompt_ids(self.model, self._prompt, self._examples, message, MAX_OPTION_TOKENS)
        log_probs = options.log_probs(ids, self.next_token)
        return [self._leans[place] for place in nearest], log_probs, nearness[nearest]

    @cached_property
    def _vectors(self) -> np.ndarray:
        """float32 (V, D)."""
        texts = [lean.value for lean in self._leans]
        batches = [
            self.encoder.vectors(texts[start : start + BATCH_SIZE]) for start in range(0, len(texts), BATCH_SIZE)
        ]
        return np.concatenate(batches)

    @cached_property
    def _examples(self) -> list[PromptItem]:
        found = examples_of_values(self.facets)
        return [PromptItem(place, {"message": words, "lines": line}) for place, (words, line) in enumerate(found)]
