"""Serving without transformers: the numbers and tokens of transformers, and hands off every checkpoint that is not known."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM

from llmrec.artifacts.run_folder import load_artifact
from llmrec.backbones.decoder import OwnCausalLM
from llmrec.backbones.decoder_files import fill, own_decoder
from llmrec.backbones.load import load_tokenizer
from llmrec.backbones.own_backbone import own_backbone
from llmrec.backbones.own_tokenizer import OwnTokenizer, own_tokenizer
from llmrec.backbones.pretrained import load_backbone
from llmrec.data.interactions import Histories
from llmrec.engines.torch.prompt_tree import PromptTree
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.language_model import ready_to_serve
from llmrec.recommenders.requests import Requests
from tests.fuzz.test_run_folders import VALUES
from tests.fuzz.tiny_runs import make_runs
from tests.tiny import FAMILIES, tiny_backbone

OWN = ["llama", "mistral", "qwen2", "qwen3"]
TEXTS = ["", "Toy Story (1995)", " l'été\n\n 3 <eos> x", "<bos>", "Ünïcode 千と千尋 🎬", "a" * 50]
CHAT = "{{ bos_token }}{% for message in messages %}\n{{ message['role'] | tojson }}: {{ message.content }}{{ eos_token }}{% endfor %}"
PROMPTS = [np.arange(3, 30), np.arange(40, 47), np.arange(3, 25)]


def checkpoint_of(family: str, folder: Path, **changes: object) -> Path:
    """A random model of the family, norms and biases not all ones and zeros, with a tokenizer of the class that the family has."""
    backbone = tiny_backbone(family)
    config = type(FAMILIES[family]).from_dict({**FAMILIES[family].to_dict(), **changes})
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return folder


def both(folder: Path, **settings: object):
    ours, theirs = own_backbone(str(folder), **settings), load_backbone(str(folder), **settings)
    assert isinstance(ours.causal_lm, OwnCausalLM)
    return ours.eval(), theirs.eval()


@torch.no_grad()
def states(backbone) -> list[torch.Tensor]:
    """Of prompts read at once, then of nodes on them, of a padded batch, and of the words after it."""
    tree = PromptTree(backbone, PROMPTS, 3)
    nodes, depths = torch.tensor([[5, 6, 7]] * 3), torch.tensor([[0, 1, 1]] * 3)
    ancestors = torch.tensor([[[1, 0, 0], [1, 1, 0], [1, 0, 1]]] * 3).bool()
    grown = tree.grow(nodes, depths, ancestors)
    tree.prune()
    ids = torch.arange(3, 31).view(2, 14)
    mask = (torch.arange(14) <= torch.tensor([[13], [5]])).long()
    padded = backbone.hidden_states(ids, attention_mask=mask)
    padded = torch.cat([padded[0], padded[1, :6]])
    return [tree.last_hidden, grown, tree.grow(nodes, depths, ancestors), padded, backbone.logits(padded)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", OWN)
def test_the_numbers_are_those_of_transformers_to_the_last_bit(family, dtype, tmp_path):
    """Mistral's window is shorter than the prompts, Qwen 3's head is its embedding."""
    for ours, theirs in zip(*map(states, both(checkpoint_of(family, tmp_path), dtype=dtype)), strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def test_so_they_are_with_the_first_layers_alone_biases_and_slow_waves_as_llama_has_them(tmp_path):
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}  # fmt: skip
    checkpoint_of("llama", tmp_path, rope_parameters=rope, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)
    pair = both(tmp_path, num_layers=1)
    assert [str(each.layers) for each in pair] == ["1 of 2 layers"] * 2
    for ours, theirs in zip(*map(states, pair), strict=True):
        assert torch.equal(ours, theirs)


def test_settings_as_transformers_wrote_them_before_its_fifth_version_are_read(tmp_path):
    checkpoint_of("llama", tmp_path)
    path = tmp_path / "config.json"
    said = json.loads(path.read_text())
    rope = said.pop("rope_parameters")
    path.write_text(
        json.dumps(said | {"rope_theta": rope["rope_theta"], "rope_scaling": None, "torch_dtype": said.pop("dtype")})
    )
    for ours, theirs in zip(*map(states, both(tmp_path)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("family", OWN)
def test_the_tokens_are_those_of_transformers(family, tmp_path):
    checkpoint_of(family, tmp_path)
    ours, theirs = own_tokenizer(tmp_path, family), load_tokenizer(str(tmp_path))
    for arguments in ({}, {"add_special_tokens": False}, {"add_special_tokens": False, "split_special_tokens": True}):
        assert ours(TEXTS, **arguments).input_ids == theirs(TEXTS, **arguments).input_ids
        assert ours(TEXTS[1], **arguments).input_ids == theirs(TEXTS[1], **arguments).input_ids
    assert ours.get_added_vocab() == theirs.get_added_vocab() and ours.get_vocab() == theirs.get_vocab()
    assert (ours.bos_token_id, ours.eos_token_id, len(ours)) == (theirs.bos_token_id, theirs.eos_token_id, len(theirs))
    assert ours.special_tokens_map == theirs.special_tokens_map
    ids = theirs(TEXTS[2]).input_ids
    assert ours.decode(ids) == theirs.decode(ids)
    messages = [{"role": "system", "content": "é"}, {"role": "user", "content": "Which?"}]
    for opened in (True, False):
        arguments = {"tokenize": False, "add_generation_prompt": opened}
        assert ours.apply_chat_template(messages, **arguments) == theirs.apply_chat_template(messages, **arguments)


@pytest.fixture(scope="module", params=OWN)
def runs(request, tmp_path_factory) -> dict[str, Path]:
    return make_runs(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("form", ["text", "unique_id", "soft"])
def test_a_run_ranks_the_same(runs, form):
    """Fully fine-tuned; with LoRA and a soft prompt; with soft tokens and a last layer of its own."""
    run = runs[form]
    ours, theirs = load_artifact(run, to_serve=True), load_artifact(run)
    assert isinstance(ours.backbone.causal_lm, OwnCausalLM) and not isinstance(theirs.backbone.causal_lm, OwnCausalLM)
    assert ours.card == theirs.card
    same_rankings(ready_to_serve(ours, prompt_cache_bytes=1 << 20), theirs)


def test_a_run_of_semantic_ids_with_lora_ranks_the_same(tiny_code_run):
    ours, theirs = load_artifact(tiny_code_run, to_serve=True), load_artifact(tiny_code_run)
    assert isinstance(ours.backbone.causal_lm, OwnCausalLM)
    same_rankings(ready_to_serve(ours, prompt_cache_bytes=1 << 20), theirs)


def same_rankings(ours, theirs) -> None:
    requests = Requests(Histories.from_lists([[1, 2, 3], [], [7], [5, 9, 4, 2, 8]]))
    found, expected = (recommender_of(each).rank(requests, 6, exclude_seen=True) for each in (ours, theirs))
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_a_prefix_and_layer_adapters_are_left_to_transformers(runs):
    assert not isinstance(load_artifact(runs["semantic_id"], to_serve=True).backbone.causal_lm, OwnCausalLM)


@pytest.mark.parametrize(
    "settings", [{"device": "cuda"}, {"quantize": "nf4"}, {"num_layers": 3}, {"adapters": ["prefix"]}]
)
def test_what_is_asked_beyond_it_is_left_to_transformers(settings, tmp_path):
    assert own_backbone(str(checkpoint_of("llama", tmp_path)), **settings) is None


@pytest.mark.parametrize("said", [
    {"model_type": "gemma2"}, {"architectures": ["LlamaForSequenceClassification"]}, {"hidden_act": "gelu"},
    {"quantization_config": {"bits": 4}}, {"something_new": 1},
    {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}, {"rope_interleaved": True},
    {"intermediate_size": 47}, {"num_key_value_heads": 3}, {"tie_word_embeddings": True}, {"vocab_size": "300"}, {"head_dim": -8},
    {"layer_types": ["full_attention", "sliding_attention"]}, {"attention_bias": True}, {"rms_norm_eps": None},
])  # fmt: skip
def test_a_setting_that_is_not_known_is_left_to_transformers(said, tmp_path):
    path = checkpoint_of("llama", tmp_path) / "config.json"
    assert own_decoder(tmp_path, None) is not None
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    assert own_decoder(tmp_path, None) is None


def test_qwens_with_windows_are_left_to_transformers(tmp_path):
    checkpoint_of("qwen2", tmp_path, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    assert own_decoder(tmp_path, None) is None


@pytest.mark.parametrize("damage", ["empty", "gone", "cut"])
def test_damaged_weights_are_left_to_transformers_which_says_so(damage, tmp_path):
    path = checkpoint_of("llama", tmp_path) / "model.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    assert own_decoder(tmp_path, None) is None


@pytest.mark.parametrize("said", [
    {"tokenizer_class": "LlamaTokenizer"}, {"something_new": 1}, {"add_prefix_space": True}, {"extra_special_tokens": ["<new>"]},
    {"bos_token": "<nowhere>"}, {"chat_template": [{"name": "default", "template": ""}]}, {"chat_template": "{% generation %}"},
    {"added_tokens_decoder": {"0": {"content": "<pad>", "lstrip": True}}}, {"split_special_tokens": True},
])  # fmt: skip
def test_a_tokenizer_that_transformers_would_change_is_left_to_it(said, tmp_path):
    path = checkpoint_of("llama", tmp_path) / "tokenizer_config.json"
    (tmp_path / "chat_template.jinja").unlink()
    assert own_tokenizer(tmp_path, "llama") is not None
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    assert own_tokenizer(tmp_path, "llama") is None


def test_a_qwen_tokenizer_of_another_make_is_left_to_transformers(tmp_path):
    """transformers takes its vocabulary alone, and makes the rest itself."""
    backbone = tiny_backbone("qwen2")
    backbone.tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "Qwen2Tokenizer", "unk_token": None}))
    assert own_tokenizer(tmp_path, "qwen2") is None


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_any_value_of_any_setting_is_known_or_left_to_transformers(name, tmp_path):
    path = checkpoint_of("llama", tmp_path) / name
    said = json.loads(path.read_text())
    keys = [
        *said,
        "rope_theta",
        "rope_scaling",
        "layer_types",
        "added_tokens_decoder",
        "extra_special_tokens",
        "use_sliding_window",
    ]
    for key, value in itertools.product(keys, VALUES):
        path.write_text(json.dumps(said | {key: value}))
        found = own_decoder(tmp_path, None) if name == "config.json" else own_tokenizer(tmp_path, "llama")
        assert found is None or isinstance(found, OwnCausalLM | OwnTokenizer)


def test_an_added_token_that_swallows_white_space_is_kept(tmp_path):
    checkpoint_of("llama", tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    tokenizer.add_tokens([AddedToken("<wide>", lstrip=True, rstrip=True, special=False)])
    tokenizer.save_pretrained(tmp_path)
    ours = own_tokenizer(tmp_path, "llama")
    assert ours("a <wide> b").input_ids == tokenizer("a <wide> b").input_ids
    assert ours.added_tokens_decoder[ours.get_added_vocab()["<wide>"]].lstrip


def test_weights_that_are_read_are_those_of_the_file_after_the_file_is_gone(tmp_path):
    checkpoint_of("llama", tmp_path / "there")
    model = own_decoder(tmp_path / "there", None)
    fill(model, tmp_path / "there", torch.float32)
    before = model.lm_head.weight.clone()
    shutil.rmtree(tmp_path / "there")
    assert torch.equal(model.lm_head.weight, before)


def test_an_answer_imports_neither_transformers_nor_peft_nor_the_compiler(tiny_run):
    """Importing them takes more CPU time than answering. Nor what only other commands need."""
    code = (
        "import sys; from llmrec.apps.cli import main\n"
        f"sys.argv[1:] = ['recommend', {str(tiny_run)!r}, '--history', '50']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'transformers', 'peft', 'torch._dynamo', 'accelerate', 'scipy', 'sympy', 'bitsandbytes', 'trl', 'datasets', "
        "'sklearn', 'faiss', 'matplotlib', 'gradio', 'huggingface_hub', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tiny_run / "model" / "adapter").is_dir()
