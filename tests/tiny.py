"""Tiny random models and item tokens for tests in which only shapes matter."""

import copy
import functools

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from llmrec.backbones.causal_lm import Backbone, LayerCount
from llmrec.backbones.load import ModelSource
from llmrec.items.forms import ItemTokens, semantic_id_tokens
from llmrec.items.semantic_ids import SemanticIDs

VOCAB = 300  # a little more rows than the tokenizer has tokens, as in many real checkpoints
_SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": LlamaConfig(**_SHAPE),
    "qwen2": Qwen2Config(**_SHAPE),
    "qwen3": Qwen3Config(**_SHAPE, tie_word_embeddings=True),
    "mistral": MistralConfig(**_SHAPE, sliding_window=8),
    "gemma2": Gemma2Config(**_SHAPE, sliding_window=8, final_logit_softcapping=5.0),
    "gemma3": Gemma3TextConfig(**_SHAPE, sliding_window=8),
    "gpt2": GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2
    ),
}


@functools.cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and pad 0, bos 1, eos 2."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<bos>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


def tiny_backbone(family: str, seed: int = 0, *, head_dim: int = 8) -> Backbone:
    """A random two-layer model of the family with weights large enough to have opinions. head_dim: of models that have the setting."""
    torch.manual_seed(seed)
    config = copy.deepcopy(FAMILIES[family])
    config.head_dim = head_dim
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.generation_config.eos_token_id = None
    source = ModelSource(f"tiny-{family}", "folder", "", "random")
    return Backbone(model, tiny_tokenizer(), source=source, layers=LayerCount(2, 2))


def random_item_tokens(
    num_items: int, *, levels: int, codebook_size: int, base_vocab_size: int, seed: int = 0
) -> ItemTokens:
    """Distinct random codes."""
    rng = np.random.default_rng(seed)
    flat = rng.choice(codebook_size**levels, size=num_items, replace=False)
    codes = np.stack([(flat // codebook_size**level) % codebook_size for level in range(levels)], axis=1)
    return semantic_id_tokens(SemanticIDs(codes.astype(np.int32), (codebook_size,) * levels), base_vocab_size)
