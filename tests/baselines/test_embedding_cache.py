"""Item embeddings on disk: read where they fit, made again where anything is different or damaged."""

import numpy as np
import pytest

from llmrec.baselines.ease_r import LowRankEaseR
from llmrec.baselines.item_embeddings import collaborative_embeddings
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError


@pytest.fixture
def fits(tmp_path, monkeypatch) -> list[Interactions]:
    """What EASE-R was really fitted on, with an empty cache."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    done, fit = [], LowRankEaseR.fit
    monkeypatch.setattr(LowRankEaseR, "fit", lambda self, events: done.append(events) or fit(self, events))
    return done


def embeddings(train: Interactions, dim: int) -> np.ndarray:
    return collaborative_embeddings("ease_r", train, dim)[0]


def events(seed: int = 0, num_items: int = 12) -> Interactions:
    """20 users with five items each."""
    items = np.random.default_rng(seed).integers(0, num_items, 100).astype(np.int32)
    return Interactions(np.arange(0, 101, 5), items, num_items)


def test_a_second_call_reads_the_very_numbers_of_the_first(fits):
    first = embeddings(events(), 4)
    second = embeddings(events(), 4)
    assert len(fits) == 1 and np.array_equal(first, second) and second.dtype == np.float32
    assert np.array_equal(first, LowRankEaseR(dim=4).fit(events()).item_embeddings())


@pytest.mark.parametrize(
    "other",
    [
        lambda: embeddings(events(seed=1), 4),
        lambda: embeddings(Interactions(np.arange(0, 101, 10), events().items, 12), 4),  # other users
        lambda: embeddings(Interactions(events().indptr, events().items, 13), 4),  # one more item
        lambda: embeddings(events(), 5),
    ],
)
def test_other_events_or_settings_are_fitted_anew(fits, other):
    embeddings(events(), 4)
    other()
    assert len(fits) == 2


def test_another_version_of_the_code_is_fitted_anew(fits, monkeypatch):
    embeddings(events(), 4)
    monkeypatch.setattr("llmrec.baselines.item_embeddings.VERSION", 0)
    embeddings(events(), 4)
    assert len(fits) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "not safetensors"])
def test_a_damaged_file_is_said_to_be_and_made_again(fits, damage, tmp_path, capsys):
    first = embeddings(events(), 4)
    (path,) = (tmp_path / "cache" / "ease_r").iterdir()
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
    path.write_bytes({"cut": content[:-8], "flipped": content, "not safetensors": b"{}"}[damage])
    assert np.array_equal(embeddings(events(), 4), first) and len(fits) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "are damaged" in said[0] and "computed again" in said[0]
    embeddings(events(), 4)
    assert len(fits) == 2 and not capsys.readouterr().err


def test_too_many_dimensions_leave_no_file(fits, tmp_path):
    with pytest.raises(ConfigError, match="1 to 12 dimensions"):
        embeddings(events(), 13)
    assert not (tmp_path / "cache").exists()
