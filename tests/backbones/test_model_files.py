"""Folders whose parts do not belong together, or that ask for more than they hold: refused before it costs anything."""

import json
import pickle
import resource
import shutil
from pathlib import Path

import pytest

from llmrec.backbones.load import load_tokenizer
from llmrec.backbones.pretrained import load_backbone, random_backbone
from llmrec.encoders.text import encode_texts
from llmrec.errors import ModelError
from llmrec.text_models.transformers import TransformersModel
from tests.backbones.tiny_vision import save_checkpoint
from tests.tiny import VOCAB


def with_more_tokens(folder: Path, until: int) -> None:
    """Adds special tokens to the tokenizer until it has that many, and leaves the model as it is."""
    tokenizer = load_tokenizer(str(folder))
    names = [f"<|extra_{number}|>" for number in range(len(tokenizer), until)]
    tokenizer.add_tokens(names, special_tokens=True)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    "load",
    [
        load_backbone,
        TransformersModel.load,
        lambda name: encode_texts(["a film"], name),
        lambda name: random_backbone(name, seed=0, hidden_size=16, num_layers=1, num_heads=2, dropout=0.0),
    ],
)
def test_a_tokenizer_with_more_tokens_than_the_model_has_embeddings_is_refused(tiny_model, tmp_path, load):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    with_more_tokens(folder, VOCAB)  # as many as there are: fine
    load(str(folder))
    with_more_tokens(folder, VOCAB + 2)
    with pytest.raises(ModelError, match=rf"up to {VOCAB + 1}, but .* {VOCAB} embeddings.*resize_token_embeddings"):
        load(str(folder))


def test_the_same_of_a_vision_language_model(tmp_path):
    folder = save_checkpoint("qwen2_5_vl", tmp_path / "model")
    rows = load_backbone(str(folder)).base_vocab_size
    with_more_tokens(folder, rows + 1)
    with pytest.raises(ModelError, match=f"token ids up to {rows}.*resize_token_embeddings"):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_hidden_layers": 3}, "lacks 9 weights of its own model .* would be random"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000, which no model has"),
        ({"vocab_size": 10**8}, "asks for 6,400,015,520 weights, which are far more than its files hold"),
        ({"intermediate_size": 10**9}, "far more than its files hold"),
        ({"hidden_size": 64}, r"of the shape \(300, 32\), but its config.json asks for \(300, 64\)"),
        ({"num_attention_heads": 0}, "loading it failed: integer modulo by zero"),
        (
            {"quantization_config": {"quant_method": "awq"}},
            "loading it failed: Loading an AWQ quantized model requires",
        ),
        ({"model_type": "none_such"}, "loading it failed"),
    ],
)
def test_a_configuration_of_another_model_is_refused(tiny_model, tmp_path, changes, sentence):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=sentence) as error:
        load_backbone(str(folder))
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_instead_of_weights_is_refused_and_does_not_run(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(tmp_path / "ran")) + bytes(200_000))
    with pytest.raises(ModelError, match="loading it failed"):
        load_backbone(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 1}', '{"a":' * 50_000, '{"version": "1.0"}'])
def test_a_broken_tokenizer_is_refused(tiny_model, tmp_path, content):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="expected a tokenizer"):
        load_backbone(str(folder))
