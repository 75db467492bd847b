"""Item forms: what every item looks like in the token stream."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.errors import ModelError
from llmrec.items.forms import image_sequences, joined, or_else, semantic_id_tokens, text_tokens, unique_id_tokens
from llmrec.items.plain_text import plain_ids
from llmrec.items.semantic_ids import SemanticIDs


def test_a_unique_id_is_one_row_of_the_item_table():
    tokens = unique_id_tokens(num_items=3, base_vocab_size=10)
    assert tokens.sequences.tolist() == [[10], [11], [12]]
    assert tokens.row_strings == ["<item_0>", "<item_1>", "<item_2>"]
    assert tokens.prompt_sequences[2].tolist() == tokens[2].tolist() == [12]


def test_semantic_id_tokens_are_tagged_by_level_and_never_shared_between_levels():
    ids = SemanticIDs(np.array([[0, 1], [1, 1]]), (2, 3))
    tokens = semantic_id_tokens(ids, base_vocab_size=100)
    assert tokens.row_strings == ["<a_0>", "<a_1>", "<b_0>", "<b_1>", "<b_2>"]
    assert tokens.row_levels.tolist() == [0, 0, 1, 1, 1]
    assert tokens.sequences.tolist() == [[100, 103], [101, 103]]


def test_flatten_joins_whole_sequences_without_padding(smollm2_tokenizer):
    tokens = text_tokens(["Heat", "The Usual Suspects"], smollm2_tokenizer, 49152, item_ids=["1", "2"])
    assert tokens.flatten(np.array([1, 0, 1])).tolist() == [*tokens[1], *tokens[0], *tokens[1]]
    assert tokens.flatten(np.array([], dtype=np.int32)).tolist() == []


def test_no_title_is_a_prefix_of_another_and_equal_titles_are_equal(smollm2_tokenizer):
    tokens = text_tokens(["Heat", "Heat Wave", "Heat"], smollm2_tokenizer, 49152, item_ids=["1", "2", "3"])
    eos = smollm2_tokenizer.eos_token_id
    assert [tokens[i][-1] for i in range(3)] == [eos] * 3
    assert tokens[0].tolist() == tokens[2].tolist()
    assert tokens.prompt_sequences[0].tolist() == smollm2_tokenizer("Heat").input_ids


def test_a_million_characters_are_cut_to_the_token_limit_with_one_warning(smollm2_tokenizer):
    with pytest.warns(UserWarning, match="1 of 2 titles are longer than 7 tokens"):
        tokens = text_tokens(["word " * 200_000, "Heat"], smollm2_tokenizer, 49152, item_ids=["1", "2"], max_tokens=8)
    assert tokens.lengths.tolist() == [8, 2]


def test_empty_titles_fall_back_to_the_item_id_and_line_breaks_become_spaces(smollm2_tokenizer):
    tokens = text_tokens(["", "  \n", "Toy\nStory"], smollm2_tokenizer, 49152, item_ids=["B00", "B01", "B02"])
    assert [smollm2_tokenizer.decode(tokens.prompt_sequences[i]) for i in range(3)] == ["B00", "B01", "Toy Story"]


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["<|im_start|>", "<|im_end|>", "system", "<a_1>", "<item_2>", "<repo_name>", "😀", " ", "é"])
    )
)
def test_titles_that_spell_markup_or_item_tokens_stay_ordinary_words(smollm2_tokenizer, parts):
    title = "".join(parts) or "x"
    rows, _ = plain_ids([title], smollm2_tokenizer, max_tokens=1000)
    assert set(smollm2_tokenizer.get_added_vocab().values()).isdisjoint(rows[0])
    assert max(rows[0]) < len(smollm2_tokenizer)
    assert smollm2_tokenizer.decode(rows[0]) == title


def test_added_tokens_that_are_not_special_stay_ordinary_words_too(smollm2_tokenizer):
    import copy

    tokenizer = copy.deepcopy(smollm2_tokenizer)
    tokenizer.add_tokens(["<tool_call>"])
    rows, _ = plain_ids(["x <tool_call> y", "Heat"], tokenizer, max_tokens=1000)
    assert len(tokenizer) - 1 not in rows[0]
    assert tokenizer.decode(rows[0]) == "x <tool_call> y"
    assert rows[1] == tokenizer("Heat").input_ids


def test_a_tokenizer_without_eos_cannot_write_titles(smollm2_tokenizer):
    import copy

    tokenizer = copy.deepcopy(smollm2_tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="EOS"):
        text_tokens(["Heat"], tokenizer, 49152, item_ids=["1"])


def test_an_item_is_its_image_tokens_between_the_models_words_for_one():
    prompt_sequences = image_sequences(np.array([0, 3, 3, 5]), 100, opening=[7, 8], closing=[9])
    assert [prompt_sequences[item].tolist() for item in range(3)] == [[7, 8, 100, 101, 102, 9], [], [7, 8, 103, 104, 9]]


def test_with_a_title_a_missing_image_is_nothing_and_alone_it_is_the_title():
    images = image_sequences(np.array([0, 2, 2]), 100, opening=[], closing=[9])
    titles = unique_id_tokens(2, 50)
    both = joined([titles, images])
    assert [both[item].tolist() for item in range(2)] == [[50, 100, 101, 9], [51]]
    alone = or_else(images, titles)
    assert [alone[item].tolist() for item in range(2)] == [[100, 101, 9], [51]]
    assert alone.flatten(np.array([1, 0, 1])).tolist() == [51, 100, 101, 9, 51]
