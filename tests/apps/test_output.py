import pytest

from llmrec.apps.output import check_writable
from llmrec.errors import LlmrecError


def test_places_that_cannot_be_written_are_said_before_the_work(tmp_path):
    check_writable(tmp_path / "new" / "report.html")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(LlmrecError, match="cannot write"):
        check_writable(tmp_path / "file" / "report.html")
    with pytest.raises(LlmrecError, match="a folder lies there"):
        check_writable(tmp_path)
