"""Real encoders of texts: mean what they should, encode a text once, and find their own results on disk."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from llmrec.backbones import load
from llmrec.encoders import text as text_encoder
from llmrec.encoders.text import are_encoded, encode_texts, find_encoder
from llmrec.errors import ModelError

TEXTS = [
    "Toy Story. genres: Animation, Comedy",
    "A Bug's Life. genres: Animation, Comedy",
    "Heat. genres: Crime, Thriller",
]


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path))
    return tmp_path / "features"


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory) -> str:
    """An untrained encoder with the real tokenizer: 16 dimensions, 32 positions."""
    folder = tmp_path_factory.mktemp("encoder")
    BertModel(
        BertConfig(
            vocab_size=30522,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=32,
        )
    ).save_pretrained(folder)
    AutoTokenizer.from_pretrained(find_encoder("all-MiniLM-L6-v2").path).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def left_padding_lm(tmp_path_factory, smollm2_tokenizer) -> str:
    """An untrained causal model with learned positions, whose tokenizer pads on the left and has no token for padding."""
    folder = tmp_path_factory.mktemp("lm")
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=49_152, n_embd=16, n_layer=2, n_head=2, n_positions=64)).save_pretrained(
        folder
    )
    tokenizer = copy.deepcopy(smollm2_tokenizer)
    tokenizer.padding_side, tokenizer.pad_token = "left", None
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_like_films_are_nearer_than_unlike_ones_and_vectors_have_length_one():
    vectors = encode_texts(TEXTS)
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > likeness[0, 2] + 0.1


def test_a_text_has_the_same_vector_alone_and_among_longer_ones(fresh_cache):
    alone = encode_texts(["Heat"])
    among = encode_texts(["Heat", "long words " * 50, "Toy Story", "Heat"])
    assert np.allclose(alone[0], among[0], atol=1e-5)
    assert (among[0] == among[3]).all()


def test_every_text_is_encoded_once_and_found_on_disk_after_that(fresh_cache, tiny_encoder, monkeypatch):
    encoded = []
    encode = text_encoder._encode
    monkeypatch.setattr(text_encoder, "_encode", lambda texts, *rest: encoded.append(texts) or encode(texts, *rest))
    first = encode_texts(["b", "a", "b"], tiny_encoder)
    again = encode_texts(["a", "b", "b", "a"], tiny_encoder)
    assert encoded == [["a", "b"]]
    assert (again == first[[1, 0, 0, 1]]).all()
    (file,) = fresh_cache.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    assert (encode_texts(["b", "a", "b"], tiny_encoder) == first).all(), "a broken file is computed again"
    assert len(encoded) == 2


def test_hostile_and_endless_texts_have_vectors(fresh_cache, tiny_encoder):
    vectors = encode_texts(["", "x " * 500_000, "[SEP] [PAD]\n<|im_start|>", "😀"], tiny_encoder)
    assert vectors.shape == (4, 16) and np.isfinite(vectors).all()
    assert encode_texts([], tiny_encoder).shape == (0, 16)


def test_a_language_model_gives_the_mean_of_its_last_hidden_states(fresh_cache, left_padding_lm):
    vectors = encode_texts([*TEXTS, "", "Heat"], left_padding_lm)
    tokenizer, model = AutoTokenizer.from_pretrained(left_padding_lm), AutoModel.from_pretrained(left_padding_lm).eval()
    for place, text in enumerate([*TEXTS, " ", "Heat"]):
        with torch.inference_mode():
            states = model(torch.tensor([tokenizer(text).input_ids])).last_hidden_state[0]  # (T, D), nothing padded
        assert np.allclose(vectors[place], torch.nn.functional.normalize(states.mean(dim=0), dim=0), atol=1e-5)


def test_longer_texts_are_cut_where_it_is_asked_and_kept_apart_on_disk(fresh_cache, left_padding_lm):
    short, long = "one two three", "one two three four five six"
    num_tokens = len(AutoTokenizer.from_pretrained(left_padding_lm)(short).input_ids)
    whole = encode_texts([short, long], left_padding_lm)
    cut = encode_texts([short, long], left_padding_lm, max_tokens=num_tokens)
    assert not np.allclose(whole[0], whole[1], atol=1e-3) and np.allclose(cut[0], cut[1], atol=1e-6)
    assert len(list(fresh_cache.glob("*.safetensors"))) == 2
    assert (encode_texts([short, long], left_padding_lm) == whole).all()
    assert are_encoded([short, long], left_padding_lm) and not are_encoded([short], left_padding_lm)


@pytest.mark.slow
def test_a_real_language_model_of_a_wheel_knows_like_from_unlike_and_batch_equals_single(tmp_path, monkeypatch):
    folder = find_encoder("SmolLM2-135M-Instruct").path  # converted in the shared cache, for it takes 15 s
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path))
    vectors = encode_texts([*TEXTS, "Toy Story. " * 100], folder)
    assert vectors.shape == (4, 576) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors @ vectors.T)[0, 1] > (vectors @ vectors.T)[0, 2]
    assert np.allclose(encode_texts(TEXTS[2:], folder)[0], vectors[2], atol=1e-5)


def test_an_encoder_that_cannot_be_found_is_an_error_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "hub_reachable", lambda: False)
    with pytest.raises(
        ModelError, match=r"'no-such-encoder' was not found as a text encoder: .* hub cannot be reached"
    ):
        encode_texts(["a"], "no-such-encoder")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"expected a text encoder in .*loading it failed"):
        encode_texts(["a"], str(tmp_path))
