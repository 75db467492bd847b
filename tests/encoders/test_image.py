"""Vectors of images: real networks see what is there, each image is encoded once, and broken files are told by item."""

import logging
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertModel, ViTImageProcessorPil

from llmrec.backbones import load
from llmrec.data.images import read_image
from llmrec.encoders import efficientnet
from llmrec.encoders import image as image_encoder
from llmrec.encoders.image import encode_images, num_encoded
from llmrec.encoders.pretrained_vision import VisionModel
from llmrec.errors import DataError, ModelError
from tests.backbones.vision_folders import FAMILIES, save_vision_model

MILITARY_UNIFORM = 652  # ImageNet's class, in the network's order


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """Five different images of different sizes."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [folder / f"{place}.png" for place in range(5)]
    for place, path in enumerate(paths):
        small = Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8))
        small.resize((40 + 10 * place, 70 - 5 * place), Image.Resampling.BICUBIC).save(path)
    return paths


@pytest.fixture(scope="module")
def tiny_vision(tmp_path_factory) -> str:
    return save_vision_model("resnet", tmp_path_factory.mktemp("resnet"))


@pytest.fixture
def num_seen(monkeypatch) -> list[int]:
    """How many images each call of a network got, the trial of one image left out."""
    seen: list[int] = []
    whole_load = image_encoder._load

    def counting(model: str):
        encode = whole_load(model)
        return lambda images: (seen.append(len(images)) if images[0].size != (64, 64) else None) or encode(images)

    monkeypatch.setattr(image_encoder, "_load", counting)
    return seen


@pytest.mark.slow
def test_the_network_of_the_wheel_knows_a_military_uniform_when_it_sees_one():
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    network = efficientnet.EfficientNetLite0(torch.device("cpu"))
    with torch.inference_mode():
        chances = network.class_logits(network.encode([read_image(path)])).softmax(dim=1)[0]
    assert int(chances.argmax()) == MILITARY_UNIFORM and chances[MILITARY_UNIFORM] > 0.4


@pytest.mark.slow
def test_posters_have_vectors_and_a_batch_equals_singles(bench_data, fresh_cache):
    posters = sorted((bench_data / "ml100k_posters" / "images").glob("*.jpg"))[:10]
    vectors, present = encode_images([None, *posters])
    assert vectors.shape == (11, 1280) and vectors.dtype == np.float32
    assert present.tolist() == [False] + [True] * 10 and not vectors[0].any()
    assert (np.abs(vectors[1:]).sum(axis=1) > 0).all() and len(np.unique(vectors, axis=0)) == 11
    network = efficientnet.EfficientNetLite0(torch.device("cpu"))
    with torch.inference_mode():
        single = network.encode([read_image(posters[9])])[0].numpy()
    assert np.allclose(single, vectors[10], atol=1e-4)
    again, _ = encode_images([None, *posters])
    assert (again == vectors).all()


def test_the_weights_of_the_wheel_are_converted_once_and_a_broken_copy_is_made_again(fresh_cache):
    first = efficientnet._weights()
    (copy,) = (fresh_cache.parent / "models").glob("*.safetensors")
    time = copy.stat().st_mtime_ns
    again = efficientnet._weights()
    assert copy.stat().st_mtime_ns == time
    assert set(again) == set(first) and all(torch.equal(again[name], first[name]) for name in first)
    copy.write_bytes(copy.read_bytes()[:1000])
    assert set(efficientnet._weights()) == set(first) and copy.stat().st_mtime_ns != time


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_vision_models_of_every_shape_give_one_vector_a_image(family, tmp_path, fresh_cache, images):
    model = save_vision_model(family, tmp_path / "model")
    vectors, present = encode_images(images, model)
    assert vectors.shape == (5, 12 if family == "clip" else 16) and present.all() and np.isfinite(vectors).all()
    assert len(np.unique(vectors.round(6), axis=0)) == 5
    single = VisionModel(model, torch.device("cpu"))
    with torch.inference_mode():
        assert np.allclose(single.encode([read_image(images[3])])[0].numpy(), vectors[3], atol=1e-5)


def test_a_pooler_that_the_checkpoint_lacks_is_not_used(tmp_path, images):
    """transformers fills it with random numbers, so two loads would give two vectors."""
    model = save_vision_model("vit_classifier", tmp_path)
    first, second = (VisionModel(model, torch.device("cpu")) for _ in range(2))
    image = read_image(images[0])
    with torch.inference_mode():
        assert torch.equal(first.encode([image]), second.encode([image]))
        pixels = first.processor(images=[image], return_tensors="pt").pixel_values
        states = AutoModel.from_pretrained(model)(pixels).last_hidden_state  # (1, P, D)
    assert torch.allclose(first.encode([image])[0], states[0].mean(dim=0), atol=1e-5)


def test_clip_gives_the_embedding_that_texts_are_compared_with(tmp_path, images):
    model = VisionModel(save_vision_model("clip", tmp_path), torch.device("cpu"))
    pixels = model.processor(images=[read_image(images[0])], return_tensors="pt").pixel_values
    with torch.inference_mode():
        output = model.model(input_ids=torch.tensor([[1, 2]]), pixel_values=pixels)
        ours = model.encode([read_image(images[0])])
    assert torch.allclose(torch.nn.functional.normalize(ours, dim=1), output.image_embeds, atol=1e-5)


def test_equal_images_are_encoded_once_and_a_changed_one_costs_one(
    fresh_cache, images, tiny_vision, num_seen, tmp_path
):
    twin = tmp_path / "twin.png"
    twin.write_bytes(images[0].read_bytes())
    items = [images[0], None, images[1], twin, images[0]]
    vectors, present = encode_images(items, tiny_vision)
    assert num_seen == [2] and present.tolist() == [True, False, True, True, True]
    assert (vectors[0] == vectors[3]).all() and (vectors[0] == vectors[4]).all() and (vectors[0] != vectors[2]).any()
    assert num_encoded(items, tiny_vision) == 4
    changed, _ = encode_images([images[2], *items[1:]], tiny_vision)
    assert num_seen == [2, 1] and (changed[1:] == vectors[1:]).all()
    assert num_encoded([images[3], *items], tiny_vision) == 4


def test_a_run_that_was_ended_goes_on_and_broken_shards_are_encoded_again(
    fresh_cache, images, tiny_vision, num_seen, monkeypatch
):
    monkeypatch.setattr(image_encoder, "BATCH_SIZE", 2)
    monkeypatch.setattr(image_encoder, "SHARD_SIZE", 2)
    whole_load, calls = image_encoder._load, []

    def dying(model: str):
        encode = whole_load(model)

        def encode_until(images):
            calls.append(len(images))
            if len(calls) == 4:  # the trial and two batches went well
                raise KeyboardInterrupt
            return encode(images)

        return encode_until

    monkeypatch.setattr(image_encoder, "_load", dying)
    with pytest.raises(KeyboardInterrupt):
        encode_images(images, tiny_vision)
    monkeypatch.setattr(image_encoder, "_load", whole_load)
    num_seen.clear()
    vectors, present = encode_images(images, tiny_vision)
    assert present.all() and num_seen == [1], "four of five were on disk"
    shards = sorted(fresh_cache.rglob("*.safetensors"))
    assert len(shards) == 3
    shards[0].write_bytes(shards[0].read_bytes()[:40])
    save_file({"other": torch.zeros(1)}, shards[1])
    assert np.allclose(encode_images(images, tiny_vision)[0], vectors, atol=1e-6)


def test_another_model_and_another_preparation_share_nothing(fresh_cache, images, tmp_path):
    model = save_vision_model("vit", tmp_path / "vit")
    first, _ = encode_images(images, model)
    ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0, 0, 0]).save_pretrained(tmp_path / "vit")
    assert not np.allclose(encode_images(images, model)[0], first)
    assert len(list(fresh_cache.iterdir())) == 2


@pytest.fixture
def with_broken(images, tmp_path) -> list[Path | None]:
    """Items 0 and 5 are whole; no image, none named, cut short, missing; the last two equal."""
    (tmp_path / "page.jpg").write_text("<html>")
    whole = images[4].read_bytes()
    for name in ("cut.png", "cut_too.png"):
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    paths = [tmp_path / name for name in ("page.jpg", "cut.png", "gone.jpg", "cut_too.png")]
    return [images[0], paths[0], None, paths[1], paths[2], images[1], paths[3]]


def test_broken_images_are_skipped_with_one_warning_that_names_items(fresh_cache, with_broken, tiny_vision, caplog):
    ids = [f"film-{place}" for place in range(7)]
    with caplog.at_level(logging.WARNING, logger="llmrec"):
        vectors, present = encode_images(with_broken, tiny_vision, item_ids=ids)
    assert present.tolist() == [True, False, False, False, False, True, False]
    assert not vectors[~present].any() and vectors[present].any(axis=1).all()
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("4 of 6 images cannot be used") and message.endswith("and 1 more")
    assert "item 'film-1'" in message and "the file is no image" in message and "film-2" not in message
    assert "item 'film-3'" in message and "damaged or breaks off" in message and "No such file" in message


@pytest.mark.parametrize(
    ("item", "sentence"), [(1, "the file is no image"), (3, "damaged or breaks off"), (4, "No such file")]
)
def test_broken_images_fail_by_item_and_file_where_that_is_asked(
    fresh_cache, with_broken, images, tiny_vision, item, sentence
):
    items = [images[0]] * 7
    items[item] = with_broken[item]
    with pytest.raises(DataError, match=rf"item 'film-{item}', '.*{with_broken[item].name}': .*{sentence}"):
        encode_images(items, tiny_vision, item_ids=[f"film-{place}" for place in range(7)], on_broken="fail")


def test_the_cap_on_pixels_holds_for_images_that_are_encoded_already(fresh_cache, images, tiny_vision):
    assert encode_images(images[:1], tiny_vision)[1].all()
    vectors, present = encode_images(images[:1], tiny_vision, max_pixels=1000)
    assert vectors.shape == (1, 16) and not present.any()


def test_no_images_at_all_still_have_a_width(fresh_cache, tiny_vision):
    assert encode_images([], tiny_vision)[0].shape == (0, 16)
    vectors, present = encode_images([None, None], tiny_vision)
    assert vectors.shape == (2, 16) and not present.any()


def test_models_that_cannot_encode_images_say_so(fresh_cache, images, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "hub_reachable", lambda: False)
    with pytest.raises(ModelError, match=r"'no-such-model' was not found as an image encoder: .*efficientnet-lite0"):
        encode_images(images, "no-such-model")
    text_only = tmp_path / "bert"
    BertModel(BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        text_only
    )
    with pytest.raises(ModelError, match=r"expected an image encoder in .*loading it failed"):
        encode_images(images, str(text_only))
    ViTImageProcessorPil().save_pretrained(text_only)
    with pytest.raises(ModelError, match=r"\(bert\) reads input_ids, not images"):
        encode_images(images, str(text_only))


def test_a_checkpoint_that_lacks_weights_is_refused(fresh_cache, images, tmp_path):
    model = save_vision_model("resnet", tmp_path / "m")
    weights = load_file(tmp_path / "m" / "model.safetensors")
    weights.pop(next(name for name in sorted(weights) if "convolution" in name))
    save_file(weights, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 weights of its own model"):
        encode_images(images, model)
