"""Writes a backbone with its item tokens as a plain checkpoint that transformers loads with no code of ours.

Letters: V vocabulary, R item embeddings, S vector tokens, D width.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from llmrec.backbones.causal_lm import IMAGES, Backbone
from llmrec.backbones.decoder_layers import decoder_layers, layer_adapters
from llmrec.backbones.prefix import find_prefix
from llmrec.errors import ModelError
from llmrec.files import atomic_folder, write_json

ITEMS = "items.parquet"
CARD = "llmrec_export.json"  # in a folder that llmrec keeps: what it was exported from
_VECTORS_AT_ONCE = 65_536


def export(
    backbone: Backbone,
    row_strings: list[str],
    folder: str | Path,
    *,
    items: pa.Table | None = None,
    card: dict[str, str] | None = None,
) -> Path:
    """LoRA merged, item embeddings after the vocabulary's in both matrices, item tokens in the tokenizer; equal logits.

    The embedding and the head are untied in the exported checkpoint, because an item's output embedding is its input embedding times a
    trained scale. Token id V + r is the r-th of `row_strings` in the exported tokenizer too, and V + R + s is vector token s (of soft
    tokens or a soft prompt), whose vector is computed once and written; see `plain_model`. items: written next to it as items.parquet.
    card: written as llmrec_export.json, the file by which an older export is known that may be replaced.

    Raises:
        ModelError: the backbone was loaded in 4 bits (merging there would round; load it in float32 or bfloat16), or has parts that a
            plain checkpoint cannot hold.
        LlmrecError: the folder cannot be written.
    """
    model = plain_model(backbone)
    tokenizer = plain_tokenizer(backbone, row_strings)
    with atomic_folder(folder, known_by=None if card is None else CARD) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        if items is not None:
            pq.write_table(items, temporary / ITEMS)
        if card is not None:
            write_json(temporary / CARD, card)
    return Path(folder)


@torch.no_grad()
def plain_model(backbone: Backbone) -> nn.Module:
    """A copy of the causal language model with LoRA merged and V + R + S rows in its embedding and head.

    The first V + R logits are ours. A vector token is read and never written, but a head has a row for each id: its logit is 0, and
    `generation_config.suppress_tokens` keeps `generate` from it. Who takes a softmax over all logits leaves the last S out.
    """
    _check_plain(backbone)
    model = (
        copy.deepcopy(backbone.peft).merge_and_unload()
        if backbone.peft is not None
        else copy.deepcopy(backbone.causal_lm)
    )
    read, answered = _rows(backbone)  # (R + S, D), (R, D)
    if not len(read):
        return model.eval()
    size, num_rows = backbone.base_vocab_size + len(read), len(answered)
    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    base_head = head.weight.detach().clone()
    inputs.weight = nn.Parameter(torch.cat([inputs.weight, read.to(inputs.weight)]))
    inputs.num_embeddings = size
    new_head = nn.Linear(backbone.dim, size, bias=head.bias is not None, dtype=base_head.dtype, device=base_head.device)
    new_head.weight.zero_()[: len(base_head) + num_rows].copy_(torch.cat([base_head, answered.to(base_head)]))
    if head.bias is not None:
        new_head.bias.zero_()[: len(base_head)].copy_(head.bias)
    model.set_output_embeddings(new_head)
    text = model.config.get_text_config(decoder=True)  # of a vision-language model, a part of the configuration
    text.vocab_size = size
    model.config.tie_word_embeddings = text.tie_word_embeddings = False
    if len(read) > num_rows:
        model.generation_config.suppress_tokens = list(range(backbone.num_tokens, size))
    return model.eval()


def drop_layers(backbone: Backbone) -> None:
    """Frees the layers of a backbone whose export answers in its stead. Embeddings, item table and vector tokens stay."""
    for layer in decoder_layers(backbone):
        layer.to_empty(device="meta")


def plain_tokenizer(backbone: Backbone, row_strings: list[str]) -> Any:
    """The backbone's tokenizer with the item tokens at ids V, V + 1, ... and, after them, vector tokens as <NAME_0>, <NAME_1>, ...

    Some vocabularies are smaller than their embedding matrix; tokens of no use fill the gap, so that ids and rows agree.
    """
    tokenizer = copy.deepcopy(backbone.tokenizer)
    gap = backbone.base_vocab_size - len(tokenizer)
    tokenizer.add_tokens([f"<unused_row_{index}>" for index in range(gap)])
    made = [(name, source) for name, source in backbone.vector_tokens.sources.items() if name != IMAGES]
    vectors = [f"<{name}_{index}>" for name, source in made for index in range(source.num_tokens)]
    added = [*row_strings, *vectors]
    tokenizer.add_tokens(added)
    first = backbone.base_vocab_size
    if tokenizer.convert_tokens_to_ids(added) != list(range(first, first + len(added))):
        taken = [token for token in added if token in backbone.tokenizer.get_vocab()]
        raise ModelError(
            f"the item and vector tokens should get the ids from {first} on, but the backbone's tokenizer knows {len(taken)} of them "
            f'already (such as {taken[:1]}). Export a run of another backbone, or serve this one with engine="torch".'
        )
    return tokenizer


def _check_plain(backbone: Backbone) -> None:
    """Refuses what a plain checkpoint cannot hold."""
    if backbone.quantize is not None:
        raise ModelError(
            f"a backbone in {backbone.quantize} cannot be exported without rounding; load the run unquantized first."
        )
    if layer_adapters(backbone) or find_prefix(backbone) is not None:
        raise ModelError(
            "layer adapters and a prefix cannot be part of a plain checkpoint, which would lose them: they act inside the layers. "
            'Serve this run with engine="torch", or export one of LoRA, item embeddings, soft tokens and a soft prompt.'
        )
    sources = set(backbone.vector_tokens.sources)
    if IMAGES in sources and len(sources) > 1:
        raise ModelError(
            "images next to soft tokens or a soft prompt are not exported: a plain vision-language checkpoint reads pixels by itself, "
            'so ids after the images\' would be others there. Serve this run with engine="torch", or export one without either.'
        )


def _rows(backbone: Backbone) -> tuple[torch.Tensor, torch.Tensor]:
    """What is read after the vocabulary, (R + S, D), and the head's rows of what is answered, (R, D); without dropout."""
    was_training = backbone.training
    backbone.eval()
    table, vectors = backbone.item_table, backbone.vector_tokens
    nothing = torch.zeros(0, backbone.dim, device=backbone.device)
    read, answered = (nothing, nothing) if table is None else (table.weight, table.output_weight())
    if vectors.num_tokens and IMAGES not in vectors:  # a vision-language checkpoint reads pixels by itself
        indices = torch.arange(vectors.num_tokens, device=backbone.device)
        made = torch.cat([vectors.rows(part) for part in indices.split(_VECTORS_AT_ONCE)])
        # they are what the first layer reads; what an embedding gives is scaled on the way there
        read = torch.cat([read, made / backbone.embedding_scale])
    backbone.train(was_training)
    return read, answered
