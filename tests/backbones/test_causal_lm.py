"""Backbones: item tokens next to the vocabulary of every decoder shape, LoRA, export."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrec.backbones.adapters import add_lora, lora_parameters, trainable_parts
from llmrec.backbones.export import export, plain_model
from llmrec.nn.item_table import ItemTable
from tests.tiny import FAMILIES, random_item_tokens, tiny_backbone


def with_items(family: str, num_items: int = 11):
    backbone = tiny_backbone(family)
    tokens = random_item_tokens(num_items, levels=3, codebook_size=4, base_vocab_size=backbone.base_vocab_size)
    backbone.add_item_table(ItemTable(tokens.row_levels, backbone.dim, norm=backbone.embedding_norm))
    return backbone, tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_exported_model_gives_equal_logits(family, tmp_path):
    backbone, tokens = with_items(family)
    add_lora(backbone, rank=4, alpha=8, dropout=0.0)
    for parameter in lora_parameters(backbone):
        torch.nn.init.normal_(parameter, std=0.05)  # B starts at zero: make the merge do something
    backbone.eval()
    ids = torch.tensor([[3, 7, backbone.base_vocab_size, *tokens[2], 5, *tokens[4]]])
    ours = backbone.logits(backbone.hidden_states(ids)[0])
    export(backbone, tokens.row_strings, tmp_path / "plain")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain").eval()
    theirs = plain(ids).logits[0]
    assert ours.shape == theirs.shape == (ids.shape[1], backbone.num_tokens)
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_and_item_rows_train_and_the_base_stays(family):
    backbone, tokens = with_items(family)
    add_lora(backbone, rank=2, alpha=4, dropout=0.0)
    before = {name: p.detach().clone() for name, p in backbone.named_parameters()}
    parts = trainable_parts(backbone, adapter_lr=1e-2, embedding_lr=1e-2, weight_decay=0.0)
    optimizer = torch.optim.SGD([p for part in parts for p in part.parameters], lr=0.5)
    backbone.train()
    ids = torch.tensor([[1, *tokens[2], *tokens[4], *tokens[6]]])
    labels = ids.clone()
    labels[0, 0] = -100
    for _ in range(2):  # LoRA's A moves only once B has left zero
        loss, count = backbone.next_token_loss(
            {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}, scope="level"
        )
        assert count == 9
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = {name for name, p in backbone.named_parameters() if not torch.equal(p, before[name])}
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert moved == trained
    assert all("lora_" in name or name.startswith("item_table") for name in trained)
    assert sum(part.num_parameters for part in parts) == sum(
        p.numel() for p in backbone.parameters() if p.requires_grad
    )


def test_level_loss_is_the_mean_over_each_levels_own_rows():
    backbone, tokens = with_items("llama")
    hidden = torch.randn(3, backbone.dim)
    targets = torch.as_tensor(tokens[5].astype(np.int64))  # one token of each level
    logits = backbone.item_logits(hidden)  # (3, R)
    by_hand = 0.0
    for position, target in enumerate((targets - backbone.base_vocab_size).tolist()):
        same_level = backbone.item_table.levels == backbone.item_table.levels[target]
        by_hand -= float(logits[position, target] - logits[position, same_level].logsumexp(0))
    assert float(backbone.loss(hidden, targets, scope="level")) == pytest.approx(by_hand, abs=1e-5)


def test_full_loss_equals_cross_entropy_of_the_plain_model():
    backbone, tokens = with_items("qwen3")
    backbone.eval()
    ids = torch.tensor([[1, *tokens[2], *tokens[4]]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    loss, count = backbone.next_token_loss(batch, scope="vocabulary")
    plain = plain_model(backbone)(input_ids=ids, labels=ids).loss
    assert float(loss / count) == pytest.approx(float(plain), abs=1e-4)


def test_item_rows_start_as_near_each_other_as_their_features():
    features = np.random.default_rng(0).normal(size=(11, 5)).astype(np.float32)
    features[3] = features[2]
    table = ItemTable(np.zeros(11, dtype=np.int64), 16, norm=2.0)
    table.initialise(features, norm=2.0)
    assert torch.equal(table.weight[3], table.weight[2])
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    torch.testing.assert_close(
        table.weight.detach() @ table.weight.detach().T, torch.tensor(unit @ unit.T) * 4, atol=1e-4, rtol=0
    )
