"""Two kill points of each command; `make drill` tries all of them."""

import subprocess
import sys

import pytest

COMMANDS = (
    "prepare",
    "tokenize",
    "enrich",
    "add-items",
    "add-items, put back",
    "export",
    "eval, json",
    "recommend",
    "train",
)


@pytest.mark.slow
def test_a_killed_command_loses_nothing_and_started_again_comes_to_the_same_result():
    done = subprocess.run(
        [sys.executable, "-m", "tests.drill", "--points", "2", "--only", *COMMANDS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{2 * len(COMMANDS)} kills, 0 wrong" in done.stdout
