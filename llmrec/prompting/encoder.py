"""From a history to token ids: the one place that makes prompts, for training and for inference alike.

Letters: T tokens, H history items, S item slots of a prompt, V rows of the base embedding.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import jinja2
import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.errors import ConfigError, ModelError, RequestError
from llmrec.items.forms import NO_TARGET, ItemSequences, ItemTokens
from llmrec.items.plain_text import Tokenizer, one_line
from llmrec.prompting.answer_words import answer_words
from llmrec.prompting.marked_text import MarkedText
from llmrec.prompting.templates import CHOOSE, ITEM_SLOT, Prompt, PromptItem, as_value

# The item that a click prompt asks about; the items, integers (C,), that a prompt of the task choose lists; None of other prompts.
Asked = int | np.ndarray | None
MAX_FIELD_CHARACTERS = 500
MAX_INSTRUCTION_CHARACTERS = 4_000


@dataclass(frozen=True, eq=False)
class RenderedPrompt:
    """input_ids: int32 (T,), ids >= V are item tokens. item_spans: int32 (S, 2), [start, end) of each history item's
    tokens. num_prompt_tokens: the prompt is input_ids[:num_prompt_tokens], the answer (if any) what follows."""

    input_ids: np.ndarray
    item_spans: np.ndarray
    num_prompt_tokens: int

    @property
    def labels(self) -> np.ndarray:
        """int64 (T,): the answer's tokens, -100 on the prompt."""
        labels = self.input_ids.astype(np.int64)
        labels[: self.num_prompt_tokens] = NO_TARGET
        return labels


@dataclass(frozen=True, eq=False)
class Shot:
    """A solved example that stands before a question: history, dense items int (H,), oldest first; candidate: what the prompt asks
    about besides; answer: the words of its answer, as they would follow the prompt."""

    history: np.ndarray
    candidate: Asked
    answer: str


class PromptEncoder:
    """A prompt, a tokenizer and the items' tokens, made into `encode(history) -> ids`.

    item_tokens: how an item is written as the answer. prompt_sequences: how it is written in the prompt; None for the same way.
    soft_prompt: int (n,), vector tokens that every prompt begins with, after its start token.
    max_history: items, not tokens. max_tokens: of a prompt and its answer together. The history is cut from its old end, at
    item boundaries, until both hold; room for the longest item is always kept for the answer, so that the prompt of a
    history is the same with and without an answer.
    history_step: items. A history that is cut begins at a multiple of it, counted from the user's first event, so that one which
    grows keeps its beginning for so many events: max_history - history_step + 1 to max_history items are shown. Where max_tokens
    hold fewer than history_step items, what follows the last multiple moves item by item.

    shots: solved examples, rendered by the same prompt, each with its answer: as earlier turns of a chat, after its system message, or
    as earlier paragraphs. They are the same for every history, so that they are read once; of their histories the latest max_history
    items are shown.

    block_tokens: 1 but where an engine reads prompts in blocks of so many tokens and the rest of a prompt again and again: a history is
    then cut further, until its prompt fills whole blocks, where it can (`_aligned`).

    Raises ConfigError when not even the prompt with one item fits, when a field is not in the catalog, or unless
    1 <= history_step <= max_history; ModelError when the tokenizer lacks what the prompt needs (a chat template, any start token).
    """

    def __init__(
        self,
        prompt: Prompt,
        tokenizer: Tokenizer,
        item_tokens: ItemTokens,
        catalog: Catalog,
        *,
        max_history: int,
        max_tokens: int,
        history_step: int = 1,
        prompt_sequences: ItemSequences | None = None,
        soft_prompt: np.ndarray | None = None,
        shots: Sequence[Shot] = (),
    ) -> None:
        assert not shots or prompt.kind != "bare", "a bare prompt has no words between its examples"
        if max_history < 1:
            raise ConfigError(f"max_history counts items and is at least 1; it is {max_history}.")
        if not 1 <= history_step <= max_history:
            raise ConfigError(
                f"history_step counts the items that a full history drops at once, 1 to max_history={max_history}; it is "
                f"{history_step}."
            )
        self.prompt = prompt
        self.tokenizer = tokenizer
        self.item_tokens = item_tokens
        # one after the other, titles are told apart by their end tokens
        own = item_tokens if prompt.kind == "bare" else item_tokens.prompt_sequences
        self.prompt_sequences = prompt_sequences if prompt_sequences is not None else own
        assert self.prompt_sequences.num_items == item_tokens.num_items, (
            self.prompt_sequences.num_items,
            item_tokens.num_items,
        )
        self.max_history = max_history
        self.max_tokens = max_tokens
        self.history_step = history_step
        self.block_tokens = 1
        self.answer_words = answer_words(prompt, tokenizer) if prompt.answers is not None else None  # of a click prompt
        answer = item_tokens.max_length if self.answer_words is None else 1
        self.room = max_tokens - answer  # tokens a prompt may have
        for field in prompt.fields:
            _check_field(prompt, catalog, field)
        self._catalog = catalog
        self._field_text = lru_cache(maxsize=4096)(self._read_field)
        # one token more than could ever fit: whatever is cut there makes the prompt too long, and that is dealt with
        self._marked = MarkedText(tokenizer, max_tokens + 1)
        start = start_ids(tokenizer, always=prompt.kind == "bare") if prompt.kind != "chat" else []
        self.soft_prompt = soft_prompt
        self.prefix = [*start, *([] if soft_prompt is None else soft_prompt.tolist())]
        instruction = "" if "instruction" in prompt.variables else None
        self._before = _Before(np.empty(0, np.int32))
        for shot in shots:
            self._before = self._followed_by(shot, instruction)
        asked = int(self.prompt_sequences.lengths.argmax()) if prompt.answers is not None else None
        asked = np.empty(0, np.int32) if prompt.task == CHOOSE else asked
        num_fixed = len(self._render(np.empty(0, np.int32), instruction, asked)[0])
        longest = self.prompt_sequences.max_length
        if num_fixed + longest > self.room:
            raise ConfigError(
                f"prompt '{prompt.task}/{prompt.name}' takes {num_fixed} tokens, an item in it up to {longest} and the answer "
                f"{answer}, so max_tokens must be at least {num_fixed + longest + answer} to hold both; it is {max_tokens}."
            )

    def encode(
        self, history: Sequence[int] | np.ndarray, instruction: str | None = None, *, candidate: Asked = None
    ) -> np.ndarray:
        """The prompt of one request, up to where the answer begins: int32 (T,), never empty.

        history: dense items, oldest first, possibly none. candidate: what a click prompt asks about, or one of the task choose. Raises
        RequestError for an instruction that is too long, and ConfigError for an instruction or a candidate that the prompt has no
        room for (or needs and does not get).
        """
        return self.encode_with_spans(history, instruction, candidate=candidate).input_ids

    def encode_with_spans(
        self,
        history: Sequence[int] | np.ndarray,
        instruction: str | None = None,
        answer: int | None = None,
        candidate: Asked = None,
    ) -> RenderedPrompt:
        """The prompt as in `encode`, where its items stand, and after it the tokens of the item `answer` if given."""
        if instruction is not None and len(instruction) > MAX_INSTRUCTION_CHARACTERS:
            raise RequestError(
                f"an instruction may have {MAX_INSTRUCTION_CHARACTERS} characters; this one has {len(instruction)}. Shorten it."
            )
        history = np.asarray(history, dtype=np.int32)
        is_bare = self.prompt.kind == "bare"
        shown = self.num_fitting(self.prompt_sequences.lengths[history]) if is_bare else self.num_shown(len(history))
        ids, spans = self._render(history[len(history) - shown :], instruction, candidate)
        if len(ids) > self.room:
            ids, spans = self._cut(history, instruction, candidate)
        if len(ids) % self.block_tokens:
            ids, spans = self._aligned(history[len(history) - len(spans) :], instruction, candidate, (ids, spans))
        num_prompt_tokens = len(ids)
        if answer is not None:
            ids = [*ids, *self.item_tokens[answer].tolist()]
        return RenderedPrompt(
            np.asarray(ids, dtype=np.int32), np.asarray(spans, dtype=np.int32).reshape(-1, 2), num_prompt_tokens
        )

    def num_shown(self, num_events: int | np.ndarray) -> int | np.ndarray:
        """How many of the latest items a prompt shows of histories of so many, where max_tokens hold them. One number or (N,)."""
        too_many = np.maximum(num_events - self.max_history, 0)
        return num_events - -(-too_many // self.history_step) * self.history_step

    def num_fitting(self, lengths: np.ndarray) -> int:
        """Of a bare prompt: how many of the latest items it shows. lengths: int (H,), tokens of each item, oldest first."""
        latest = np.cumsum(lengths[::-1][: self.max_history])
        fitting = int(np.searchsorted(latest, self.room - len(self.prefix), side="right"))
        return next(len(lengths) - start for start in self._starts(len(lengths)) if len(lengths) - start <= fitting)

    def _starts(self, num_events: int) -> list[int]:
        """Where the shown part of a history may begin, ascending: at multiples of history_step, as long as they leave an item; after
        the last of them anywhere, its end (nothing shown) included."""
        steps = range(num_events - self.num_shown(num_events), num_events, self.history_step)
        return [*steps, *range(steps[-1] + 1 if steps else 0, num_events + 1)]

    def _cut(
        self, history: np.ndarray, instruction: str | None, candidate: Asked
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """The prompt with as many of the latest items as fit and `_starts` allows, found by halving."""
        starts = self._starts(len(history))
        too_early, found = 0, len(starts) - 1
        ids, spans = self._render(history[starts[found] :], instruction, candidate)
        if len(ids) > self.room:
            raise RequestError(
                f"prompt and instruction take {len(ids)} tokens, but only {self.room} are free. Shorten the instruction."
            )
        while found - too_early > 1:
            middle = (too_early + found) // 2
            fewer_ids, fewer_spans = self._render(history[starts[middle] :], instruction, candidate)
            if len(fewer_ids) > self.room:
                too_early = middle
            else:
                found, ids, spans = middle, fewer_ids, fewer_spans
        return ids, spans

    def _aligned(
        self,
        shown: np.ndarray,
        instruction: str | None,
        candidate: Asked,
        whole: tuple[list[int], list[tuple[int, int]]],
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """The prompt with the most of the latest items that fills whole blocks; `whole`, that of all shown, where none of them does."""
        for start in range(1, len(shown)):
            fewer = self._render(shown[start:], instruction, candidate)
            if len(fewer[0]) % self.block_tokens == 0:
                return fewer
        return whole

    def _render(
        self, history: np.ndarray, instruction: str | None, candidate: Asked
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """The whole prompt for exactly this history: token ids, and [start, end) of each item slot."""
        if self.prompt.kind == "bare":
            if instruction is not None:
                self.prompt.render([], instruction)  # says that a bare prompt has no room for it
            ends = len(self.prefix) + np.cumsum(self.prompt_sequences.lengths[history])
            spans = np.stack([ends - self.prompt_sequences.lengths[history], ends], axis=1)
            return [*self.prefix, *self.prompt_sequences.flatten(history).tolist()], spans.tolist()
        shown, texts = self._texts(history, instruction, candidate)
        before = self._before
        if self.prompt.kind == "plain":
            marked = before.paragraphs + texts[0]
        else:
            roles = [message.role for message in self.prompt.messages]
            turns = list(zip(roles, texts, strict=True))
            marked = self._chat([*turns[: self._num_system], *before.turns, *turns[self._num_system :]])
        items = np.concatenate([before.items, shown])
        ids, spans = self._marked.ids(marked, self.prefix, lambda slot: self.prompt_sequences[items[slot]].tolist())
        spans = spans[before.num_slots :]
        return (ids if self.answer_words is None else [*ids, *self.answer_words.cue]), spans

    @property
    def _num_system(self) -> int:
        """Messages of a chat prompt that stand before its first turn, once whatever follows."""
        roles = [message.role for message in self.prompt.messages or ()]
        return next((place for place, role in enumerate(roles) if role != "system"), len(roles))

    def _texts(self, history: np.ndarray, instruction: str | None, candidate: Asked) -> tuple[np.ndarray, list[str]]:
        """The items of a question, int32 (H or H + 1,), and its marked texts, whose slots count on after those of the examples."""
        num_history = len(history)
        shown = history if candidate is None else np.append(history, np.asarray(candidate, dtype=np.int32))
        items = [
            PromptItem(position, {field: self._field_text(item, field) for field in self.prompt.fields})
            for position, item in enumerate(shown.tolist(), start=len(self._before.items))
        ]
        asked = items[num_history:]
        texts = self.prompt.render(
            items[:num_history],
            one_line(instruction) if instruction is not None else None,
            candidate=asked[0] if asked and not isinstance(candidate, np.ndarray) else None,
            candidates=asked if isinstance(candidate, np.ndarray) else None,
        )
        return shown, texts

    def _followed_by(self, shot: Shot, instruction: str | None) -> _Before:
        """What stands before a question, with one more example."""
        before, history = self._before, np.asarray(shot.history, dtype=np.int32)
        shown, texts = self._texts(history[len(history) - self.num_shown(len(history)) :], instruction, shot.candidate)
        own = texts[self._num_system :]
        roles = [message.role for message in (self.prompt.messages or ())[self._num_system :]]
        answered = ("assistant", as_value(shot.answer.strip()))
        return _Before(
            np.concatenate([before.items, shown]),
            before.num_slots + sum(text.count(ITEM_SLOT) for text in own) // 2,
            [*before.turns, *zip(roles, own, strict=True), answered] if self.prompt.kind == "chat" else [],
            f"{before.paragraphs}{own[0]}{as_value(shot.answer)}\n\n" if self.prompt.kind == "plain" else "",
        )

    def _chat(self, turns: list[tuple[str, str]]) -> str:
        """The messages, (role, marked text), through the tokenizer's chat template, with the answer's turn opened.

        Templates of some vision-language models (LLaVA, SmolVLM) want a message as a list of parts, and write nothing of a text.
        """
        contents = [content for _, content in turns]
        marked = self._through_template(turns)
        if not _holds(marked, contents):
            marked = self._through_template([(role, [{"type": "text", "text": content}]) for role, content in turns])
        if _holds(marked, contents):
            return marked
        raise ModelError(
            f"the model's chat template leaves out what the messages of prompt '{self.prompt.task}/{self.prompt.name}' say, with the "
            f"roles {[message.role for message in self.prompt.messages]}. Choose another prompt, such as next_item/instruction."
        )

    def _through_template(self, turns: Sequence[tuple[str, str | list[dict[str, str]]]]) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except (jinja2.TemplateError, ValueError) as error:
            if self.tokenizer.chat_template is None:
                raise ModelError(
                    f"prompt '{self.prompt.task}/{self.prompt.name}' is a chat, but this model's tokenizer has no chat "
                    "template. Choose a plain prompt, such as next_item/instruction."
                ) from error
            raise ModelError(
                f"the model's chat template refuses prompt '{self.prompt.task}/{self.prompt.name}' with the roles "
                f"{[message.role for message in self.prompt.messages]}: {error}. Choose another prompt."
            ) from error

    def _read_field(self, item: int, field: str) -> str:
        """A text on one line, at most MAX_FIELD_CHARACTERS long; an empty title falls back to the item_id."""
        text = one_line(self._catalog.text(item, field))
        if not text and field == "title":
            text = self._catalog.item_id(item)
        return text[:MAX_FIELD_CHARACTERS]


@dataclass(frozen=True, eq=False)
class _Before:
    """The solved examples before a question: their items int32 (S,), how many slots those take, and their marked texts."""

    items: np.ndarray
    num_slots: int = 0
    turns: Sequence[tuple[str, str]] = ()
    paragraphs: str = ""


def start_ids(tokenizer: Tokenizer, *, always: bool) -> list[int]:
    """The token a prompt starts with: the tokenizer's BOS if it puts one before a text by itself, else none.

    always: a start token even so, because a bare prompt with an empty history would have nothing else to predict from:
    BOS, else EOS, else the first token of the chat template. Raises ModelError where there is none of the three.
    """
    bos = tokenizer.bos_token_id
    if not always:
        return [bos] if bos is not None and tokenizer("a").input_ids[0] == bos else []
    if bos is not None:
        return [bos]
    if tokenizer.eos_token_id is not None:
        return [tokenizer.eos_token_id]
    if tokenizer.chat_template is not None:
        turn = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
        return tokenizer(turn, add_special_tokens=False).input_ids[:1]
    raise ModelError(
        "a bare prompt starts with the tokenizer's BOS, its EOS or the start of a chat, but this tokenizer has none of them. "
        "Choose another prompt."
    )


def _check_field(prompt: Prompt, catalog: Catalog, field: str) -> None:
    """Raises ConfigError for a field the catalog lacks, and warns of texts that prompts will cut."""
    if field not in catalog.fields:
        raise ConfigError(
            f"prompt '{prompt.task}/{prompt.name}' uses {{{{ item.{field} }}}} but the catalog has no such column "
            f"(it has: {', '.join(catalog.fields)}). Add the column or choose another prompt."
        )
    num_long = catalog.num_longer(field, MAX_FIELD_CHARACTERS)
    if num_long:
        warnings.warn(
            f"{num_long} of {catalog.num_items} items have a {field} longer than {MAX_FIELD_CHARACTERS} characters; "
            "prompts show the beginning.",
            stacklevel=3,
        )


def _holds(marked: str, contents: Sequence[str]) -> bool:
    return all(content.strip() in marked for content in contents)
