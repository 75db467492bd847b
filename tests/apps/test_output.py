import pytest

from llmrec.apps.output import check_writable, printable
from llmrec.errors import LlmrecError


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


def test_places_that_cannot_be_written_are_said_before_the_work(tmp_path):
    check_writable(tmp_path / "new" / "report.html")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(LlmrecError, match="cannot write"):
        check_writable(tmp_path / "file" / "report.html")
    with pytest.raises(LlmrecError, match="a folder lies there"):
        check_writable(tmp_path)
