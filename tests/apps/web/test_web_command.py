"""`llmrec web` as it is started."""

import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from llmrec.apps.web.runs import data_folder, shelf_of
from llmrec.data.folder import load_data
from llmrec.errors import ConfigError
from llmrec.files import read_json, write_json
from tests.apps.calling import call, command


@pytest.mark.slow
def test_the_command_says_where_the_page_is_and_ctrl_c_ends_it(tiny_run):
    process = subprocess.Popen(
        command("web", tiny_run, "--port", 0, "--device", "cpu"), stderr=subprocess.PIPE, text=True
    )
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"Open (http://127\.0\.0\.1:\d+) in a browser", line):
                break
        assert [line.split()[0] for line in said] == ["Loading", "Indexing", "Open"]
        with urllib.request.urlopen(found[1], timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130 and "Traceback" not in process.stderr.read()
    finally:
        process.kill()


def test_without_gradio_the_command_says_what_to_install(tiny_run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    called = call(capsys, "web", tiny_run)
    assert called.status == 2 and "pip install 'llmrec[web]'" in called.err


def test_pictures_lie_in_the_data_folder_of_the_run_unless_they_are_the_demo_s_stand_ins(tiny_run, few_users, tmp_path):
    assert data_folder(tiny_run) == few_users
    run, data = tmp_path / "run", tmp_path / "data"
    (run / "model").mkdir(parents=True)
    (run / "model" / "manifest.json").write_text("{}")
    (run / "config.yaml").write_text(f"data: {data}\n")
    assert data_folder(run) is None
    data.mkdir()
    card = read_json(load_data(few_users).folder / "data.json")
    write_json(data / "data.json", card | {"sources": {"items": "posters-1.jsonl"}})
    assert data_folder(run) == data
    write_json(data / "data.json", card | {"sources": {"items": "title_cards.jsonl"}})
    assert data_folder(run) is None
    with pytest.raises(ConfigError, match="is no folder"):
        shelf_of([run], [], tmp_path / "nowhere")
