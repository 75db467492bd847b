"""Soft tokens, soft answers and soft prompts as ordinary rows of a plain checkpoint."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from llmrec.backbones.adapters import add_lora, lora_parameters
from llmrec.backbones.causal_lm import IMAGES, Backbone
from llmrec.backbones.export import export, plain_model
from llmrec.backbones.prefix import add_prefix
from llmrec.errors import ModelError
from llmrec.items.forms import soft_sequences, unique_id_tokens
from llmrec.nn.adapters.semantic import SemanticAdapter
from llmrec.nn.adapters.soft_prompt import SoftPrompt
from llmrec.nn.soft_tokens import SoftItemTable, SoftTokens
from tests.tiny import FAMILIES, tiny_backbone

N, Q, P = 7, 2, 3  # items, soft tokens an item, tokens of the soft prompt


def soft_backbone(family: str, *, answers: bool = True) -> Backbone:
    """Items as soft tokens, after a soft prompt, answered by inner product; with LoRA that does something."""
    backbone = tiny_backbone(family)
    features = {"text": torch.randn(N, 5, generator=torch.Generator().manual_seed(0))}
    adapter = SemanticAdapter(
        {"text": 5}, backbone.dim, num_query_tokens=Q, hidden_dim=8, norm=backbone.embedding_norm, dropout=0.5
    )
    soft = SoftTokens(adapter, features, {"text": torch.arange(N) != 3})
    backbone.add_vectors("soft", soft)
    if answers:
        table = SoftItemTable(soft, norm=backbone.embedding_norm)
        torch.nn.init.normal_(table.projection.weight, std=0.3)
        backbone.add_item_table(table)
    backbone.add_vectors("soft_prompt", SoftPrompt(P, backbone.dim, norm=backbone.embedding_norm, dropout=0.5))
    add_lora(backbone, rank=4, alpha=8, dropout=0.0)
    for parameter in lora_parameters(backbone):
        torch.nn.init.normal_(parameter, std=0.05)
    return backbone


def prompt(backbone: Backbone) -> torch.Tensor:
    """Soft prompt, words, three items as soft tokens: int64 (1, T)."""
    start = backbone.first_vector_id("soft_prompt")
    prompt_sequences = soft_sequences(N, Q, backbone.first_vector_id("soft"))
    return torch.tensor(
        [[*range(start, start + P), 5, 9, *prompt_sequences[4], 7, *prompt_sequences[3], *prompt_sequences[0]]]
    )


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_checkpoint_reads_soft_tokens_by_their_ids_and_answers_as_we_do(family, answers, tmp_path):
    backbone = soft_backbone(family, answers=answers).train()  # rows are written as they serve, without dropout
    tokens = unique_id_tokens(N, backbone.base_vocab_size)
    export(backbone, tokens.row_strings if answers else [], tmp_path / "plain")
    assert backbone.training
    backbone.eval()
    ids = prompt(backbone)
    if answers:
        ids = torch.cat([ids, torch.tensor([[backbone.base_vocab_size + 6]])], dim=1)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain").eval()
    with torch.no_grad():
        ours, theirs = backbone.logits(backbone.hidden_states(ids)[0]), plain(ids).logits[0]
    assert theirs.shape[1] == backbone.num_tokens + N * Q + P
    torch.testing.assert_close(ours, theirs[:, : backbone.num_tokens], atol=2e-4, rtol=1e-4)
    assert (theirs[:, backbone.num_tokens :] == 0).all()


def test_the_exported_tokenizer_spells_the_ids_of_vectors(tmp_path):
    backbone = soft_backbone("llama")
    export(backbone, unique_id_tokens(N, backbone.base_vocab_size).row_strings, tmp_path / "plain")
    tokenizer, start = AutoTokenizer.from_pretrained(tmp_path / "plain"), backbone.num_tokens
    assert tokenizer.convert_tokens_to_ids(["<soft_0>", "<soft_13>", "<soft_prompt_2>"]) == [
        start,
        start + 13,
        start + 16,
    ]
    assert len(tokenizer) == start + N * Q + P


def test_a_vocabulary_that_has_a_vectors_name_already_is_refused_and_nothing_is_written(tmp_path):
    backbone = soft_backbone("llama")
    backbone.tokenizer = copy.deepcopy(backbone.tokenizer)
    backbone.tokenizer.add_tokens(["<soft_5>"])
    with pytest.raises(
        ModelError, match=r"the backbone's tokenizer knows 1 of them already \(such as \['<soft_5>'\]\)"
    ):
        export(backbone, unique_id_tokens(N, backbone.base_vocab_size).row_strings, tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_generation_never_writes_a_vector(tmp_path):
    backbone = soft_backbone("llama").eval()
    export(backbone, unique_id_tokens(N, backbone.base_vocab_size).row_strings, tmp_path / "plain")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    plain.lm_head.weight.data.zero_()  # every id is as likely as any other
    ids = prompt(backbone).expand(20, -1)
    sampled = {"do_sample": True, "top_k": 0, "max_new_tokens": 20, "attention_mask": torch.ones_like(ids)}
    torch.manual_seed(0)
    assert plain.generate(ids, **sampled)[:, ids.shape[1] :].max() < backbone.num_tokens
    plain.generation_config = GenerationConfig()  # without what the checkpoint says
    assert plain.generate(ids, **sampled)[:, ids.shape[1] :].max() >= backbone.num_tokens


def test_what_acts_inside_the_layers_is_refused():
    backbone = soft_backbone("llama")
    add_prefix(backbone, num_tokens=2)
    with pytest.raises(ModelError, match="act inside the layers"):
        plain_model(backbone)


def test_images_with_soft_tokens_are_refused():
    backbone = soft_backbone("llama")
    backbone.add_vectors(IMAGES, SoftPrompt(2, backbone.dim, norm=1.0))  # any source under that name
    with pytest.raises(ModelError, match="reads pixels by itself"):
        plain_model(backbone)
