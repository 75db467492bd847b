"""Texts of a language model, whoever runs it, without what it thought on the way: what explanations and chat are written with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmrec.errors import ConfigError, RequestError
from llmrec.files import content_hash
from llmrec.text_models.protocol import Chat, Completion, PlainText, ProviderError, Request, TextModel
from llmrec.text_models.reasoning import SpokenPieces, spoken

THINKING_TOKENS = 1024  # more, once, where an answer's tokens were used up by thoughts


@dataclass(frozen=True)
class Generated:
    """What the model wrote after one prompt, without the prompt and without what its answer was given to begin with.

    num_prompt_tokens: what the answer begins with included; num_new_tokens: the end token included; finished: whether the model ended
    the text itself (else it was cut at max_new_tokens, perhaps while it was thinking). Thoughts of a reasoning model are no text.
    """

    text: str
    num_prompt_tokens: int
    num_new_tokens: int
    finished: bool


def generate_texts(
    model: TextModel,
    prompts: Sequence[Chat | PlainText],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
) -> list[Generated]:
    """What the model writes after each prompt, in their order; in float32 the same whatever stands next to a prompt in the batch.

    Args:
        prompts: contents are words, whatever they spell.
        max_new_tokens: tokens of an answer at most; where thoughts used them up, the answer is asked for once more with more of them.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn from the whole softmax of logits / temperature.
        seed: of those draws, which depend on it and on the prompt alone.
        on_text: is given the text of a single prompt's answer piece by piece as it is written (see `TextModel.complete`).

    Raises:
        RequestError: a prompt and its answer are longer than the model reads.
        ModelError: messages came, and the tokenizer has no chat template or refuses their roles; or a plain text for a server.
        ProviderError: the server gives no usable answer.
    """
    if max_new_tokens < 1 or temperature < 0:
        raise ConfigError(
            f"max_new_tokens should be 1 or more and temperature 0 or more; they are {max_new_tokens} and {temperature}."
        )
    assert on_text is None or len(prompts) == 1, f"one text at a time can be shown as it is written, not {len(prompts)}"
    lengths, limit = model.count_tokens(prompts), model.max_tokens
    for length in lengths:
        if limit is not None and length + max_new_tokens > limit:
            raise RequestError(
                f"a prompt of {length} tokens and an answer of {max_new_tokens} are more than the {limit} tokens "
                f"that '{model.identity['name']}' reads. Shorten the prompt, or choose another model."
            )
    seeds = [_seed_of(prompt, seed) if temperature > 0 else 0 for prompt in prompts]
    requests = [
        Request(prompt, max_new_tokens, temperature, seed=own) for prompt, own in zip(prompts, seeds, strict=True)
    ]
    found = dict(enumerate(_generate(model, requests, on_text)))
    more = {}
    for row, written in found.items():
        room = max_new_tokens + THINKING_TOKENS
        room = room if limit is None else min(room, limit - lengths[row])
        if not (written.finished or written.text.strip()) and room > max_new_tokens:
            more[row] = Request(prompts[row], room, temperature, seed=seeds[row])
    found |= zip(more, _generate(model, list(more.values()), on_text), strict=True)
    return [found[row] for row in range(len(prompts))]


def _generate(model: TextModel, requests: list[Request], on_text: Callable[[str], None] | None) -> list[Generated]:
    pieces = None if on_text is None else SpokenPieces(on_text)
    found: dict[int, Generated] = {}
    if not requests:
        return []
    for row, answer in model.complete(requests, None if pieces is None else pieces.add):
        if isinstance(answer, ProviderError):
            raise answer
        found[row] = _spoken(answer)
    if pieces is not None:
        pieces.add("", is_last=True)
    return [found[row] for row in range(len(requests))]


def _spoken(answer: Completion) -> Generated:
    return Generated(spoken(answer.text).text, answer.prompt_tokens, answer.new_tokens, answer.finish == "stop")


def _seed_of(prompt: Chat | PlainText, seed: int) -> int:
    """Of the prompt, not of its position: the same prompt under the same seed has the same text."""
    return int(content_hash(repr(prompt), str(seed)), 16) % 2**31
