"""Both orders of events of one moment: what is shuffled, what stays, and what cannot be."""

import numpy as np
import pytest

from llmrec.data.folder import load_data
from llmrec.data.prepare import prepare
from llmrec.errors import ConfigError
from llmrec.evaluation.ties import with_shuffled_ties
from tests.apps.calling import assert_one_sentence, call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every user has items n, n + 1 at one time again and again: in the file's order the chain is perfect."""
    folder = tmp_path_factory.mktemp("ties")
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"{n},Title {n}\n" for n in range(30)))
    events = [f"{u},{(u + n) % 30},{n // 5}\n" for u in range(60) for n in range(10)]
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + "".join(events))
    (folder / "steps.csv").write_text("user_id,item_id\n" + "".join(line.rpartition(",")[0] + "\n" for line in events))
    prepare(folder / "items.csv", folder / "events.csv", folder / "data")
    return folder


def test_only_the_order_within_a_moment_changes_and_a_seed_repeats_it(folder):
    data = load_data(folder / "data")
    shuffled, again, other = (with_shuffled_ties(data, seed).interactions for seed in (0, 0, 1))
    assert np.array_equal(shuffled.items, again.items) and not np.array_equal(shuffled.items, other.items)
    assert not np.array_equal(shuffled.items, data.interactions.items)
    assert np.array_equal(shuffled.times, data.interactions.times)
    moments = [
        np.sort(events.items.reshape(-1, 5), axis=1) for events in (shuffled, data.interactions)
    ]  # five at a time
    assert np.array_equal(*moments)
    assert with_shuffled_ties(data).card["content_hash"] != data.card["content_hash"]


def test_a_baseline_stands_under_both_orders_in_one_table(folder, capsys):
    asked = ["eval", "--baseline", "markov", "--data", folder / "data", "--both-ties"]
    found = call(capsys, *asked, "--json").json
    of_file, shuffled = found["ties"]["file"], found["ties"]["shuffle"]
    assert of_file["metrics"]["recall@1"]["value"] == 1 > shuffled["metrics"]["recall@1"]["value"]
    assert of_file["metrics"] == call(capsys, *asked[:-1], "--json").json["metrics"]
    assert found["counts"] == {"tied_events": 480, "users_with_tied_last_event": 60}
    assert shuffled["protocol"]["ties"]["time"] == {"policy": "shuffle", "seed": 0}
    shown = call(capsys, *asked)
    assert "file's order" in shown.out and "shuffled by seed 0" in " ".join(shown.out.split())


def test_what_has_no_other_order_is_one_sentence(folder, tiny_run, tmp_path, capsys):
    prepare(folder / "items.csv", folder / "events.csv", tmp_path / "shuffled", ties="shuffle")
    prepare(folder / "items.csv", folder / "steps.csv", tmp_path / "steps")
    with pytest.raises(ConfigError, match="has no times"):
        with_shuffled_ties(load_data(tmp_path / "steps"))
    called = call(capsys, "eval", "--baseline", "markov", "--data", tmp_path / "shuffled", "--both-ties")
    assert_one_sentence(called, "lacks the file's order")
    assert_one_sentence(call(capsys, "eval", tiny_run, "--both-ties"), "a run has learned from one")
