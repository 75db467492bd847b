"""The command line as a whole: quick help, versions, how mistakes, crashes and Ctrl-C end."""

import signal
import subprocess
import sys
import textwrap

import pytest

from llmrec import __version__
from llmrec.apps import recommend_commands
from llmrec.apps.cli import main
from tests.apps.calling import assert_one_sentence, call, call_alone, command

COMMANDS = ["demo", "data check", "data prepare", "tokenize", "train", "recommend", "score", "image", "chat", "add-items", "eval",
            "export", "recipes", "prompts", "tasks"]  # fmt: skip


def test_no_help_and_no_version_loads_torch():
    code = f"""
        import sys
        from llmrec.apps.cli import main
        for arguments in {[*COMMANDS, "", "data"]!r}:
            try:
                main([*arguments.split(), "--help"])
            except SystemExit as end:
                assert not end.code, arguments
        try:
            main(["--version"])
        except SystemExit as end:
            assert not end.code
        heavy = {{"torch", "transformers", "numpy", "pyarrow", "faiss", "rapidfuzz", "matplotlib"}} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_shows_an_example(name, capsys):
    shown = call(capsys, *name.split(), "--help")
    assert shown.status == 0 and "Example" in shown.out and f"llmrec {name}" in shown.out


def test_version_by_both_doors(capsys):
    assert call(capsys, "--version").out == f"llmrec {__version__}\n"
    assert call_alone("--version").out == f"llmrec {__version__}\n"


def test_a_mistake_is_one_sentence_and_status_2():
    assert_one_sentence(call_alone("recommend", "/nowhere", "--history", "1"), "'/nowhere' does not exist")


def test_an_unknown_option_or_command_is_status_2(capsys):
    assert call(capsys, "recommend", "x", "--histroy", "1").status == 2
    assert call(capsys, "recomend").status == 2


def test_a_crash_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(recommend_commands, "Decoder", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["score", "x", "--candidate", "50"])


@pytest.mark.slow
def test_ctrl_c_is_status_130_and_quiet(tiny_run):
    process = subprocess.Popen(
        command("chat", tiny_run),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # as a terminal starts it; what runs in the background of a script inherits an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert "Loading" in process.stdout.readline() and "titles" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err and "Aborted" not in err


def test_a_mistake_cannot_steer_the_terminal(tiny_run, capsys):
    called = call(capsys, "recommend", tiny_run, "--history", "\x1b[31mred\x1b[0m")
    assert_one_sentence(called, r"no item id '\x1b[31mred\x1b[0m'")  # spelt out, not sent


@pytest.mark.parametrize(
    "words",
    [
        ("data", "prepare", "--items", "{0}", "--interactions", "{0}", "--out", "out"),
        ("data", "prepare", "--items", "items.csv", "--interactions", "items.csv", "--out", "{0}"),
        ("tokenize", "{0}"),
        ("features", "{0}"),
        ("eval", "{0}"),
        ("recommend", "{0}"),
        ("export", "{0}", "out"),
        ("export", "run", "{0}"),
        ("add-items", "{0}", "items.csv"),
        ("demo", "--out", "{0}"),
    ],
    ids=" ".join,
)
def test_a_name_of_300_letters_is_a_sentence_wherever_a_path_is_taken(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    called = call(capsys, *(word.format("n" * 300) for word in words))
    assert called.status == 2 and "Traceback" not in called.err, called.err
    assert not list(tmp_path.iterdir())
