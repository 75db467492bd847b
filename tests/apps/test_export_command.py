import json

from transformers import AutoModelForCausalLM, AutoTokenizer

from llmrec.items.semantic_ids import SemanticIDs
from tests.apps.calling import assert_one_sentence, call


def test_the_export_loads_with_no_code_of_ours(tiny_code_run, tmp_path, capsys):
    out = tmp_path / "exported"
    assert "Wrote" in call(capsys, "export", tiny_code_run, out).out
    codes = SemanticIDs.load(tiny_code_run / "model" / "semantic_ids").token_strings
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.get_output_embeddings().weight.shape[0] == 300 + len(codes)
    assert tokenizer.convert_tokens_to_ids(codes) == list(range(300, 300 + len(codes)))
    assert json.loads((out / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_what_lies_there_is_left_as_it_is(tiny_code_run, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert_one_sentence(call(capsys, "export", tiny_code_run, tmp_path), "not empty")
    assert_one_sentence(call(capsys, "export", tiny_code_run, "/dev/null/x"), "cannot write")
    assert_one_sentence(call(capsys, "export", tmp_path, tmp_path / "out"), "holds none")
