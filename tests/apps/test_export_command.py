import json

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmrec.artifacts.run_folder import load_artifact
from llmrec.data.interactions import Histories
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.requests import Requests
from tests.apps.calling import assert_one_sentence, call


def test_the_export_loads_with_no_code_of_ours(tiny_code_run, tmp_path, capsys):
    out = tmp_path / "exported"
    assert "Wrote" in call(capsys, "export", tiny_code_run, out).out
    codes = SemanticIDs.load(tiny_code_run / "model" / "semantic_ids").token_strings
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.get_output_embeddings().weight.shape[0] == 300 + len(codes)
    assert tokenizer.convert_tokens_to_ids(codes) == list(range(300, 300 + len(codes)))
    assert json.loads((out / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_an_exported_run_of_soft_tokens_ranks_as_the_run_itself(poster_run, tmp_path, capsys):
    call(capsys, "export", poster_run, tmp_path / "exported")
    plain, model = AutoModelForCausalLM.from_pretrained(tmp_path / "exported"), load_artifact(poster_run)
    history = np.array([3, 40, 7])
    prompt = torch.from_numpy(model.encoder.encode(history).astype(np.int64))[None]  # ids of soft tokens, and of words
    assert (prompt >= 300 + 100).sum() == 3 * 2
    with torch.no_grad():
        scores = plain(prompt).logits[0, -1, 300:400]
    expected = recommender_of(model).scores(Requests(Histories.from_lists([history.tolist()])))[0]
    assert scores.argsort(descending=True)[:20].tolist() == np.argsort(-expected)[:20].tolist()


def test_the_map_says_which_item_a_token_is(tiny_run, tiny_code_run, tmp_path, capsys):
    for run, name in ((tiny_run, "one"), (tiny_code_run, "several")):
        call(capsys, "export", run, tmp_path / name)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        rows, catalog = pq.read_table(tmp_path / name / "items.parquet").to_pylist(), load_artifact(run).catalog
        assert [(row["item_id"], row["title"]) for row in rows] == list(
            zip(catalog.item_ids, catalog.titles, strict=True)
        )
        for row in rows[::50]:
            ids = [row["token_id"]] if name == "one" else row["token_id"]
            assert tokenizer(row["token"], add_special_tokens=False).input_ids == ids and len(ids) > (name == "several")
        assert len({row["token"] for row in rows}) == len(rows)


def test_what_lies_there_is_left_as_it_is(tiny_code_run, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert_one_sentence(call(capsys, "export", tiny_code_run, tmp_path), "not empty")
    assert_one_sentence(call(capsys, "export", tiny_code_run, "/dev/null/x"), "cannot write")
    assert_one_sentence(call(capsys, "export", tmp_path, tmp_path / "out"), "holds none")
