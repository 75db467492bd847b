"""Who ends with whom, and one process a folder: real processes, real signals."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from llmrec.errors import LlmrecError
from llmrec.processes import PARENT, end_with_parent, in_turn, only_one

CHILD = "import time; from llmrec.processes import end_with_parent; end_with_parent(); print('ready', flush=True); time.sleep(60)"
LAUNCHER = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
START = (
    "import subprocess, sys, time; from llmrec.processes import with_parent; "
    "subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], env=with_parent()); time.sleep(60)"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("started", [[CHILD], [LAUNCHER, CHILD]])
def test_whatever_ends_the_parent_ends_the_child_and_what_a_launcher_between_them_started(number, started):
    parent = subprocess.Popen(
        [sys.executable, "-c", START, *started],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # as a terminal starts it; what runs in the background of a script inherits ignored signals
        preexec_fn=lambda: [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGHUP)],
    )
    assert parent.stdout.readline() == "ready\n"
    os.kill(parent.pid, number)  # and to nobody else
    assert parent.stdout.read() == "", "all who could write there have ended"
    assert parent.wait() != 0


def test_a_process_whose_parent_asks_for_nothing_stays(monkeypatch):
    for value in ("", "mine"):
        monkeypatch.setenv(PARENT, value)
        end_with_parent()
    time.sleep(0.3)


def test_a_folder_has_one_at_a_time_and_is_left_only_where_something_is_in_it(tmp_path):
    folder = tmp_path / "runs" / "run"
    with (
        only_one(folder),
        pytest.raises(LlmrecError, match=r"another process is training in '.*run'"),
        only_one(folder),
    ):
        pass
    assert not folder.exists(), "nothing was written"
    with only_one(folder):
        (folder / "config.yaml").write_text("")
    with only_one(folder):
        assert folder.exists()
    assert (folder / "config.yaml").exists()
    with pytest.raises(LlmrecError, match="a file lies where a folder should be"), only_one(folder / "config.yaml"):
        pass


def test_who_comes_second_waits_for_its_turn(tmp_path):
    order = []

    def second():
        with in_turn(tmp_path):
            order.append("second")

    with in_turn(tmp_path):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.3)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"] and not list(tmp_path.iterdir())
