"""Images in the prompt, of every family, against transformers' own forward pass from pixels to logits."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from llmrec.backbones.adapters import add_lora, load_lora, lora_parameters
from llmrec.backbones.causal_lm import IMAGES, Backbone
from llmrec.backbones.export import export
from llmrec.backbones.image_families import FAMILIES as KNOWN
from llmrec.backbones.image_families import image_words, vision_parts
from llmrec.backbones.packing_check import check_packing
from llmrec.backbones.pretrained import load_backbone
from llmrec.backbones.vision_language import encode_vision_tokens, vision_features, vision_sequences
from llmrec.data.catalog import Catalog
from llmrec.engines.torch.beam_search import beam_search
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import ItemSequences, ItemTokens, joined, or_else, text_tokens
from llmrec.nn.adapters.semantic import SemanticAdapter
from llmrec.nn.item_table import ItemTable
from llmrec.nn.soft_tokens import SoftTokens
from llmrec.prompting.collators import Collator
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.packing import PackingCollator
from llmrec.prompting.templates import load_prompt

from ..engines.tiny_models import brute_force, code_items
from .tiny_vision import FAMILIES, IMAGE, LAYERS, VOCAB, images, save_checkpoint, tiny_model

MAX_TOKENS = 12
# width and height of the items' images; item 1 has none
SIZES = [(40, 30), None, (16, 50), (9, 9), (96, 8), (30, 40), (24, 24), (64, 64)]
MIXED = {  # prompts with none, one, two and three images: words (lists of ids) and items
    "none": [[30, 31, 32, 33]],
    "one": [[30, 31], 0, [33]],
    "side by side": [[41, 42, 43], 3, 5, [44, 45]],
    "three": [[50], 2, [51, 52], 4, [53], 0, [54, 55, 56]],
    "the same twice": [7, [60, 61], 7, [62]],
}


@dataclass(frozen=True)
class Seeing:
    """A backbone that has looked at the items' images, and how they are mentioned."""

    family: str
    folder: Path
    backbone: Backbone
    items: ItemTokens
    prompt_sequences: ItemSequences
    images: list[Path | None]

    def prompt(self, parts: list[list[int] | int]) -> np.ndarray:
        """Words and items' images as the backbone reads them: int64 (T,)."""
        return np.concatenate(
            [self.prompt_sequences[part] if isinstance(part, int) else part for part in parts]
        ).astype(int)

    def inputs(self, parts: list[list[int] | int]) -> dict[str, torch.Tensor]:
        """The same for transformers' own model: image tokens, pixels, and what its family asks for besides them."""
        ids = torch.from_numpy(self.prompt(parts))[None]
        images = [Image.open(self.images[part]).convert("RGB") for part in parts if isinstance(part, int)]
        ids = ids.masked_fill(ids >= self.backbone.num_tokens, IMAGE)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if images:
            inputs |= tiny_model(self.family)[1](images=images, return_tensors="pt", **ARGUMENTS[self.family])
            if self.family.startswith("qwen"):
                inputs["mm_token_type_ids"] = (ids == IMAGE).int()
        return inputs


# what a person would tell the family's processor to hold the cap
_CAPPED = {"size": {"shortest_edge": 3 * 64, "longest_edge": MAX_TOKENS * 64}}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": _CAPPED,
    "qwen3_vl": _CAPPED,
    "llava": {},
    "idefics3": {"do_image_splitting": False},
    "smolvlm": {"do_image_splitting": False},
}


def look(folder: Path, family: str, paths: list[Path | None]) -> Seeing:
    """The family's checkpoint loaded from its folder, its item table, and the images encoded."""
    backbone = load_backbone(str(folder)).eval()
    items = code_items(len(paths), (2, 3, 4), backbone.base_vocab_size)
    backbone.add_item_table(ItemTable(items.row_levels, backbone.dim, norm=4.0))
    backbone.add_vectors(IMAGES, encode_vision_tokens(backbone, paths, max_tokens=MAX_TOKENS))
    return Seeing(family, folder, backbone, items, vision_sequences(backbone), paths)


@pytest.fixture(scope="module", params=list(FAMILIES))
def seeing(request, tmp_path_factory) -> Seeing:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMREC_CACHE", str(folder / "cache"))
        checkpoint = save_checkpoint(request.param, folder / "model")
        yield look(checkpoint, request.param, images(folder, SIZES))


def logits(backbone: Backbone, prompt: np.ndarray) -> torch.Tensor:
    """float32 (T, V): the vocabulary's logits, from ids alone."""
    with torch.no_grad():
        return backbone.word_logits(backbone.hidden_states(torch.from_numpy(prompt)[None])[0])


def test_prompts_show_title_and_image_or_the_image_alone_and_else_the_title(seeing):
    backbone, num_items = seeing.backbone, len(SIZES)
    catalog = Catalog.from_rows([{"item_id": f"i{item}", "title": f"film {item}"} for item in range(num_items)])
    titles = text_tokens(
        catalog.titles, backbone.tokenizer, backbone.base_vocab_size, item_ids=catalog.item_ids
    ).prompt_sequences
    opening, closing = image_words(backbone)
    first = backbone.first_vector_id(IMAGES)
    image = [*opening, *range(first, first + int(backbone.vector_tokens[IMAGES].offsets[1])), *closing]
    for prompt_sequences, expected in (
        (joined([titles, seeing.prompt_sequences]), [*titles[0], *image, *titles[1]]),
        (or_else(seeing.prompt_sequences, titles), [*image, *titles[1]]),
    ):
        encoder = PromptEncoder(
            load_prompt("next_item/bare"), backbone.tokenizer, seeing.items, catalog,
            max_history=10, max_tokens=200, prompt_sequences=prompt_sequences,
        )  # fmt: skip
        prompt = encoder.encode([0, 1])
        assert prompt[len(encoder.prefix) :].tolist() == expected
        assert logits(backbone, prompt.astype(int)).isfinite().all()


def test_every_known_family_is_tested():
    assert set(FAMILIES) == set(KNOWN)


@pytest.mark.parametrize("prompt", list(MIXED))
def test_logits_from_ids_and_kept_vectors_are_those_of_transformers_from_pixels(seeing, prompt):
    with torch.no_grad():
        theirs = seeing.backbone.causal_lm(**seeing.inputs(MIXED[prompt])).logits[0]
    ours = logits(seeing.backbone, seeing.prompt(MIXED[prompt]))
    assert theirs.abs().max() > 1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_another_image_gives_other_logits(seeing):
    one, other = ([[30, 31], item, [33]] for item in (0, 5))
    difference = logits(seeing.backbone, seeing.prompt(one))[-1] - logits(seeing.backbone, seeing.prompt(other))[-1]
    assert difference.abs().max() > 1e-2


def test_positions_on_three_axes_and_vectors_of_later_layers_are_no_ornament(seeing):
    """What the exact test would not forgive: without either, logits are others."""
    backbone, prompt = copy.deepcopy(seeing.backbone), seeing.prompt(MIXED["three"])
    tokens, right = backbone.vector_tokens[IMAGES], logits(seeing.backbone, prompt)
    assert tokens.has_grid == seeing.family.startswith("qwen") and len(tokens.deep) == 2 * (seeing.family == "qwen3_vl")
    if tokens.has_grid:
        tokens.has_grid = False
        assert (logits(backbone, prompt) - right).abs().max() > 1e-2
        tokens.has_grid = True
    if len(tokens.deep):
        tokens.deep = tokens.deep[:0]
        assert (logits(backbone, prompt) - right).abs().max() > 1e-2


def test_a_padded_batch_of_rows_with_no_and_some_images_equals_single_rows(seeing):
    prompts = [seeing.prompt(parts) for parts in MIXED.values()]
    batch = Collator(0)([{"input_ids": ids, "labels": np.full(len(ids), -100)} for ids in prompts])
    with torch.no_grad():
        hidden = seeing.backbone.hidden_states(batch["input_ids"], attention_mask=batch["attention_mask"])
    for row, prompt in zip(hidden, prompts, strict=True):
        alone = logits(seeing.backbone, prompt)
        torch.testing.assert_close(seeing.backbone.word_logits(row[: len(prompt)]), alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scope", ["vocabulary", "level", "trie"])
def test_beams_after_images_are_those_of_plain_recomputation(seeing, scope):
    prompts = [seeing.prompt(parts) for parts in MIXED.values()]
    trie = TokenTrie.from_item_tokens(seeing.items)
    found, scores = beam_search(seeing.backbone, trie, prompts, 8, num_beams=8, softmax_scope=scope)
    for row, prompt in enumerate(prompts):
        expected = brute_force(seeing.backbone, seeing.items, prompt, scope)
        assert found[row].tolist() == np.argsort(-expected, kind="stable").tolist()
        np.testing.assert_allclose(scores[row].numpy(), np.sort(expected)[::-1], atol=1e-4)


def test_a_returning_user_and_a_shared_beginning_equal_a_fresh_reading(seeing):
    instruction = list(range(20, 40))  # long enough to be read once for all
    first = [[instruction, 0, [33], 2, [7]], [instruction, 5, [33]]]
    later = [[instruction, 0, [33], 2, [7], 4, [8], 3, [9]], [instruction, 5, [33], 7, [9]]]
    trie, cache = TokenTrie.from_item_tokens(seeing.items), PromptCache(1 << 24)
    for rows in (first, later):
        prompts = [seeing.prompt(parts) for parts in rows]
        known = [cache.longest(prompt)[0] for prompt in prompts]
        found, scores = beam_search(
            seeing.backbone, trie, prompts, 8, num_beams=8, softmax_scope="vocabulary", prompt_cache=cache
        )
        for row, prompt in enumerate(prompts):
            alone, alone_scores = beam_search(
                seeing.backbone, trie, [prompt], 8, num_beams=8, softmax_scope="vocabulary"
            )
            assert torch.equal(found[row], alone[0])
            torch.testing.assert_close(scores[row], alone_scores[0], atol=1e-4, rtol=0)
    assert min(known) > len(instruction)  # the second time, images were in the memory too


def rows_of(seeing: Seeing) -> list[dict[str, np.ndarray]]:
    """Answers after prompts that share beginnings with images in them, and after others."""
    trunk = [[20, 21, 22, 23], 0, [24], 4, [25]]
    prompts = [trunk, [*trunk, 2, [26]], [*trunk, 7, [27], 3, [28]], [[50, 51], 5, [52]], [[60, 61, 62]]]
    rows = []
    for answer, parts in enumerate(prompts):
        prompt = seeing.prompt(parts)
        ids = np.concatenate([prompt, seeing.items[answer]]).astype(np.int32)
        labels = ids.astype(np.int64)
        labels[: len(prompt)] = -100
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def trained(seeing: Seeing) -> Backbone:
    """A copy with LoRA whose matrices are both in use."""
    backbone = copy.deepcopy(seeing.backbone)
    torch.manual_seed(0)
    add_lora(backbone, rank=2, alpha=4, dropout=0.0)
    for parameter in lora_parameters(backbone):
        torch.nn.init.normal_(parameter, std=0.1)
    return backbone.train()


@pytest.mark.parametrize("share_prefixes", [False, True], ids=["segments", "branches"])
def test_packed_rows_with_images_have_the_loss_and_gradient_of_separate_ones(seeing, share_prefixes):
    check_packing(seeing.backbone)
    rows = rows_of(seeing)
    results = []
    for collate in (Collator(0), PackingCollator(share_prefixes)):
        backbone = trained(seeing)
        loss, count = backbone.next_token_loss(collate(rows), scope="vocabulary")
        loss.backward()
        results.append((loss.detach(), count, [parameter.grad for parameter in lora_parameters(backbone)]))
    (padded, number, apart), (packed, same_number, together) = results
    assert number == same_number == 15
    torch.testing.assert_close(packed, padded, atol=1e-3, rtol=1e-5)
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_an_exported_run_reads_pixels_by_itself_and_gives_our_logits(seeing, tmp_path):
    backbone = trained(seeing).eval()
    folder = export(backbone, seeing.items.row_strings, tmp_path / "plain")
    plain = AutoModelForImageTextToText.from_pretrained(folder)
    prompt = seeing.prompt(MIXED["three"])
    with torch.no_grad():
        ours = backbone.logits(backbone.hidden_states(torch.from_numpy(prompt)[None])[0])
        theirs = plain(**seeing.inputs(MIXED["three"])).logits[0]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_saved_lora_comes_back_into_the_language_tower(seeing, tmp_path):
    backbone, prompt = trained(seeing).eval(), seeing.prompt(MIXED["one"])
    backbone.peft.save_pretrained(tmp_path)
    again = copy.deepcopy(seeing.backbone)
    load_lora(again, tmp_path)
    assert torch.equal(logits(again, prompt), logits(backbone, prompt))


def test_lora_lies_in_the_language_tower_alone_and_the_vision_tower_never_moves(seeing):
    backbone = trained(seeing)
    tower = {id(parameter) for parameter in backbone.body.parameters()}
    assert len(lora_parameters(backbone)) == 2 * 7 * LAYERS  # every linear of each layer
    assert all(id(parameter) in tower for parameter in lora_parameters(backbone))
    for part in vision_parts(backbone).values():
        assert not any(parameter.requires_grad for parameter in part.parameters())


def test_images_lora_and_soft_tokens_receive_a_gradient_in_one_step(seeing):
    backbone = trained(seeing)
    vision, present = vision_features(backbone.vector_tokens[IMAGES])
    dims = {"vision": backbone.dim, "other": 5}  # of a single feature, attention has nothing to choose
    adapter = SemanticAdapter(dims, backbone.dim, num_query_tokens=2, hidden_dim=16, norm=4.0)
    other = torch.randn(len(present), 5, generator=torch.Generator().manual_seed(0))
    present = dict.fromkeys(dims, torch.from_numpy(present))
    soft = SoftTokens(adapter, {"vision": torch.from_numpy(vision), "other": other}, present)
    backbone.add_vectors("soft", soft)
    images_now = backbone.vector_tokens[IMAGES]
    images_now.vectors.requires_grad_(True)  # frozen in training: here it shows that the image is part of the step
    first = backbone.first_vector_id("soft")
    prompt = np.concatenate([seeing.prompt([[30], 0, [31]]), [first, first + 1], seeing.items[3]])
    batch = {"input_ids": torch.from_numpy(prompt)[None], "attention_mask": torch.ones(1, len(prompt), dtype=int)}
    batch["labels"] = batch["input_ids"].clone()
    batch["labels"][:, :-3] = -100
    loss, _ = backbone.next_token_loss(batch, scope="vocabulary")
    loss.backward()
    tokens = slice(*images_now.offsets[:2])
    assert images_now.vectors.grad[tokens].abs().sum(dim=1).min() > 0
    assert images_now.vectors.grad[tokens.stop :].abs().max() == 0
    assert all(parameter.grad.abs().max() > 0 for parameter in lora_parameters(backbone))
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None, name
        if name != "empty" and not name.endswith("key.bias"):  # a bias of all keys alike shifts all scores alike
            assert parameter.grad.abs().max() > 1e-6, name
    for part in vision_parts(backbone).values():
        assert all(parameter.grad is None for parameter in part.parameters())


def test_the_mean_vision_token_is_the_feature_of_a_image_and_absent_where_there_is_none(seeing):
    tokens = seeing.backbone.vector_tokens[IMAGES]
    vectors, present = vision_features(tokens)
    assert present.tolist() == [size is not None for size in SIZES] and not vectors[1].any()
    start, stop = tokens.offsets[4:6]
    np.testing.assert_allclose(vectors[4], tokens.vectors[start:stop].mean(dim=0).numpy(), atol=1e-6)
    assert vectors.dtype == np.float32 and np.diff(tokens.offsets).max() <= MAX_TOKENS


def test_the_first_layers_of_the_language_tower_alone_read_images_as_a_model_of_so_many_layers(seeing):
    backbone = load_backbone(str(seeing.folder), num_layers=2).eval()
    assert str(backbone.layers) == f"2 of {LAYERS} layers"
    backbone.add_item_table(ItemTable(seeing.items.row_levels, backbone.dim, norm=4.0))
    backbone.add_vectors(IMAGES, encode_vision_tokens(backbone, seeing.images, max_tokens=MAX_TOKENS))
    with torch.no_grad():
        theirs = backbone.causal_lm(**seeing.inputs(MIXED["three"])).logits[0]
    torch.testing.assert_close(logits(backbone, seeing.prompt(MIXED["three"])), theirs, atol=1e-4, rtol=0)
    assert theirs.shape[1] == VOCAB
