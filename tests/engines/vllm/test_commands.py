"""The command line with --engine vllm: the same answers, standard output clean; what vLLM does not serve is refused in a sentence."""

import shutil

import pytest
import torch

from llmrec.artifacts.run_folder import load_artifact
from llmrec.artifacts.served_checkpoint import served_checkpoint
from llmrec.engines.vllm.engine import VllmEngine
from llmrec.errors import ConfigError, ModelError
from llmrec.recommender import Recommender
from tests.apps.calling import assert_one_sentence, call, call_alone

pytestmark = [pytest.mark.slow, pytest.mark.vllm]


def test_json_of_both_engines_is_the_same_and_alone_on_standard_output(tiny_served_run, capsys):
    asked = ("recommend", tiny_served_run, "--history", "50", "--history", "181", "-k", "5", "--json")
    ours = call(capsys, *asked).json["recommendations"]
    called = call_alone(*asked, "--engine", "vllm")
    theirs = called.json["recommendations"]
    assert len(theirs) == 5 and [item["item_id"] for item in ours] == [item["item_id"] for item in theirs]
    assert [item["score"] for item in ours] == pytest.approx([item["score"] for item in theirs], abs=1e-3)
    assert "Traceback" not in called.err and len(called.err) < 2000


def test_what_vllm_does_not_serve_is_refused_before_anything_is_loaded(tiny_code_run, capsys):
    called = call(capsys, "recommend", tiny_code_run, "--engine", "vllm", "--decoding", "grounding")
    assert_one_sentence(called, 'Serve it with engine="torch".')
    assert_one_sentence(
        call(capsys, "recommend", tiny_code_run, "--engine", "onnx"), "engine should be torch or vllm, but it is 'onnx'"
    )
    with pytest.raises(ConfigError, match="vLLM is installed here for 'cpu', but the device named is 'cuda:1'"):
        Recommender.from_pretrained(tiny_code_run, engine="vllm", device="cuda:1")


def test_a_model_that_vllm_computes_otherwise_is_refused_and_other_engines_go_on(tiny_served_run, tmp_path):
    """Of some makes of model vLLM ignores an untied head, for one."""
    folder = shutil.copytree(tiny_served_run / "model", tmp_path / "model")
    model = load_artifact(folder, dtype=torch.float32)
    checkpoint = served_checkpoint(folder, model)
    first, second = [
        VllmEngine(checkpoint, model.backbone, dtype=torch.float32, max_tokens=model.encoder.max_tokens)
        for _ in range(2)
    ]
    prompts = [model.encoder.encode(history) for history in ([], [3, 5])]
    with torch.no_grad():
        model.backbone.item_table.weight[100:] += 0.1
        with pytest.raises(ModelError, match=r'computes other scores of this run.*engine="torch"'):
            second.check_agreement(prompts)
        model.backbone.item_table.weight[100:] -= 0.1
    first.check_agreement(prompts)  # the other one was closed
    first.close()
