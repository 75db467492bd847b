"""Which models can be grown, and what a grown position sees."""

import numpy as np
import pytest
import torch
from transformers import BloomConfig, MambaConfig, Qwen3NextConfig
from transformers.models.auto import AutoModelForCausalLM

from llmrec.engines.torch.prompt_tree import PromptTree
from llmrec.errors import ModelError
from tests.engines.tiny_models import BASE, CONFIGS, WINDOW, as_backbone, plain_model, prompts_of


def build(config, **arguments):
    """A tiny random model that no test decodes with."""
    torch.manual_seed(0)
    return as_backbone(AutoModelForCausalLM.from_config(config, **arguments))


@pytest.mark.parametrize("name", CONFIGS)
def test_two_branches_of_one_prompt_equal_two_plain_sequences(name):
    backbone = as_backbone(plain_model(name))
    prompts = prompts_of(2 * WINDOW + 1, 4)
    branches = torch.tensor([[5, 6, 7], [8, 9, 10]])
    with torch.no_grad():
        tree = PromptTree(backbone, prompts, 4)
        ancestors = torch.zeros(2, 2, 0, dtype=torch.bool)
        for depth in range(3):  # the two branches side by side, a token each a step
            ancestors = torch.cat([ancestors, torch.eye(2, dtype=torch.bool).expand(2, -1, -1)], dim=2)
            tokens = branches[:, depth].expand(2, -1)
            hidden = tree.grow(tokens, torch.full((2, 2), depth), ancestors)  # (B, 2, D)
        for row, prompt in enumerate(prompts):
            for branch in range(2):
                plain = backbone.hidden_states(torch.cat([torch.from_numpy(prompt), branches[branch]])[None])
                torch.testing.assert_close(hidden[row, branch], plain[0, -1], atol=1e-4, rtol=1e-4)


def test_pruned_prompts_answer_as_if_nothing_had_grown():
    backbone = as_backbone(plain_model("gemma3"))
    (prompt,) = prompts_of(WINDOW + 3)
    alone = torch.ones(1, 1, 1, dtype=torch.bool)
    with torch.no_grad():
        tree = PromptTree(backbone, [prompt], 2)
        first = tree.grow(torch.tensor([[5]]), torch.tensor([[0]]), alone)
        tree.prune()
        tree.grow(torch.tensor([[9]]), torch.tensor([[0]]), alone)
        tree.prune()
        assert tree.grow(torch.tensor([[5]]), torch.tensor([[0]]), alone).equal(first)


def test_recurrent_and_hybrid_models_are_refused_in_one_sentence():
    mamba = MambaConfig(vocab_size=BASE, hidden_size=16, num_hidden_layers=1, state_size=4)
    hybrid = Qwen3NextConfig(
        vocab_size=BASE, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        intermediate_size=16, linear_num_value_heads=2, linear_num_key_heads=2, linear_key_head_dim=8,
        linear_value_head_dim=8, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
    )  # fmt: skip
    for config in (mamba, hybrid):
        with pytest.raises(ModelError, match="recurrent or otherwise special layers") as error:
            PromptTree(build(config), [np.array([3])], 1)
        assert "\n" not in str(error.value)


def test_models_that_count_positions_themselves_are_refused():
    bloom = BloomConfig(vocab_size=BASE, hidden_size=16, n_layer=1, n_head=2)
    with pytest.raises(ModelError, match="takes position_ids"):
        PromptTree(build(bloom), [np.array([3])], 1)


def test_attention_without_masks_and_training_mode_are_refused():
    backbone = as_backbone(plain_model("llama"))
    backbone.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ModelError, match="attn_implementation='sdpa'"):
        PromptTree(backbone, prompts_of(4), 1)
    with pytest.raises(ModelError, match="training mode"):
        PromptTree(as_backbone(plain_model("llama")).train(), prompts_of(4), 1)
