"""A language model as recommenders use it: the model, how it writes items, how it is asked, what it remembers of prompts."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.backbones.serving import pack
from llmrec.data.catalog import Catalog
from llmrec.engines.engine import Engine
from llmrec.engines.torch.engine import TorchEngine
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.torch.prompt_tree import can_take_prompts_apart
from llmrec.items.forms import ItemTokens
from llmrec.prompting.encoder import PromptEncoder
from llmrec.recommenders.requests import Requests


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """What a recommender made of a language model consists of: the model, how it writes items, how it is asked."""

    backbone: Backbone
    item_tokens: ItemTokens
    encoder: PromptEncoder
    catalog: Catalog
    softmax_scope: SoftmaxScope
    prompt_forms: tuple[str, ...] = ()  # item forms in the prompt; none: the form of the answers
    adaptation: str | None = (
        None  # how the backbone was trained, "LoRA" for example; None: not said, as before a run is saved
    )
    prompt_cache: PromptCache | None = None  # what returning users' prompts begin with, for a model that serves
    served_by: Engine | None = None  # an engine that has a copy of the model; None: the backbone answers itself

    @functools.cached_property
    def engine(self) -> Engine:
        """What reads prompts and scores answers."""
        return TorchEngine(self.backbone, self.prompt_cache) if self.served_by is None else self.served_by

    @property
    def card(self) -> dict:
        """Facts for reports and manifests."""
        return {
            "backbone": self.backbone.source.card(),
            "layers": str(self.backbone.layers),
            **self.engine.card,
            **({} if self.adaptation is None else {"adaptation": self.adaptation}),
            "form": self.item_tokens.form,
            "prompt_forms": list(self.prompt_forms or (self.item_tokens.form,)),
            "softmax_scope": self.softmax_scope,
            "prompt": f"{self.encoder.prompt.task}/{self.encoder.prompt.name}",
            "prompt_hash": self.encoder.prompt.hash,
            "max_history": self.encoder.max_history,
            "history_step": self.encoder.history_step,
        }

    def prompts(self, requests: Requests) -> list[np.ndarray]:
        """Token ids of each request's prompt: int32 (T_u,)."""
        instructions = requests.instructions or [None] * len(requests)
        return [
            self.encoder.encode(requests.histories[row], instruction)
            for row, instruction in zip(range(len(requests)), instructions, strict=True)
        ]


def ready_to_serve(model: LanguageModel, *, prompt_cache_bytes: int) -> LanguageModel:
    """The model for inference alone: its weights packed on a CPU (it cannot be trained or saved afterwards), and with
    a memory of the prompts it has read. prompt_cache_bytes: 0 for none; models whose layers cannot take prompts apart
    (recurrent ones) have none either."""
    # the scope `trie` compares single words and a click prompt two: the rows of the output layer are enough
    reads_head = model.softmax_scope == "vocabulary" and model.encoder.prompt.answers is None
    pack(model.backbone, head=reads_head)
    if prompt_cache_bytes == 0 or not can_take_prompts_apart(model.backbone):
        return model
    return replace(model, prompt_cache=PromptCache(prompt_cache_bytes))
