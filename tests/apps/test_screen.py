"""What a terminal is shown: lines break between words, and wide characters count twice."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from llmrec.apps.screen import Screen

TEXT = "A quiet film about two brothers who inherit an old cinema and its only guest."


def a_screen(width: int) -> tuple[Screen, io.StringIO]:
    """A screen of this many columns, and what it showed."""
    shown = io.StringIO()
    return Screen(Console(file=shown, width=width, highlight=False)), shown


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_line_that_grows_breaks_between_words(size):
    screen, shown = a_screen(20)
    for start in range(0, len(TEXT), size):
        screen.write(TEXT[start : start + size])
    screen.say("")
    lines = shown.getvalue().splitlines()
    assert " ".join(line.strip() for line in lines) == TEXT and max(map(len, lines)) <= 20 and len(lines) > 3


def test_a_text_keeps_its_indent_and_its_words():
    screen, shown = a_screen(24)
    screen.say("You may like:\n   1. The Empire Strikes Back (1980)")
    assert shown.getvalue().splitlines() == ["You may like:", "   1. The Empire Strikes", "     Back (1980)"]


def test_a_word_longer_than_the_line_is_shown_whole():
    screen, shown = a_screen(5)
    screen.write("abcdefghij kl")
    screen.say("")
    assert shown.getvalue().split() == ["abcdefghij", "kl"]


@pytest.mark.parametrize("width", [9, 10, 17, 40])
def test_wide_characters_take_two_columns(width):
    title = "  1. 千と千尋の神隠し、そして もののけ姫 (1997)"
    screen, shown = a_screen(width)
    screen.say(title)
    lines = shown.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(title.split())


def test_a_bracket_is_a_bracket_and_a_colour_stays_with_its_words():
    shown = io.StringIO()
    screen = Screen(Console(file=shown, width=20, highlight=False, force_terminal=True, color_system="standard"))
    screen.say(Text.assemble("[red]", ("understood: not Horror at all", "cyan"), " :smile:"))
    plain = shown.getvalue()
    assert "[red]" in plain and ":smile:" in plain
    assert plain.count("\x1b[36m") == 2  # once on each line that has words of it
