"""A tokenizer without transformers: what prompts need of one, over the `tokenizers` package that transformers itself uses.

`own_tokenizer` is as strict as `decoder_files`: it reads a tokenizer.json where transformers would use it as it stands, and every
setting next to it is known here. The ids are transformers' own (tested).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer

from llmrec.errors import LlmrecError
from llmrec.files import read_json

TOKENIZER, SETTINGS, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Classes with which transformers takes tokenizer.json as it stands, by the model's type. (Qwen 2 always, Qwen 3 often has the class
# below, which makes all but the vocabulary anew.)
_AS_IT_STANDS = ("PreTrainedTokenizerFast", "TokenizersBackend")
_QWEN = "Qwen2Tokenizer"
_CLASSES = {"llama": _AS_IT_STANDS, "mistral": _AS_IT_STANDS, "qwen2": (_QWEN,), "qwen3": (*_AS_IT_STANDS, _QWEN)}
# Settings that change nothing of what is asked here. With a tokenizer.json, transformers drops add_bos_token and add_eos_token.
_IDLE = frozenset({
    "add_bos_token", "add_eos_token", "backend", "clean_up_tokenization_spaces", "errors", "is_local", "legacy", "local_files_only",
    "model_input_names", "model_max_length", "name_or_path", "padding_side", "spaces_between_special_tokens", "truncation_side",
    "use_default_system_prompt",
})  # fmt: skip
_READ = frozenset({
    *_NAMED, "tokenizer_class", "chat_template", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens",
    "add_prefix_space", "split_special_tokens",
})  # fmt: skip
# Files that transformers would read as well.
_OTHER_FILES = ("additional_chat_templates", "chat_template.json", "tekken.json")
_OLD_FILES = ("special_tokens_map.json", "added_tokens.json")  # read where the settings name no added tokens
_MISTRAL_MENDED = 100_000  # words from which on transformers may replace a Mistral tokenizer's regular expression


class OwnTokenizer:
    """The part of transformers' tokenizers that prompts and item texts use, by the same names."""

    def __init__(self, backend: Tokenizer, special_tokens_map: Mapping[str, str], chat_template: str | None) -> None:
        """special_tokens_map: "eos_token" -> its spelling, and so on; each is a token of the backend."""
        backend.no_truncation()
        backend.no_padding()
        self._backend, self.special_tokens_map, self.chat_template = backend, dict(special_tokens_map), chat_template

    def __call__(
        self, text: str | Sequence[str], *, add_special_tokens: bool = True, split_special_tokens: bool = False
    ) -> SimpleNamespace:
        """input_ids of a text, list[int], or of several, list[list[int]]."""
        self._backend.encode_special_tokens = split_special_tokens
        texts = [text] if isinstance(text, str) else list(text)
        ids = [row.ids for row in self._backend.encode_batch(texts, add_special_tokens=add_special_tokens)]
        return SimpleNamespace(input_ids=ids[0] if isinstance(text, str) else ids)

    def __len__(self) -> int:
        """Words and added tokens."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Id -> added token."""
        return self._backend.get_added_tokens_decoder()

    def get_added_vocab(self) -> dict[str, int]:
        """Spelling -> id of the added tokens, in the order of the ids."""
        return {token.content: number for number, token in sorted(self.added_tokens_decoder.items())}

    def get_vocab(self) -> dict[str, int]:
        """Token -> id, added ones included."""
        return self._backend.get_vocab(with_added_tokens=True)

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """None for what is no token."""
        return self._backend.token_to_id(token)

    def decode(self, ids: Sequence[int]) -> str:
        """Added tokens are spelt."""
        return self._backend.decode(list(ids), skip_special_tokens=False)

    @property
    def bos_token_id(self) -> int | None:
        """Of the first token of a text."""
        return self._id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """Of the last token of a text."""
        return self._id("eos_token")

    def _id(self, name: str) -> int | None:
        spelling = self.special_tokens_map.get(name)
        return None if spelling is None else self._backend.token_to_id(spelling)

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], *, tokenize: bool, add_generation_prompt: bool = False
    ) -> str:
        """The messages as the model's template writes them. Raises ValueError where there is none, jinja2.TemplateError from within."""
        assert not tokenize, "text with marks is tokenised by the prompt encoder"
        if self.chat_template is None:
            raise ValueError("this tokenizer has no chat template")
        template = _environment().from_string(self.chat_template)
        return template.render(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self.special_tokens_map,
        )


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    """What chat templates are written for: transformers' environment."""

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, **settings: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, **settings})

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def own_tokenizer(folder: Path, model_type: str) -> OwnTokenizer | None:
    """The tokenizer in a model's folder; None where transformers has to read it."""
    if any((folder / name).exists() for name in _OTHER_FILES):
        return None
    try:
        said = read_json(folder / SETTINGS)
        backend = Tokenizer.from_file(str(folder / TOKENIZER))
    except LlmrecError:
        return None
    except Exception:  # the package raises nothing narrower; transformers' way says what is wrong
        return None
    kind = said.get("tokenizer_class")
    is_plain = kind in _CLASSES[model_type] and said.keys() <= _IDLE | _READ and type(backend.model).__name__ == "BPE"
    is_plain = is_plain and not said.get("add_prefix_space") and not said.get("split_special_tokens")
    if not is_plain or (kind == _QWEN and not _is_as_qwen_makes_it(backend, said)):
        return None
    if model_type == "mistral" and backend.get_vocab_size() > _MISTRAL_MENDED:
        return None
    template, special = _template(folder, said), _special_tokens(folder, backend, said)
    if template is None or special is None:
        return None
    return OwnTokenizer(backend, special, template or None)


def _template(folder: Path, said: Mapping[str, Any]) -> str | None:
    """The chat template, empty where there is none; None for several, or one of tags that only transformers knows."""
    path = folder / TEMPLATE
    template = path.read_text(encoding="utf-8") if path.is_file() else said.get("chat_template") or ""
    return template if isinstance(template, str) and "generation %}" not in template else None


def _special_tokens(folder: Path, backend: Tokenizer, said: Mapping[str, Any]) -> dict[str, str] | None:
    """ "eos_token" and so on -> spelling, the padding token being the end token where it is missing; None where transformers would
    add or change a token."""
    added = backend.get_added_tokens_decoder()
    described = said.get("added_tokens_decoder")
    if described is None and any((folder / name).exists() for name in _OLD_FILES):
        return None
    facts = {str(number): _facts(token.__getstate__()) for number, token in added.items()}
    if described is not None and (
        not isinstance(described, dict) or {number: _facts(token) for number, token in described.items()} != facts
    ):
        return None
    special = {name: _spelling(said[name]) for name in _NAMED if said.get(name) is not None}
    if "eos_token" in special:
        special.setdefault("pad_token", special["eos_token"])
    more = said.get("extra_special_tokens") or said.get("additional_special_tokens") or []
    known = [token.content for token in added.values() if token.special]
    is_known = isinstance(more, list) and all(each in known for each in (*special.values(), *map(_spelling, more)))
    return special if is_known else None


def _spelling(token: Any) -> str | None:
    """Of a special token, which stands there as a text or as its description."""
    return token.get("content") if isinstance(token, dict) else token


_FACTS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")


def _facts(token: Any) -> tuple[Any, ...] | None:
    return tuple(token.get(name) for name in _FACTS) if isinstance(token, dict) else None


_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _is_as_qwen_makes_it(backend: Tokenizer, said: Mapping[str, Any]) -> bool:
    """Whether everything in tokenizer.json besides its vocabulary is what `Qwen2Tokenizer` would put in its place."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    splitting = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_QWEN_WORDS), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    made = (normalizers.NFC(), splitting, decoders.ByteLevel())
    found = (backend.normalizer, backend.pre_tokenizer, backend.decoder)
    model = backend.model
    is_bare = not (model.dropout or model.unk_token or model.continuing_subword_prefix or model.end_of_word_suffix)
    is_bare = is_bare and not (model.fuse_unk or model.byte_fallback or model.ignore_merges)
    named = {"eos_token", "pad_token", "unk_token"} <= said.keys()  # left out, it would be the class's own
    return (
        is_bare
        and named
        and all(
            there is not None and there.__getstate__() == each.__getstate__()
            for there, each in zip(found, made, strict=True)
        )
    )
