"""Every command of docs/qwen.md, in its order, on a random Qwen3 of two layers and a hundred films."""

import contextlib
import csv
import io
import re
import shlex
import sys
from pathlib import Path

import pytest

from llmrec.data.dataset_objects import interactions_to_dataset
from llmrec.data.folder import load_data
from tests.apps.calling import call
from tests.tiny import tiny_backbone

PAGE = (Path(__file__).parents[1] / "docs" / "qwen.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# What makes it short; the page's own words stay.
SHORTER = {
    "tokenize": ["--codebook-size", "8"],
    "train": ["training.max_steps=4", "training.evaluate_every=4", "validation.max_users=4", "validation.num_beams=5"],
    "eval": ["--max-users", "20", "--num-beams", "5"],
}


@pytest.fixture
def place(few_items, tmp_path, monkeypatch):
    """The folder that the page begins with: models/Qwen3-0.6B, items.csv, events.csv."""
    model = tiny_backbone("qwen3")
    for part in (model.causal_lm, model.tokenizer):
        part.save_pretrained(tmp_path / "models" / "Qwen3-0.6B")
    data = load_data(few_items)
    rows = [{**row, "genres": "|".join(row["genres"] or [])} for row in data.catalog.table.to_pylist()]
    with (tmp_path / "items.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    interactions_to_dataset(data.interactions, data.catalog, data.user_ids).to_csv(tmp_path / "events.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_page_does_what_the_page_says(place, capsys):
    said = {}
    for language, block in BLOCKS:
        if language:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block, "qwen.md", "exec"), {})
            said["python"] = out.getvalue()
            continue
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            assert words[0] == "llmrec", line
            words, target = (words[1:-2], words[-1]) if words[-2] == ">" else (words[1:], None)
            done = call(capsys, *words, *SHORTER.get(words[0], []))
            assert done.status == 0, (line, done.err)
            said[words[0]] = done.out
            if target:
                (place / target).write_text(done.out)
    assert list(said) == ["data", "tokenize", "train", "prompts", "eval", "recommend", "score", "export", "python"]
    assert len(re.findall(r"^ *\d+\. ", said["recommend"], re.MULTILINE)) == 10
    assert (place / "runs/qwen-report.html").is_file()
    by_us, by_transformers = (float(re.findall(r"-\d+\.\d+", said[name])[0]) for name in ("score", "python"))
    assert by_us == pytest.approx(by_transformers, abs=2e-3)
