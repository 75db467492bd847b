"""Trained parts: exactly what the list names moves, and what was trained comes back from its files."""

import copy
import json

import numpy as np
import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from torch import nn

from llmrec.artifacts.part_files import load_adapters, save_adapters
from llmrec.backbones.adapters import add_lora, lora_parameters, train_full_model, trainable_parts, without_adapters
from llmrec.backbones.causal_lm import Backbone, LayerCount
from llmrec.backbones.decoder_layers import add_layer_adapters, decoder_layers, layer_adapters, layer_parts
from llmrec.backbones.export import plain_model
from llmrec.backbones.packed_attention import PackedLayout
from llmrec.backbones.prefix import add_prefix, find_prefix
from llmrec.backbones.serving import pack
from llmrec.backbones.trained_parts import PartSettings, check_names, train_parts
from llmrec.engines.torch.prompt_cache import empty_cache
from llmrec.engines.torch.prompt_tree import PromptTree
from llmrec.errors import ArtifactError, ConfigError, ModelError
from llmrec.nn.adapters.semantic import SemanticAdapter
from llmrec.nn.adapters.soft_prompt import SoftPrompt
from llmrec.nn.item_table import ItemTable
from llmrec.nn.soft_tokens import SoftTokens
from tests.tiny import FAMILIES, tiny_backbone

SETTINGS = PartSettings.model_validate(
    {"lora": {"rank": 2, "alpha": 4, "dropout": 0}, "layer_adapter": {"hidden_dim": 4}, "prefix": {"num_tokens": 3},
     "num_last_layers": 1}
)  # fmt: skip
IDS = torch.tensor([[5, 9, 300, 41, 7, 302, 11, 12]])  # 300 and 302: item tokens
ADDED = ("lora", "layer_adapter", "prefix")


def with_table(family: str = "llama") -> Backbone:
    backbone = tiny_backbone(family)
    backbone.add_item_table(ItemTable(np.zeros(4, np.int64), backbone.dim, norm=backbone.embedding_norm))
    return backbone


def two_steps(backbone: Backbone) -> set[str]:
    """Names of the parameters that two optimiser steps changed."""
    before = {name: p.detach().clone() for name, p in backbone.named_parameters()}
    parts = trainable_parts(backbone, adapter_lr=0.1, embedding_lr=0.1, weight_decay=0.0)
    listed = [p for part in parts for p in part.parameters]
    assert {id(p) for p in listed} == {id(p) for p in backbone.parameters() if p.requires_grad}
    assert len(listed) == len({id(p) for p in listed})
    optimizer = torch.optim.SGD(listed, lr=0.1)
    backbone.train()
    for _ in range(2):  # what starts after zeros moves in the second
        loss, _ = backbone.next_token_loss(
            {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "labels": IDS}, scope="vocabulary"
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name for name, p in backbone.named_parameters() if not torch.equal(p, before[name])}


def shaken(backbone: Backbone) -> Backbone:
    """Every trained parameter gets a little noise, as training would give it."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return backbone.eval()


IS_PART = {
    "lora": lambda name: "lora_" in name,
    "layer_adapter": lambda name: ".layer_adapter." in name,
    "prefix": lambda name: ".prefix." in name,
    "item_table": lambda name: name.startswith("item_table."),
    "last_layers": lambda name: ".layers.1." in name or ".h.1." in name,
}


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2"])
@pytest.mark.parametrize("names", [*((name,) for name in IS_PART), ("lora", "layer_adapter", "prefix", "item_table")])
def test_two_steps_move_exactly_the_parts_that_are_named(family, names):
    backbone = with_table(family)
    train_parts(backbone, names, SETTINGS)
    moved = two_steps(backbone)
    trained = {name for name, p in backbone.named_parameters() if any(IS_PART[part](name) for part in names)}
    # a softmax over keys does not see what is added to all of them
    still = {name for name in trained - moved if name.endswith(("k_proj.bias", "k_norm.weight"))}
    assert moved | still == trained and moved


def test_dora_moves_lengths_with_directions():
    backbone = with_table()
    settings = SETTINGS.model_copy(update={"lora": SETTINGS.lora.model_copy(update={"dora": True})})
    before = backbone.hidden_states(IDS)
    train_parts(backbone, ["lora"], settings)
    torch.testing.assert_close(backbone.hidden_states(IDS), before, atol=1e-5, rtol=1e-5)
    moved = two_steps(backbone)
    assert moved == {name for name, _ in backbone.named_parameters() if "lora_" in name}
    assert any("lora_magnitude_vector" in name for name in moved)


@pytest.mark.parametrize(
    "names", [("soft_prompt",), ("semantic_adapter",), ("lora", "soft_prompt", "semantic_adapter")]
)
def test_modules_with_the_model_move_if_they_are_named_and_only_then(names):
    backbone = with_table()
    dims = {"text": 6, "image": 5}
    adapter = SemanticAdapter(dims, backbone.dim, num_query_tokens=2, hidden_dim=8, norm=backbone.embedding_norm)
    features = {name: torch.randn(2, width) for name, width in dims.items()}
    present = {name: torch.tensor([True, False]) for name in dims}
    backbone.add_vectors("soft", SoftTokens(adapter, features, present))
    backbone.add_vectors("soft_prompt", SoftPrompt(3, backbone.dim, norm=backbone.embedding_norm))
    train_parts(backbone, names, SETTINGS)
    vectors = backbone.num_tokens + torch.arange(backbone.vector_tokens.num_tokens)
    ids = torch.cat([vectors[None], IDS], dim=1)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.masked_fill(ids >= 304, -100)}
    before = {name: p.detach().clone() for name, p in backbone.named_parameters()}
    parts = trainable_parts(backbone, adapter_lr=0.1, embedding_lr=0.2, weight_decay=0.01)
    rates = {part.name: (part.learning_rate, part.weight_decay) for part in parts}
    expected = {
        "lora": {"LoRA": (0.1, 0.01)},
        "soft_prompt": {"soft prompt": (0.2, 0.01)},
        "semantic_adapter": {"semantic adapter": (0.1, 0.01), "semantic adapter's scale": (0.1, 0.0)},
    }
    assert rates == {part: rate for name in names for part, rate in expected[name].items()}
    optimizer = torch.optim.SGD([p for part in parts for p in part.parameters], lr=0.1)
    backbone.train()
    for _ in range(2):
        loss, _ = backbone.next_token_loss(batch, scope="vocabulary")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = {name for name, p in backbone.named_parameters() if not torch.equal(p, before[name])}
    named = {"lora": "lora_", "soft_prompt": ".soft_prompt.", "semantic_adapter": ".adapter."}
    trained = {name for name, _ in backbone.named_parameters() if any(named[part] in name for part in names)}
    assert moved <= trained
    # attention does not see what is added to all of its keys
    assert all(name.endswith(".key.bias") for name in trained - moved)


def test_whole_moves_every_layer_and_not_the_vocabulary():
    backbone = with_table()
    train_parts(backbone, ["full", "item_table"], SETTINGS)
    moved = two_steps(backbone)
    assert {"embed_tokens" in name or "lm_head" in name for name in moved} == {False}
    assert moved == {n for n, p in backbone.named_parameters() if "embed_tokens" not in n and "lm_head" not in n}


def test_last_layers_in_bfloat16_are_trained_in_float32():
    backbone = tiny_backbone("llama")
    half = Backbone(
        backbone.causal_lm.to(torch.bfloat16), backbone.tokenizer, source=backbone.source, layers=LayerCount(2, 2)
    )
    train_parts(half, ["last_layers", "layer_adapter", "prefix"], SETTINGS)
    trained = [p for p in half.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.dtype for p in half.parameters() if not p.requires_grad} == {torch.bfloat16}
    hidden = half.hidden_states(IDS.clamp_max(200))
    assert torch.isfinite(hidden).all()
    hidden.float().square().sum().backward()
    assert all(p.grad is not None for p in trained)


@pytest.mark.parametrize("family", FAMILIES)
def test_added_parts_change_nothing_at_the_start_but_for_the_prefix_which_reads_as_its_text(family):
    backbone = with_table(family).eval()
    text = torch.tensor(backbone.tokenizer("abcab")["input_ids"])[None]
    plain, behind_text = backbone.hidden_states(IDS), backbone.hidden_states(torch.cat([text, IDS], dim=1))[:, 5:]
    add_layer_adapters(backbone, hidden_dim=4)
    add_lora(backbone, rank=2, alpha=4, dropout=0.0)
    assert torch.equal(backbone.hidden_states(IDS), plain)
    add_prefix(backbone, num_tokens=5, text="abc")
    torch.testing.assert_close(backbone.hidden_states(IDS), behind_text, atol=1e-5, rtol=1e-5)
    positions = torch.arange(IDS.shape[1])[None]
    torch.testing.assert_close(backbone.hidden_states(IDS, position_ids=positions), behind_text, atol=1e-5, rtol=1e-5)
    padded, mask = torch.cat([IDS, IDS * 0], dim=1), torch.cat([torch.ones_like(IDS), IDS * 0], dim=1)
    hidden = backbone.hidden_states(padded, attention_mask=mask)[:, : IDS.shape[1]]
    torch.testing.assert_close(hidden, behind_text, atol=1e-5, rtol=1e-5)
    with without_adapters(backbone):
        torch.testing.assert_close(backbone.hidden_states(IDS), plain)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_the_prefix_is_what_pefts_own_prefix_tuning_computes(family):
    backbone = tiny_backbone(family).eval()
    ids = IDS.clamp_max(200)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    if family != "gpt2":  # PEFT takes query heads for key-value heads where it is not told
        config.num_attention_heads, config.token_dim = 2, 16
    theirs = get_peft_model(copy.deepcopy(backbone.causal_lm), config).eval()
    add_prefix(backbone, num_tokens=3, seed=1)
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(find_prefix(backbone).weight)
        expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        torch.testing.assert_close(backbone.logits(backbone.hidden_states(ids)[0]), expected, atol=1e-5, rtol=1e-5)


def test_a_prefix_is_kept_out_of_caches_packs_and_checkpointed_layers_in_words():
    backbone = with_table().eval()
    add_prefix(backbone, num_tokens=2)
    with pytest.raises(ModelError, match="this one is empty"):
        backbone.hidden_states(IDS, past_key_values=empty_cache(backbone))
    positions = torch.arange(IDS.shape[1])[None]
    with pytest.raises(ModelError, match=r"training\.packing=none"):
        layout = PackedLayout(torch.full_like(IDS, IDS.shape[1]), positions)
        backbone.hidden_states(IDS, position_ids=positions, packed_layout=layout)
    backbone.train()
    backbone.causal_lm.gradient_checkpointing_enable()
    with pytest.raises(ModelError, match="gradient checkpointing"):
        backbone.hidden_states(IDS)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt2"])
@pytest.mark.parametrize(
    "names", [("lora",), ("layer_adapter",), ("prefix",), ("last_layers",), (*ADDED, "last_layers")]
)
def test_what_was_trained_comes_back_from_its_files(family, names, tmp_path):
    backbone = with_table(family)
    train_parts(backbone, names, SETTINGS)
    before = backbone.eval().hidden_states(IDS)
    expected = shaken(backbone).hidden_states(IDS)
    assert not torch.allclose(before, expected, atol=1e-2)
    saved = save_adapters(backbone, tmp_path)
    assert set(saved) == set(names)
    again = with_table(family).eval()
    again.item_table = backbone.item_table
    load_adapters(again, tmp_path, saved)
    torch.testing.assert_close(again.eval().hidden_states(IDS), expected, atol=1e-6, rtol=1e-6)


def test_adapters_of_one_location_only_come_back_there(tmp_path):
    backbone = with_table()
    add_layer_adapters(backbone, hidden_dim=3, after=["mlp"])
    saved = save_adapters(backbone, tmp_path)
    assert saved == {"layer_adapter": {"hidden_dim": 3, "after": ["mlp"]}}
    again = with_table()
    load_adapters(again, tmp_path, saved)
    assert len(layer_adapters(again)) == len(decoder_layers(again))
    deeper = {"layer_adapter": {"hidden_dim": 5, "after": ["mlp"]}}
    with pytest.raises(ArtifactError, match="does not hold the trained parts"):
        load_adapters(with_table(), tmp_path, deeper)


def test_lora_leaves_the_adapters_alone_whichever_comes_first():
    first, second = with_table(), with_table()
    add_lora(first, rank=2, alpha=4, dropout=0.0)
    add_layer_adapters(first, hidden_dim=4)
    add_layer_adapters(second, hidden_dim=4)
    add_lora(second, rank=2, alpha=4, dropout=0.0)
    assert len(lora_parameters(first)) == len(lora_parameters(second))
    assert not any("layer_adapter" in n and "lora_" in n for n, _ in second.named_parameters())


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_trees_and_packed_weights_read_as_training_did(family):
    backbone = with_table(family)
    train_parts(backbone, ["lora", "layer_adapter", "last_layers"], SETTINGS)
    expected = shaken(backbone).hidden_states(IDS)[:, -1].detach()
    with torch.no_grad():
        tree = PromptTree(backbone, [IDS[0].numpy()], 1)
        torch.testing.assert_close(tree.last_hidden, expected, atol=1e-4, rtol=1e-4)
        packed = pack(backbone.requires_grad_(False))
        torch.testing.assert_close(packed.hidden_states(IDS)[:, -1], expected, atol=1e-4, rtol=1e-4)


def test_a_copy_of_a_model_has_adapters_and_a_prefix_of_its_own():
    backbone = with_table()
    train_parts(backbone, ["layer_adapter", "prefix"], SETTINGS)
    twin = copy.deepcopy(backbone)
    before = backbone.eval().hidden_states(IDS)
    shaken(twin)
    assert torch.equal(backbone.hidden_states(IDS), before)
    assert not torch.allclose(twin.hidden_states(IDS), before, atol=1e-2)


def test_a_list_that_names_nothing_trainable_is_answered_with_the_nearest_name():
    with pytest.raises(
        ConfigError, match=r"'layer_adapters', which is no part of a model\. Did you mean 'layer_adapter'"
    ):
        check_names(["lora", "layer_adapters"])
    with pytest.raises(ConfigError, match="each once"):
        check_names(["lora", "lora"])
    with pytest.raises(ConfigError, match="at least one"):
        check_names([])
    with pytest.raises(ConfigError, match="full, which is full fine-tuning, and lora as well"):
        check_names(["full", "lora"])
    with pytest.raises(ConfigError, match=r"semantic_adapter, but .* it has: item_table"):
        train_parts(with_table(), ["semantic_adapter"], SETTINGS)


def test_parts_that_a_model_cannot_have_are_refused_in_words():
    with pytest.raises(ModelError, match="between 1 and 2 last layers"):
        train_parts(with_table(), ["last_layers"], SETTINGS.model_copy(update={"num_last_layers": 3}))
    backbone = with_table()
    train_parts(backbone, ["prefix", "layer_adapter"], SETTINGS)
    with pytest.raises(ModelError, match="has no tokens"):
        add_prefix(with_table(), num_tokens=2, text="")
    with pytest.raises(ModelError, match="a prefix already"):
        train_parts(backbone, ["prefix"], SETTINGS)
    with pytest.raises(ModelError, match="layer adapters already"):
        train_parts(backbone, ["layer_adapter"], SETTINGS)
    with pytest.raises(ModelError, match="one attention and one MLP, found Linear, Linear, Linear"):
        layer_parts(nn.Sequential(*(nn.Linear(2, 2) for _ in range(3))))


def test_a_model_trained_whole_is_one_part():
    backbone = tiny_backbone("llama")
    train_full_model(backbone)
    parts = trainable_parts(backbone, adapter_lr=0.1, embedding_lr=0.2, weight_decay=0.01)
    assert [part.name for part in parts] == ["language model"]


def test_what_a_plain_checkpoint_would_lose_is_not_exported():
    backbone = with_table().eval()
    add_layer_adapters(backbone, hidden_dim=2)
    with pytest.raises(ModelError, match="cannot be part of a plain checkpoint"):
        plain_model(backbone)


def test_what_is_said_of_an_adapter_has_one_order(tmp_path):
    backbone = tiny_backbone("llama")
    add_lora(backbone, rank=2, alpha=2, dropout=0.0)
    save_adapters(backbone, tmp_path)
    said = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert len(said["target_modules"]) == 14
    assert said["target_modules"] == sorted(said["target_modules"]), "not that of a set, which differs from run to run"
