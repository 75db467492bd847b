"""Images to vision tokens: capped, seen once, kept by what the file holds; what cannot be seen is said."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.image_families import image_words, processor_arguments
from llmrec.backbones.pretrained import load_backbone
from llmrec.backbones.vision_language import encode_vision_tokens, load_vision_tokens, save_vision_tokens
from llmrec.errors import ArtifactError, DataError, ModelError

from ..tiny import tiny_backbone
from .tiny_vision import images, save_checkpoint, tiny_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint("qwen3_vl", tmp_path_factory.mktemp("qwen3_vl"))


@pytest.fixture
def backbone(checkpoint, tmp_path, monkeypatch) -> Backbone:
    """Qwen3-VL's shape, with nothing kept yet."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    return load_backbone(str(checkpoint))


@pytest.fixture
def seen(backbone) -> list[int]:
    """How many images the vision tower was given, a number a call."""
    calls: list[int] = []
    tower = backbone.causal_lm.base_model.visual
    tower.register_forward_pre_hook(lambda _, args, kwargs: calls.append(len(kwargs["grid_thw"])), with_kwargs=True)
    return calls


def test_each_image_is_seen_once_whatever_items_have_it_and_never_again(backbone, seen, tmp_path):
    one, other = images(tmp_path, [(40, 30), (24, 24)])
    first = encode_vision_tokens(backbone, [one, other, None, one])
    assert sum(seen) == 2
    assert torch.equal(first.vectors[slice(*first.offsets[:2])], first.vectors[first.offsets[3] :])
    again = encode_vision_tokens(backbone, [one, other, None, one])
    assert sum(seen) == 2
    assert torch.equal(again.vectors, first.vectors) and torch.equal(again.deep, first.deep)
    assert again.offsets.tolist() == first.offsets.tolist() and torch.equal(again.axes, first.axes)


def test_a_changed_poster_costs_one_image(backbone, seen, tmp_path):
    paths = images(tmp_path, [(40, 30), (24, 24), (16, 16)])
    before = encode_vision_tokens(backbone, paths)
    Image.new("RGB", (24, 24), "red").save(paths[1])
    after = encode_vision_tokens(backbone, paths)
    assert seen == [3, 1]
    assert torch.equal(after.vectors[: after.offsets[1]], before.vectors[: before.offsets[1]])
    assert not torch.equal(after.vectors[slice(*after.offsets[1:3])], before.vectors[slice(*before.offsets[1:3])])


def test_another_cap_and_another_vision_tower_do_not_find_what_was_kept(backbone, seen, tmp_path):
    paths = images(tmp_path, [(400, 300)])
    sizes = [encode_vision_tokens(backbone, paths, max_tokens=cap).num_tokens for cap in (64, 16, 4)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3 and len(seen) == 3
    with torch.no_grad():
        backbone.causal_lm.base_model.visual.merger.linear_fc2.weight.mul_(2)
    encode_vision_tokens(backbone, paths, max_tokens=4)
    assert len(seen) == 4


def test_a_shard_that_breaks_off_is_computed_again(backbone, seen, tmp_path):
    paths = images(tmp_path, [(40, 30), (24, 24)])
    before = encode_vision_tokens(backbone, paths)
    (shard,) = (tmp_path / "cache" / "vision_tokens").rglob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-100])
    assert torch.equal(encode_vision_tokens(backbone, paths).vectors, before.vectors) and seen == [2, 2]


def test_a_run_keeps_the_vision_tokens_and_refuses_those_of_another(backbone, tmp_path):
    tokens = encode_vision_tokens(backbone, [*images(tmp_path, [(40, 30), (24, 16)]), None])
    path = tmp_path / "images.safetensors"
    save_vision_tokens(tokens, path)
    loaded = load_vision_tokens(path, backbone, 3)
    for name, buffer in tokens.named_buffers():
        assert torch.equal(loaded.get_buffer(name), buffer)
    assert loaded.has_grid and loaded.offsets.tolist() == tokens.offsets.tolist()
    with pytest.raises(ArtifactError, match="belong to another run"):
        load_vision_tokens(path, backbone, 4)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ArtifactError, match="not a whole file"):
        load_vision_tokens(path, backbone, 3)


def test_a_training_backbone_sees_as_one_at_rest_and_goes_on_training(backbone, tmp_path):
    paths = images(tmp_path, [(40, 30)])
    tokens = encode_vision_tokens(backbone.train(), paths)
    assert backbone.training and not tokens.vectors.requires_grad


def test_kept_vectors_have_the_arithmetic_of_the_model(checkpoint, backbone, tmp_path):
    paths = images(tmp_path, [(40, 30)])
    half = encode_vision_tokens(load_backbone(str(checkpoint), dtype=torch.bfloat16), paths)
    assert half.vectors.dtype == half.deep.dtype == torch.bfloat16
    assert encode_vision_tokens(backbone, paths).vectors.dtype == torch.float32


def test_broken_images_are_left_out_and_named_or_refused_as_asked(backbone, tmp_path, caplog):
    good, thin = images(tmp_path, [(40, 30), (2000, 4)])
    words = tmp_path / "words.jpg"
    words.write_text("this is no image")
    paths = [good, words, tmp_path / "missing.png", thin, None]
    with caplog.at_level(logging.WARNING):
        tokens = encode_vision_tokens(backbone, paths, item_ids=list("abcde"))
    assert np.diff(tokens.offsets).astype(bool).tolist() == [True, False, False, False, False]
    assert "3 of 5 images" in caplog.text and "item 'b'" in caplog.text
    with pytest.raises(DataError, match=r"item 'b' \(.*words\.jpg\): .*no image"):
        encode_vision_tokens(backbone, paths, item_ids=list("abcde"), on_broken="fail")
    with pytest.raises(DataError, match="2000 x 4 pixels"):
        encode_vision_tokens(backbone, [good, thin], on_broken="fail")


def test_a_catalogue_without_any_image_is_refused(backbone):
    with pytest.raises(DataError, match="none of the 2 items has one"):
        encode_vision_tokens(backbone, [None, None])


def test_a_fixed_number_of_tokens_above_the_cap_is_refused_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    llava = load_backbone(str(save_checkpoint("llava", tmp_path / "llava")))
    with pytest.raises(ModelError, match=r"every image as 9 vision tokens, but max_tokens is 8\. .*'vision'"):
        encode_vision_tokens(llava, images(tmp_path, [(40, 30)]), max_tokens=8)


def test_a_model_of_words_is_refused(tmp_path):
    with pytest.raises(ModelError, match="is of kind llama"):
        encode_vision_tokens(tiny_backbone("llama"), images(tmp_path, [(9, 9)]))


def test_a_checkpoint_without_its_image_processor_is_refused(backbone, checkpoint, tmp_path):
    folder = tmp_path / "without"
    folder.mkdir()
    for file in checkpoint.iterdir():
        if "processor" not in file.name:
            (folder / file.name).symlink_to(file)
    with pytest.raises(ModelError, match="expected an image processor with"):
        encode_vision_tokens(load_backbone(str(folder)), images(tmp_path, [(9, 9)]))


def test_a_tokenizer_without_the_words_for_images_is_refused(backbone):
    backbone.tokenizer = tiny_backbone("llama").tokenizer
    with pytest.raises(ModelError, match=r"writes images with <\|vision_start\|>, <\|vision_end\|>"):
        image_words(backbone)


@given(st.integers(1, 300), st.integers(1, 4000), st.floats(1, 200), st.booleans())
def test_no_image_has_more_tokens_than_the_cap(max_tokens, short, aspect, is_wide):
    long = int(short * min(aspect, max_tokens))
    model, processor = tiny_model("qwen3_vl")
    size = processor_arguments(SimpleNamespace(config=model.config), processor, max_tokens)["size"]
    height, width = (short, long) if is_wide else (long, short)
    height, width = smart_resize(height, width, 8, size["shortest_edge"], size["longest_edge"])
    assert height * width // 64 <= max_tokens
