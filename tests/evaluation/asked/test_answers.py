"""What was written, read as items; lists of items, read as codes."""

import numpy as np
import pytest

from llmrec.evaluation.asked.answers import TitleReader, read_number, shares_of
from llmrec.evaluation.code_hits import code_hits, shared_codes
from llmrec.items.semantic_ids import SemanticIDs


@pytest.mark.parametrize(
    ("line", "item"),
    [
        ("Alien", 0), ('"alien".', 0), ("1. Alien", 0), ("- **Brazil**", 1), ("12 Monkeys", 2), ("2) 12 monkeys", 2),
        ("Aliens", None), ("", None), ("I would choose Alien", None), ("Brazil\n", 1),
    ],
)  # fmt: skip
def test_a_line_names_an_item_by_its_whole_title(line, item):
    assert TitleReader(["Alien", "Brazil", "12 Monkeys", "Alien"]).item(line) == item


def test_a_ranked_list_repeats_what_was_seen_and_what_it_named_before():
    reader = TitleReader(["Alien", "Brazil", "Casablanca"])
    lines = ["1. Brazil", "2. Alien", "3. Brazil", "4. Dune", "5. Casablanca"]
    statuses = reader.statuses(lines, seen=np.array([0]))
    assert statuses == ["valid", "repeated", "repeated", "none", "valid"]
    assert shares_of(statuses) == {"answers": 5, "valid": 2, "repeated": 2, "none": 1, "validity": 0.4}
    assert shares_of([])["validity"] is None


@pytest.mark.parametrize(
    ("text", "place"), [("3", 2), ("Number 2, because", 1), ("0", None), ("4", None), ("", None), ("9" * 5000, None), ("none", None)]
)  # fmt: skip
def test_an_answer_names_a_candidate_by_its_number(text, place):
    assert read_number(text, 3) == place


def test_items_that_differ_in_the_last_code_alone_are_hits_by_codes_and_not_by_items():
    ids = SemanticIDs(np.array([[0, 0], [0, 1], [1, 0], [1, 2]], np.int32), (2, 3))
    codes = shared_codes(ids)
    assert codes[0] == codes[1] != codes[2] == codes[3]
    lists, targets = np.array([[1, 2], [2, 3], [2, -1]]), np.array([0, 3, 1])
    found = code_hits(lists, targets, codes, (1, 2))
    assert found["code_recall@1"].tolist() == [1.0, 1.0, 0.0] and found["code_recall@2"].tolist() == [1.0, 1.0, 0.0]
    by_items = (lists == targets[:, None]).any(axis=1)
    assert (found["code_recall@2"] >= by_items).all() and by_items.tolist() == [False, True, False]
