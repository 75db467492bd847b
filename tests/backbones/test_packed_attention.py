"""Packed rows give the loss and the gradient of separate rows, on every decoder shape."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.backbones import packed_attention
from llmrec.backbones.adapters import add_lora, lora_parameters
from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.packed_attention import PackedLayout
from llmrec.backbones.packing_check import check_packing
from llmrec.errors import ModelError
from llmrec.items.forms import NO_TARGET
from llmrec.nn.item_table import ItemTable
from llmrec.prompting.collators import Collator
from llmrec.prompting.packing import PackingCollator
from tests.tiny import FAMILIES, random_item_tokens, tiny_backbone

TOKENS = random_item_tokens(11, levels=3, codebook_size=4, base_vocab_size=300)


def trained_backbone(family: str) -> Backbone:
    """With item rows and a LoRA that does something; without dropout."""
    backbone = tiny_backbone(family)
    backbone.add_item_table(ItemTable(TOKENS.row_levels, backbone.dim, norm=backbone.embedding_norm))
    add_lora(backbone, rank=4, alpha=8, dropout=0.0)
    for parameter in lora_parameters(backbone):
        torch.nn.init.normal_(parameter, std=0.05)
    return backbone.eval()


def last_item_example(prompt: list[int], item: int) -> dict[str, np.ndarray]:
    ids = np.array([*prompt, *TOKENS[item]], dtype=np.int32)
    return {"input_ids": ids, "labels": np.where(np.arange(len(ids)) < len(prompt), NO_TARGET, ids).astype(np.int64)}


def user_rows(num_targets: int, *, head: int = 9) -> list[dict[str, np.ndarray]]:
    """A growing history after an instruction, and a cue after it."""
    history = [int(token) for item in range(num_targets) for token in TOKENS[item % 11]]
    start = list(range(20, 20 + head))
    return [last_item_example([*start, *history[: 3 * cut], 7, 8], cut % 11) for cut in range(num_targets)]


def loss_and_gradient(backbone: Backbone, batch: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    backbone.zero_grad()
    loss, count = backbone.next_token_loss(batch, scope="level")
    (loss / count).backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for p in backbone.parameters() if p.requires_grad])


def assert_equal_to_separate_rows(backbone: Backbone, rows: list[dict[str, np.ndarray]], *, share: bool) -> None:
    padded_loss, padded = loss_and_gradient(backbone, Collator(0)(rows))
    loss, gradient = loss_and_gradient(backbone, PackingCollator(share)(rows))
    assert loss == pytest.approx(padded_loss, rel=1e-5)
    assert float(gradient.norm()) == pytest.approx(float(padded.norm()), rel=1e-5)
    torch.testing.assert_close(gradient, padded, rtol=1e-4, atol=1e-5 * float(padded.abs().max()))


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_are_those_of_separate_rows(family, share, monkeypatch):
    monkeypatch.setattr(
        packed_attention, "BLOCK_QUERIES", 16
    )  # several blocks a user, and windows of 8 smaller than a row
    rows = [*user_rows(6), last_item_example([4, 5], 3), *user_rows(3, head=12)]
    assert_equal_to_separate_rows(trained_backbone(family), rows, share=share)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=8),
    st.integers(1, 40),
    st.booleans(),
)
def test_any_lengths_and_any_sharing(prompts, block, share):
    backbone = ANY_SHAPE
    rows = [last_item_example([*range(10, 18), *prompt], 2) for prompt in prompts]
    before = packed_attention.BLOCK_QUERIES
    packed_attention.BLOCK_QUERIES = block
    try:
        assert_equal_to_separate_rows(backbone, rows, share=share)
    finally:
        packed_attention.BLOCK_QUERIES = before


ANY_SHAPE = trained_backbone("mistral")


def test_bfloat16_rows_agree_too():
    backbone = trained_backbone("llama")
    backbone.causal_lm.to(torch.bfloat16)
    rows = user_rows(5)
    padded = loss_and_gradient(backbone, Collator(0)(rows))[0]
    assert loss_and_gradient(backbone, PackingCollator(share_prefixes=True)(rows))[0] == pytest.approx(padded, rel=2e-2)


def test_blocks_meet_no_more_keys_than_their_tokens_see():
    batch = PackingCollator(share_prefixes=False, multiple=1)(user_rows(6))
    layout = PackedLayout(batch["seen_until"], batch["position_ids"])
    assert len(layout.blocks) == 6 and all(block.is_segment for block in layout.blocks)
    assert all(block.key_spans == ((block.start, block.stop),) for block in layout.blocks)
    batch = PackingCollator(multiple=1)([*user_rows(6), *user_rows(60, head=8)[50:]])
    layout = PackedLayout(batch["seen_until"], batch["position_ids"])
    seen_until = batch["seen_until"][0]
    for block in layout.blocks:
        for start, stop in block.key_spans[:-1]:
            assert stop <= block.start and bool((seen_until[start:stop] > block.start).all())


def test_flex_attention_computes_what_the_blocks_compute():
    """The way of CUDA, on the CPU and without the compiler: attention alone, forward."""
    from torch.nn.attention.flex_attention import flex_attention

    batch = PackingCollator(multiple=1)([*user_rows(5), last_item_example([4, 5], 3)])
    layout = PackedLayout(batch["seen_until"], batch["position_ids"])
    length = batch["input_ids"].shape[1]
    query, key, value = torch.randn(1, 4, length, 16), torch.randn(1, 2, length, 16), torch.randn(1, 2, length, 16)
    for window in (None, 8):
        blocks, _ = packed_attention.packed_attention(
            torch.nn.Identity(), query, key, value, None, packed_layout=layout, sliding_window=window
        )
        flex = flex_attention(query, key, value, block_mask=layout.flex_mask(window), enable_gqa=True)
        torch.testing.assert_close(blocks, flex.transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gemma3"])
@pytest.mark.parametrize("share", [False, True])
def test_an_accelerator_gives_the_loss_and_gradient_of_separate_rows(family, share, monkeypatch):
    wider = {**FAMILIES[family].to_dict(), "head_dim": 16}  # flex attention takes no narrower heads
    monkeypatch.setitem(FAMILIES, family, type(FAMILIES[family])(**wider))
    backbone = trained_backbone(family).to("cuda")
    check_packing(backbone)
    rows = [*user_rows(6), last_item_example([4, 5], 3)]
    batches = [
        {name: values.to("cuda") for name, values in collate(rows).items()}
        for collate in (Collator(0), PackingCollator(share))
    ]
    (padded_loss, padded), (loss, gradient) = (loss_and_gradient(backbone, batch) for batch in batches)
    assert loss == pytest.approx(padded_loss, rel=1e-3)
    torch.testing.assert_close(gradient, padded, rtol=1e-2, atol=1e-2 * float(padded.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_models_that_can_be_packed_pass_the_check(family):
    backbone = tiny_backbone(family).train()
    check_packing(backbone)
    assert backbone.training and backbone.config._attn_implementation == "sdpa", "it leaves the model as it was"


def test_models_that_would_mix_rows_up_are_refused(monkeypatch):
    backbone = tiny_backbone("llama")
    with monkeypatch.context() as patch:  # the configuration is shared by all tiny models of the family
        patch.setattr(backbone.config, "_attn_implementation", "eager")
        with pytest.raises(ModelError, match=r"LlamaForCausalLM runs with 'eager'; set training.packing=none\."):
            check_packing(backbone)
    with monkeypatch.context() as patch:
        patch.setattr(backbone.config, "layer_types", ["full_attention", "chunked_attention"], raising=False)
        with pytest.raises(ModelError, match="chunked_attention, which packed sequences would mix up"):
            check_packing(backbone)
    with monkeypatch.context() as patch:
        patch.setattr(backbone.config, "sliding_window", 4, raising=False)  # a window that no layer of a Llama knows of
        with pytest.raises(ModelError, match="does not compute for packed sequences"):
            check_packing(backbone)
    check_packing(backbone)


def test_a_model_that_hands_nothing_on_to_its_attention_is_refused(monkeypatch):
    backbone = tiny_backbone("llama")
    forward = backbone.body.forward
    monkeypatch.setattr(backbone.body, "forward", lambda packed_layout=None, **arguments: forward(**arguments))
    with pytest.raises(ModelError, match="does not hand arguments on to its attention"):
        check_packing(backbone)
