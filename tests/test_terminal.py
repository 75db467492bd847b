"""Texts from hallucinated_titles on a terminal."""

import pytest

from llmrec.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Plain Title (1995)", "Plain Title (1995)"),
        ("\x1b[31mRed\x1b[0m Dawn", "Red Dawn"),
        ("\x1b]8;;http://evil\x1b\\Click\x1b]8;;\x1b\\ here", "Click here"),
        ("\x1b]0;window title\x07The Net", "The Net"),
        ("two\nlines\tand\r\nmore", "two lines and more"),
        ("\x9b2JCleared", "Cleared"),
        ("bell\x07 back\x08space\x00", "bell backspace"),
        ("gpj.\u202eexe", "gpj.exe"),
        ("[bold]not markup[/bold]", "[bold]not markup[/bold]"),
        ("Cité 東京 👩‍🚀", "Cité 東京 👩‍🚀"),
    ],
)
def test_texts_are_shown_without_what_steers_a_terminal(text, shown):
    assert printable(text) == shown
