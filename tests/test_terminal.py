"""Texts from hallucinated_titles on a terminal."""

import warnings

import pytest

from llmrec import terminal
from llmrec.terminal import printable, say_warnings_in_sentences


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


def test_a_warning_of_our_own_is_one_line_and_others_stay_as_they_are(monkeypatch):
    before = warnings.formatwarning
    monkeypatch.setattr(warnings, "formatwarning", before)  # put back afterwards
    say_warnings_in_sentences()
    assert warnings.formatwarning("a\ntitle", UserWarning, terminal.__file__, 3) == "warning: a title\n"
    for other in ((UserWarning, "/elsewhere/package.py"), (DeprecationWarning, terminal.__file__)):
        assert warnings.formatwarning("old", *other, 3, "code()") == before("old", *other, 3, "code()")
