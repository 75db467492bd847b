"""What commands show: lines break between words."""

import pytest

from llmrec.apps.output import Screen

TEXT = "A quiet film about two brothers who inherit an old cinema and its only guest."


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_line_that_grows_breaks_between_words(size):
    shown: list[str] = []
    screen = Screen(shown.append, 20)
    for start in range(0, len(TEXT), size):
        screen.write(TEXT[start : start + size])
    screen.say("")
    lines = "".join(shown).splitlines()
    assert " ".join(line.strip() for line in lines) == TEXT and max(map(len, lines)) <= 20 and len(lines) > 3


def test_a_text_keeps_its_indent_and_its_words():
    shown: list[str] = []
    Screen(shown.append, 24).say("You may like:\n   1. The Empire Strikes Back (1980)")
    assert "".join(shown).splitlines() == ["You may like:", "   1. The Empire Strikes", "     Back (1980)"]


def test_a_word_longer_than_the_line_is_shown_whole():
    shown: list[str] = []
    screen = Screen(shown.append, 5)
    screen.write("abcdefghij kl")
    screen.say("")
    assert "".join(shown).split() == ["abcdefghij", "kl"]
