"""The real sentence encoder: means what it should, encodes a text once, and finds its own results on disk."""

import numpy as np
import pytest
from transformers import AutoTokenizer, BertConfig, BertModel

from llmrec.backbones import text_encoder
from llmrec.backbones.text_encoder import encode_texts, find_encoder
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
    AutoTokenizer.from_pretrained(find_encoder("all-MiniLM-L6-v2")).save_pretrained(folder)
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


def test_an_encoder_that_cannot_be_found_is_an_error_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(text_encoder, "hub_reachable", lambda: False)
    with pytest.raises(ModelError, match="'no-such-encoder' was not found, and the hub cannot be reached"):
        encode_texts(["a"], "no-such-encoder")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded as a text encoder"):
        encode_texts(["a"], str(tmp_path))
