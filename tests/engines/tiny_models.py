"""Tiny random language models of many architectures, with and without an item table, and the plain way to score answers."""

import numpy as np
import torch
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto import AutoModelForCausalLM

from llmrec.backbones.causal_lm import Backbone, LayerCount
from llmrec.backbones.load import ModelSource
from llmrec.items.forms import ItemTokens, semantic_id_tokens
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.nn.item_table import ItemTable

WINDOW = 8  # tokens; prompts in these tests are longer where it matters
BASE = 30  # words of the vocabulary
LAYERS = 3

_SHAPE = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "initializer_range": 0.25}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2, "intermediate_size": 48}
_GEMMA = {**_GROUPED, "head_dim": 8, "sliding_window": WINDOW}

CONFIGS = {
    "llama": (LlamaConfig, _GROUPED),
    "qwen2": (Qwen2Config, _GROUPED),
    "qwen2_with_a_window": (
        Qwen2Config,
        {**_GROUPED, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3Config, {**_GROUPED, "head_dim": 8}),
    "gemma2": (Gemma2Config, _GEMMA),
    "gemma3": (
        Gemma3TextConfig,
        {**_GEMMA, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "mistral": (MistralConfig, {**_GROUPED, "sliding_window": WINDOW}),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "initializer_range": 0.25}),
    "gpt_neox": (GPTNeoXConfig, {**_SHAPE, "intermediate_size": 48}),
}


def plain_model(name: str, vocab_size: int = BASE, attention: str = "sdpa", **changes) -> torch.nn.Module:
    """A random model of the architecture `name`, in eval mode, the same one every time."""
    make, arguments = CONFIGS[name]
    torch.manual_seed(0)
    config = make(vocab_size=vocab_size, max_position_embeddings=64, **{**arguments, **changes})
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def as_backbone(model: torch.nn.Module, item_tokens: ItemTokens | None = None) -> Backbone:
    """The model as a Backbone, with a random item table for the rows of `item_tokens`."""
    backbone = Backbone(model, None, source=ModelSource("tiny", "folder", "", ""), layers=LayerCount(LAYERS, LAYERS))
    if item_tokens is not None:
        backbone.add_item_table(ItemTable(item_tokens.row_levels, backbone.dim, norm=4.0))
    return backbone.eval()


def code_items(num_items: int, sizes: tuple[int, ...] = (4, 5, 6), base: int = BASE, seed: int = 0) -> ItemTokens:
    """Items with random unique codes."""
    picked = np.random.default_rng(seed).choice(int(np.prod(sizes)), num_items, replace=False)
    codes = np.stack(np.unravel_index(picked, sizes), axis=1)
    return semantic_id_tokens(SemanticIDs(codes, sizes), base)


def word_items(rows: list[list[int]], end: int = 1, base: int = BASE) -> ItemTokens:
    """Answers of any length made of vocabulary words, each closed by `end`."""
    lengths = np.array([len(row) + 1 for row in rows], dtype=np.int32)
    sequences = np.full((len(rows), lengths.max()), -1, dtype=np.int32)
    for item, row in enumerate(rows):
        sequences[item, : len(row) + 1] = [*row, end]
    return ItemTokens(sequences, lengths, "text", base, [], np.zeros(0, dtype=np.int32), end_token=end)


def random_words(num_items: int, seed: int = 0) -> ItemTokens:
    """Different answers of one to four words."""
    rng = np.random.default_rng(seed)
    rows = {tuple(rng.integers(2, 7, rng.integers(1, 5)).tolist()) for _ in range(4 * num_items)}
    return word_items([list(row) for row in sorted(rows)[:: max(1, len(rows) // num_items)][:num_items]])


def prompts_of(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    """Random prompts of vocabulary words."""
    rng = np.random.default_rng(seed)
    return [rng.integers(2, BASE, length) for length in lengths]


@torch.no_grad()
def brute_force(
    backbone: Backbone, item_tokens: ItemTokens, prompt: np.ndarray, scope: str = "vocabulary"
) -> np.ndarray:
    """Log-likelihood of every item, one plain forward an item without cache or mask: float64 (N,)."""
    scores = []
    for item in range(item_tokens.num_items):
        answer = torch.from_numpy(item_tokens[item].astype(np.int64))
        ids = torch.cat([torch.from_numpy(prompt), answer])[None]
        hidden = backbone.hidden_states(ids)[0, len(prompt) - 1 : -1]  # (L, D)
        if scope == "trie":
            scores.append(_trie_score(backbone, item_tokens, item, hidden))
            continue
        if scope == "vocabulary":
            log_probs = backbone.logits(hidden).log_softmax(-1)
            scores.append(float(log_probs.gather(1, answer[:, None]).double().sum()))
            continue
        total = 0.0
        for level, token in enumerate(answer.tolist()):
            rows = np.flatnonzero(item_tokens.row_levels == level)
            logits = backbone.item_logits(hidden[level : level + 1])[0, rows]
            total += float(logits.log_softmax(-1)[rows.tolist().index(token - backbone.base_vocab_size)])
        scores.append(total)
    return np.array(scores)


def _trie_score(backbone: Backbone, item_tokens: ItemTokens, item: int, hidden: torch.Tensor) -> float:
    """Each token's softmax over the tokens that any item with the same beginning has there."""
    logits, answer, total = backbone.logits(hidden), item_tokens[item], 0.0
    for place, token in enumerate(answer.tolist()):
        same = (item_tokens.sequences[:, :place] == answer[:place]).all(axis=1)
        over = np.unique(item_tokens.sequences[same, place])
        total += float(logits[place, token] - logits[place, over].logsumexp(0))
    return total


def generate(
    model, item_tokens: ItemTokens, prompt: np.ndarray, num_beams: int, allowed=None, *, renormalize: bool = False
) -> list[tuple[int, float]]:
    """What transformers' own beam search under a prefix function returns: (item, score), best first."""
    item_of = {tuple(item_tokens[item].tolist()): item for item in range(item_tokens.num_items)}
    followers: dict[tuple, set[int]] = {}
    for answer, item in item_of.items():
        if allowed is None or allowed[item]:
            for cut in range(len(answer)):
                followers.setdefault(answer[:cut], set()).add(answer[cut])
    settings = GenerationConfig(
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=item_tokens.max_length,
        do_sample=False,
        length_penalty=0.0,
        early_stopping=False,
        renormalize_logits=renormalize,
        eos_token_id=item_tokens.end_token,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    ids = torch.from_numpy(prompt)[None]
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=settings,
        prefix_allowed_tokens_fn=lambda _, row: sorted(followers.get(tuple(row[len(prompt) :].tolist()), {0})),
    )
    found = []
    for row, score in zip(out.sequences[:, len(prompt) :].tolist(), out.sequences_scores.tolist(), strict=True):
        end = row.index(item_tokens.end_token) + 1 if item_tokens.end_token in row else len(row)
        if tuple(row[:end]) in item_of and score > -1e8:
            found.append((item_of[tuple(row[:end])], score))
    return found
