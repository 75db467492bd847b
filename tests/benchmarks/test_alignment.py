"""The bench of alignment on a run of two steps: what it asks, and that its control is one."""

import json

import alignment
import harness
import numpy as np
import pytest

from llmrec.artifacts.run_folder import load_artifact
from llmrec.data.folder import load_data
from llmrec.items.forms import NO_TARGET


@pytest.mark.slow
def test_a_run_is_asked_for_titles_items_and_next_items(growing_run, few_items):
    options = harness.parse(alignment.flags(), ["--quick", "--data", str(few_items), "--run", str(growing_run)])
    result = json.loads(json.dumps(harness.complete("alignment", options, alignment.run(options)), allow_nan=False))
    found = result["results"]["aligned"]
    assert found["item_to_title"]["items"] == found["title_to_item"]["items"] == 40
    assert abs(found["item_to_title"]["difference"]) < 1, "two steps on other examples tie no title to its item"
    assert found["title_to_item"]["chance@10"] == pytest.approx(0.1)
    assert set(found["next_item"]) == {"recall@10", "ndcg@10"}


def test_the_control_is_the_same_title_after_another_item(growing_run, few_items):
    model = load_artifact(growing_run)
    rows = alignment.rows_of("item_to_title", model, load_data(few_items))
    mixed = alignment.joined(rows[3], rows[5])
    is_answer = mixed["labels"] != NO_TARGET
    assert np.array_equal(mixed["labels"][is_answer], rows[5]["labels"][rows[5]["labels"] != NO_TARGET])
    assert np.array_equal(mixed["input_ids"][~is_answer], rows[3]["input_ids"][rows[3]["labels"] == NO_TARGET])
    own, other = alignment.answer_nats(model, [rows[5], mixed])
    assert own != other and alignment.answer_nats(model, [mixed])[0] == pytest.approx(other, rel=1e-4)
