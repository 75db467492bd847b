"""Sentences quote what files and people wrote, and stay one line of bearable length."""

from llmrec.errors import DataError, LlmrecError


def test_line_breaks_and_control_characters_of_a_quoted_name_are_spelt_out():
    error = DataError("the items need a column 'item_id' but have only: a\nb, \x1b[2J, \u202egnihton. Add it.")
    assert str(error) == "the items need a column 'item_id' but have only: a\\nb, \\x1b[2J, \\u202egnihton. Add it."
    assert isinstance(error, LlmrecError)


def test_a_long_sentence_keeps_what_was_expected_and_what_to_do():
    whole = f"expected a catalogue, found '{'x' * 10**6}'. Name another."
    sentence = str(LlmrecError(whole))
    assert len(sentence) < 2000
    assert sentence.startswith("expected a catalogue, found 'xxx") and sentence.endswith("xxx'. Name another.")
    assert f" ... ({len(whole) - 1800:,} characters left out) ... " in sentence


def test_a_sentence_of_plain_words_is_left_as_it_is():
    assert str(LlmrecError("expected «a», found 'é😀漢'. Choose.")) == "expected «a», found 'é😀漢'. Choose."
