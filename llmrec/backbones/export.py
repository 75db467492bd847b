"""Writes a backbone with its item tokens as a plain checkpoint that transformers loads with no code of ours."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmrec.backbones.causal_lm import PICTURES, Backbone
from llmrec.backbones.decoder_layers import layer_adapters
from llmrec.backbones.prefix import find_prefix
from llmrec.errors import ModelError
from llmrec.files import atomic_folder


def export(backbone: Backbone, row_strings: list[str], folder: str | Path) -> Path:
    """LoRA merged, item rows placed after the vocabulary's in both matrices, item tokens in the tokenizer; equal logits.

    The embedding and the head are untied in the exported checkpoint, because an item's output row is its input row times a trained
    scale. Token id V + r is the r-th of `row_strings` in the exported tokenizer too.

    Raises:
        ModelError: the backbone was loaded in 4 bits (merging there would round; load it in float32 or bfloat16), or has parts that a
            plain checkpoint cannot hold.
        LlmrecError: the folder cannot be written.
    """
    model = plain_model(backbone)
    tokenizer = plain_tokenizer(backbone, row_strings)
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return Path(folder)


@torch.no_grad()
def plain_model(backbone: Backbone) -> nn.Module:
    """A copy of the causal language model with LoRA merged and V + R rows in its embedding and head."""
    if backbone.quantize is not None:
        raise ModelError(
            f"a backbone in {backbone.quantize} cannot be exported without rounding; load the run unquantized first."
        )
    made = set(backbone.vector_tokens.sources) - {PICTURES}  # a vision-language checkpoint reads pixels by itself
    if layer_adapters(backbone) or find_prefix(backbone) is not None or made:
        raise ModelError(
            "layer adapters, a prefix, soft tokens and a soft prompt have no place in a plain checkpoint, which would lose them; "
            "serve this run with llmrec, or export one of LoRA and item rows."
        )
    model = (
        copy.deepcopy(backbone.peft).merge_and_unload()
        if backbone.peft is not None
        else copy.deepcopy(backbone.causal_lm)
    )
    table = backbone.item_table
    if table is None:
        return model
    size, dim = backbone.num_tokens, backbone.dim
    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    base_head = head.weight.detach().clone()
    inputs.weight = nn.Parameter(torch.cat([inputs.weight, table.weight.to(inputs.weight)]))
    inputs.num_embeddings = size
    new_head = nn.Linear(dim, size, bias=head.bias is not None, dtype=base_head.dtype, device=base_head.device)
    new_head.weight.copy_(torch.cat([base_head, table.output_weight().to(base_head)]))
    if head.bias is not None:
        new_head.bias.copy_(torch.cat([head.bias, head.bias.new_zeros(table.num_rows)]))
    model.set_output_embeddings(new_head)
    text = model.config.get_text_config(decoder=True)  # of a vision-language model, a part of the configuration
    text.vocab_size = size
    model.config.tie_word_embeddings = text.tie_word_embeddings = False
    return model.eval()


def plain_tokenizer(backbone: Backbone, row_strings: list[str]) -> Any:
    """The backbone's tokenizer with the item tokens at ids V, V + 1, ...

    Some vocabularies are smaller than their embedding matrix; tokens of no use fill the gap, so that ids and rows agree.
    """
    tokenizer = copy.deepcopy(backbone.tokenizer)
    gap = backbone.base_vocab_size - len(tokenizer)
    tokenizer.add_tokens([f"<unused_row_{index}>" for index in range(gap)])
    tokenizer.add_tokens(row_strings)
    if row_strings:
        first = tokenizer.convert_tokens_to_ids(row_strings[0])
        assert first == backbone.base_vocab_size, f"item tokens start at {first}, expected {backbone.base_vocab_size}"
    return tokenizer
