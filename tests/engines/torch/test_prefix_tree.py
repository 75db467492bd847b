"""Trees after a trained prefix compute what plain reading computes."""

import numpy as np
import pytest
import torch

from llmrec.backbones.prefix import add_prefix, find_prefix
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.torch.prompt_tree import PromptTree
from tests.tiny import FAMILIES, tiny_backbone


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_prompts_and_nodes_after_a_prefix_equal_whole_sequences_fresh_and_remembered(family):
    backbone = tiny_backbone(family).eval()
    add_prefix(backbone, num_tokens=5, text="abcde")
    weight = find_prefix(backbone).weight
    weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    rng = np.random.default_rng(0)
    start = rng.integers(3, 250, 18)
    prompts = [np.concatenate([start, rng.integers(3, 250, length)]) for length in (3, 7, 20)]
    nodes = torch.tensor([[7, 8], [9, 10], [11, 12]])
    cache = PromptCache(1 << 26)
    for memory in (None, cache, cache):
        tree = PromptTree(backbone, prompts, 3, memory)
        expected = torch.stack([backbone.hidden_states(torch.tensor(prompt)[None])[0, -1] for prompt in prompts])
        torch.testing.assert_close(tree.last_hidden, expected, atol=2e-4, rtol=1e-4)
        alone = torch.eye(2, dtype=torch.bool)[None].expand(3, -1, -1)
        grown = tree.grow(nodes, torch.zeros(3, 2, dtype=torch.int64), alone)
        for row, prompt in enumerate(prompts):
            for place in range(2):
                whole = torch.tensor([*prompt, int(nodes[row, place])])[None]
                torch.testing.assert_close(
                    grown[row, place], backbone.hidden_states(whole)[0, -1], atol=2e-4, rtol=1e-4
                )
