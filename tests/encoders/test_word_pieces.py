"""Titles in word pieces: what the sentence encoder's own tokenizer says, numbered for the catalogue."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from llmrec.encoders.text import find_encoder
from llmrec.encoders.word_pieces import word_pieces
from llmrec.errors import ModelError

TITLES = ["The Sunflower hunt", "sunflower, the movie", "", "[CLS] tale"]


def test_pieces_are_those_of_the_tokenizer_numbered_from_one():
    tokenizer = AutoTokenizer.from_pretrained(find_encoder("all-MiniLM-L6-v2").path)
    found = word_pieces(TITLES)
    expected = [tokenizer(title, add_special_tokens=False, split_special_tokens=True)["input_ids"] for title in TITLES]
    known = sorted({piece for pieces in expected for piece in pieces})
    assert found.num_pieces == len(known) and found.rows.dtype == np.int32 and not found.rows[2].any()
    for row, pieces in zip(found.rows, expected, strict=True):
        assert [known[number - 1] for number in row if number] == pieces
    assert tokenizer.cls_token_id not in known  # a title is words, whatever it says
    assert set(found.rows[0][found.rows[0] > 0]) & set(found.rows[1])  # "the" and what "sunflower" is made of


def test_long_titles_are_cut_and_no_title_at_all_is_no_error():
    assert word_pieces(["a b c d e f", "a"], max_pieces=4).rows.shape == (2, 4)
    nothing = word_pieces(["", ""])
    assert nothing.num_pieces == 0 and nothing.rows.shape == (2, 1) and not nothing.rows.any()


def test_a_model_that_is_not_there_is_refused_in_words(tmp_path):
    with pytest.raises(ModelError):
        word_pieces(["a"], str(tmp_path))
