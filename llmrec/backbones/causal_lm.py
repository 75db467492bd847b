"""A Hugging Face causal language model with item tokens: what training, decoding and export all call."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from llmrec.backbones.decoder import OwnCausalLM
from llmrec.backbones.fused_layer import FusedLayer
from llmrec.backbones.load import ModelSource
from llmrec.backbones.model_files import check_vocabulary
from llmrec.backbones.packed_attention import PackedLayout, packed
from llmrec.backbones.packed_linear import PackedLinear
from llmrec.errors import ModelError
from llmrec.items.forms import NO_TARGET
from llmrec.nn.image_tokens import ImageTokens
from llmrec.nn.item_table import ItemTable
from llmrec.nn.losses import token_loss
from llmrec.nn.soft_tokens import SoftItemTable
from llmrec.nn.splice import VectorTokens, splice

# The softmax that scores an answer token: `vocabulary` over the vocabulary and all item tokens (Hugging Face's own), `level` over
# the item tokens of the answer's level, `trie` over the tokens that continue an item of the catalogue.
SoftmaxScope = Literal["vocabulary", "level", "trie"]
IMAGES = "image"  # the vector tokens that are images' vision tokens: a `ImageTokens`


@dataclass(frozen=True)
class LayerCount:
    """How many of the checkpoint's layers are used: "4 of 30 layers"."""

    used: int
    of: int

    def __str__(self) -> str:
        return f"{self.used} of {self.of} layers"


class Backbone(nn.Module):
    """The language model, its tokenizer and, next to its frozen vocabulary of V tokens, R item embeddings and S vector tokens.

    Token ids below V are the vocabulary's, V + r is item embedding r, V + R + s is vector token s (inputs only: see
    llmrec.nn.splice). Letters: B batch, T tokens, D width, N positions.
    """

    def __init__(
        self,
        causal_lm: nn.Module,
        tokenizer: Any,
        *,
        source: ModelSource,
        layers: LayerCount,
        quantize: Literal["nf4"] | None = None,
        item_table: ItemTable | SoftItemTable | None = None,
    ):
        """causal_lm: a transformers model, a PEFT model around one, or an `OwnCausalLM`. It is frozen, adapters and all.

        tokenizer: the model's; None where no text is read.

        Raises ModelError for a PEFT model whose adapter is no part of the layers, or a tokenizer with more tokens than the model has.
        """
        super().__init__()
        self.peft: nn.Module | None = None
        if hasattr(causal_lm, "get_base_model"):
            self.peft, causal_lm = causal_lm, _injected(causal_lm)
        self.causal_lm = causal_lm  # PEFT injects its layers in place, so this name holds with and without it
        self.last_layer: FusedLayer | None = None  # while it serves (llmrec.backbones.serving), and is of a known make
        self.item_table = item_table
        self.vector_tokens = VectorTokens()
        self.tokenizer = tokenizer
        self.source = source
        self.layers = layers
        self.quantize = quantize
        self.requires_grad_(False)
        if item_table is not None:
            item_table.requires_grad_(True)
        embedding = causal_lm.get_input_embeddings()
        self.base_vocab_size: int = embedding.weight.shape[0]
        if tokenizer is not None:
            check_vocabulary(tokenizer, self.base_vocab_size, source.name)
        self.dim: int = embedding.weight.shape[1]
        self.embedding_norm = _mean_row_norm(embedding)
        self.embedding_scale = _embedding_scale(embedding)
        if not isinstance(causal_lm, OwnCausalLM):
            self.check_head()

    @property
    def body(self) -> nn.Module:
        """The transformer below the head; of a vision-language model, its language tower."""
        model = self.causal_lm.base_model
        return model if self.config.get_text_config(decoder=True) is self.config else model.get_decoder()

    @property
    def config(self) -> Any:
        """The language model's own configuration."""
        return self.causal_lm.config

    @property
    def device(self) -> torch.device:
        """Where the embedding matrix lies."""
        return self.causal_lm.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the frozen part (float32 or bfloat16)."""
        return self.causal_lm.get_input_embeddings().weight.dtype

    @property
    def num_tokens(self) -> int:
        """V + R: the tokens that have logits."""
        return self.base_vocab_size + (self.item_table.num_rows if self.item_table is not None else 0)

    def add_item_table(self, item_table: ItemTable | SoftItemTable) -> None:
        """Put `item_table` next to the vocabulary; its embeddings are trained."""
        self.item_table = item_table.to(self.device)

    def add_vectors(self, name: str, source: nn.Module) -> None:
        """Puts the vector tokens of a `VectorSource` after all others; their ids hold once the item table is there too."""
        self.vector_tokens.add(name, source.to(self.device))

    def first_vector_id(self, name: str) -> int:
        """The id of the first vector token of a source: V + R + where the source begins."""
        return self.num_tokens + self.vector_tokens.start(name)

    def vector_ids(self, name: str) -> range:
        """The ids of a source's vector tokens."""
        first = self.first_vector_id(name)
        return range(first, first + self.vector_tokens[name].num_tokens)

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """input_ids int64 (B, T), each in [0, V + R + S) -> (B, T, D) in the model's dtype."""
        embedding = self.causal_lm.get_input_embeddings()
        if self.item_table is None and not self.vector_tokens.num_tokens:
            return embedding(input_ids)
        embeddings = embedding(input_ids.masked_fill(input_ids >= self.base_vocab_size, 0))
        is_item = (input_ids >= self.base_vocab_size) & (input_ids < self.num_tokens)
        if bool(is_item.any()):
            rows = self.item_table.input_rows((input_ids - self.base_vocab_size).masked_fill(~is_item, 0))
            rows = (rows * self.embedding_scale).to(embeddings.dtype)
            embeddings = torch.where(is_item.unsqueeze(-1), rows, embeddings)
        return self._with_vectors(embeddings, input_ids) if self.vector_tokens.num_tokens else embeddings

    def _with_vectors(self, embeddings: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        """The embeddings with the vectors of vector tokens at their positions."""
        is_vector = input_ids >= self.num_tokens
        indices = input_ids[is_vector] - self.num_tokens
        if len(indices):
            embeddings = splice(embeddings, is_vector, self.vector_tokens.rows(indices))
        if self.training:  # whatever is trained takes part in every step, or processes would wait for its gradient
            unread = self.vector_tokens.unread(indices)
            if len(unread):
                embeddings = embeddings + 0 * self.vector_tokens.rows(unread).sum().to(embeddings.dtype)
        return embeddings

    def hidden_states(
        self,
        input_ids: torch.Tensor | None = None,
        *,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | dict[str, torch.Tensor] | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any | None = None,
        packed_layout: PackedLayout | None = None,
        read_at: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states after the final norm, (B, T, D); a cache given is appended to in place.

        Args:
            input_ids: int64 (B, T), or inputs_embeds (B, T, D) instead.
            attention_mask: int64 (B, T), or what the model takes as prepared 4-D masks.
            position_ids: int64 (B, T), by default 0, 1, ...; images among input_ids change them from there (`position_moves`).
            packed_layout: who sees whom where the one row is many examples, packed; then no attention_mask.
            read_at: int64 (B,), the one token of each row whose state is asked for: then (B, 1, D).
        """
        assert packed_layout is None or read_at is None, "a packed sequence has many prompts, and so many last tokens"
        if inputs_embeds is None:
            assert input_ids is not None, "hidden_states needs input_ids or inputs_embeds"
            inputs_embeds = self.embed(input_ids)
        arguments: dict[str, Any] = {"position_ids": position_ids}
        if input_ids is not None and IMAGES in self.vector_tokens:
            arguments = self._image_arguments(input_ids, position_ids, packed_layout)
        special = nullcontext()
        if packed_layout is not None:
            special = packed(self.config.get_text_config(decoder=True))
            arguments["packed_layout"] = packed_layout
        elif read_at is not None and self.last_layer is not None:
            special = self.last_layer.reading_at(read_at)
        with special, torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            output = self.body(
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                use_cache=past_key_values is not None,
                **arguments,
            )
        hidden = output.last_hidden_state
        if read_at is not None and self.last_layer is None:
            hidden = hidden[torch.arange(len(hidden), device=hidden.device), read_at][:, None]
        return hidden

    def position_moves(self, input_ids: torch.Tensor) -> torch.Tensor:
        """How far images in a row move the positions of what stands after it: input_ids int64 (B, T) -> int64 (B,).

        Zero but for models whose positions have three axes, where an image takes fewer positions than tokens. Who reads rows in parts
        adds what the parts before have moved.
        """
        if IMAGES not in self.vector_tokens:
            return torch.zeros(len(input_ids), dtype=torch.int64, device=input_ids.device)
        return self.vector_tokens[IMAGES].moves(input_ids - self.first_vector_id(IMAGES))

    def _image_arguments(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor | None, layout: PackedLayout | None
    ) -> dict[str, Any]:
        """What the language tower is told of the images among the tokens: their positions, and vectors for its first layers."""
        images: ImageTokens = self.vector_tokens[IMAGES]
        indices = input_ids - self.first_vector_id(IMAGES)  # (B, T), which vision token each is
        arguments: dict[str, Any] = {"position_ids": position_ids}
        if images.has_grid:
            if position_ids is None:
                position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
            seen_until = layout.seen_until[None] if layout is not None else None
            arguments["position_ids"] = images.rotary_positions(indices, position_ids, seen_until)  # (3, B, T)
        if len(images.deep):
            is_image = images.is_image(indices)
            arguments["visual_pos_masks"] = is_image
            arguments["deepstack_visual_embeds"] = images.deep_rows(indices[is_image])
        return arguments

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (N, D) -> float32 (N, V + R): the vocabulary's logits, then the item tokens'."""
        words = self.word_logits(hidden)
        return words if self.item_table is None else torch.cat([words, self.item_logits(hidden)], dim=-1)

    def word_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (N, D) -> float32 (N, V): the vocabulary's logits alone."""
        return self._shape_logits(self.causal_lm.get_output_embeddings()(hidden.to(self.dtype)).float())

    def item_logits(self, hidden: torch.Tensor, rows: torch.Tensor | slice | None = None) -> torch.Tensor:
        """hidden (N, D) -> float32 (N, M): logits of the item embeddings named (all when None)."""
        assert self.item_table is not None, "this backbone has no item table"
        return self._shape_logits(self.item_table.logits(hidden, rows))

    def token_logits(self, hidden: torch.Tensor, tokens: torch.Tensor, *, exact: bool = False) -> torch.Tensor:
        """hidden (N, D) -> float32 (N, M): logits of the tokens named, int64 (M,), ascending.

        Only those are computed, except by a head whose rows cannot be read: with LoRA, in 4 bits, or packed and not tied.
        exact: multiplied in float32 where the rows can be read. In bfloat16 a logit of 16 has neighbours .125 away, too far apart where
        one number compares rows that were asked one by one.
        """
        head = self.causal_lm.get_output_embeddings()
        words = tokens[tokens < self.base_vocab_size]
        rows = tokens[len(words) :] - self.base_vocab_size
        logits = []
        weight = head.weight if type(head) is nn.Linear else head.rows if type(head) is PackedLinear else None
        if len(words) and weight is not None:
            bias = None if head.bias is None else head.bias[words]
            dtype = torch.float32 if exact else self.dtype
            rows_of_words = weight[words].to(dtype)
            bias = None if bias is None else bias.to(dtype)
            logits.append(self._shape_logits(torch.nn.functional.linear(hidden.to(dtype), rows_of_words, bias).float()))
        elif len(words):
            logits.append(self._shape_logits(head(hidden.to(self.dtype)).float())[:, words])
        if len(rows):
            logits.append(self.item_logits(hidden, rows))
        return torch.cat(logits, dim=1)

    def loss(
        self, hidden: torch.Tensor, targets: torch.Tensor, *, scope: SoftmaxScope, label_smoothing: float = 0.0
    ) -> torch.Tensor:
        """Summed negative log-likelihood of `targets` int64 (N,) in the softmax `scope`; hidden (N, D). float32 ().

        The scope `trie` needs the catalogue: see llmrec.engines.torch.trie_loss.
        """
        assert scope in ("vocabulary", "level"), scope
        if scope == "vocabulary":
            return token_loss(self.logits(hidden), targets, label_smoothing=label_smoothing)
        table = self.item_table
        assert table is not None, "scope 'level' needs an item table"
        rows = targets - self.base_vocab_size
        assert bool((rows >= 0).all()), "scope 'level' trains on item tokens only"
        total = hidden.new_zeros((), dtype=torch.float32)
        for start, stop in zip(table.starts, table.starts[1:], strict=False):
            at = (rows >= start) & (rows < stop)
            logits = self.item_logits(hidden[at], slice(start, stop))
            total = total + token_loss(logits, rows[at] - start, label_smoothing=label_smoothing)
        return total

    def labelled_states(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The hidden states (N, D) that a batch's N targets are predicted from, and the targets int64 (N,), in the batch's order.

        Args:
            batch: a padded one (input_ids, attention_mask, labels, each int64 (B, T); labels stand where their tokens stand, -100
                where there is no target), or a packed one as `PackingCollator` describes it.
        """
        if "seen_until" in batch:
            layout = PackedLayout(batch["seen_until"], batch["position_ids"])
            hidden = self.hidden_states(
                batch["input_ids"], position_ids=batch["position_ids"], packed_layout=layout
            )  # (1, T, D)
            return hidden[0, batch["predict_at"]], batch["labels"]
        hidden = self.hidden_states(batch["input_ids"], attention_mask=batch["attention_mask"])
        targets = batch["labels"][:, 1:]
        is_target = targets != NO_TARGET
        return hidden[:, :-1][is_target], targets[is_target]

    def next_token_loss(self, batch: dict[str, torch.Tensor], *, scope: SoftmaxScope) -> tuple[torch.Tensor, int]:
        """The summed loss over the targets of a batch as in `labelled_states`, and their number."""
        hidden, targets = self.labelled_states(batch)
        return self.loss(hidden, targets, scope=scope), len(targets)

    @torch.no_grad()
    def check_head(self) -> None:
        """Refuses a model whose logits are not its head's projection of the hidden state, shaped as we shape it."""
        ids = torch.arange(4, device=self.device).unsqueeze(0) % self.base_vocab_size
        was_training = self.training
        self.eval()
        ours = self.logits(self.hidden_states(ids)[0])[:, : self.base_vocab_size]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            theirs = self.causal_lm(input_ids=ids, use_cache=False).logits[0].float()
        self.train(was_training)
        tolerance = 1e-3 if self.dtype == torch.float32 else 5e-2
        if not torch.allclose(ours, theirs, atol=tolerance * float(theirs.abs().max().clamp_min(1.0)), rtol=0):
            raise ModelError(
                f"expected logits that are a projection of the last hidden state; {type(self.causal_lm).__name__} computes them in "
                "another way that llmrec does not know. Choose another backbone."
            )

    def _shape_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Gemma 2 caps its logits, Granite and Cohere scale them; the same is done to item tokens, as an exported head would."""
        config = self.config
        divisor = getattr(config, "logits_scaling", None)
        factor = getattr(config, "logit_scale", None)
        cap = getattr(config, "final_logit_softcapping", None)
        if divisor:
            logits = logits / divisor
        if factor:
            logits = logits * factor
        return cap * torch.tanh(logits / cap) if cap else logits


def _injected(peft_model: Any) -> nn.Module:
    """The transformers model in a PEFT model, with the adapter's layers in it."""
    kinds = [config.peft_type.value for config in peft_model.peft_config.values() if config.is_prompt_learning]
    if kinds:
        raise ModelError(
            f"expected a PEFT model whose adapter lies in the layers, such as LoRA, got {kinds[0]}, which adds tokens or "
            "states of its own; llmrec's soft prompts and prefixes are trained parts of a run (docs/training.md)."
        )
    return peft_model.get_base_model()


def _mean_row_norm(embedding: nn.Module) -> float:
    sample = embedding.weight[:: max(1, embedding.weight.shape[0] // 4096)]
    return float(sample.float().norm(dim=1).mean())


@torch.no_grad()
def _embedding_scale(embedding: nn.Module) -> float:
    """What the embedding layer multiplies its weight by (Gemma 3: sqrt(D); most: 1), read off one token."""
    row = int(embedding.weight[:1024].float().norm(dim=1).argmax())
    weight = embedding.weight[row].float()
    out = embedding(torch.tensor([row], device=weight.device))[0].float()
    scale = float(out @ weight) / float(weight @ weight)
    return 1.0 if abs(scale - 1.0) < 1e-3 else scale
