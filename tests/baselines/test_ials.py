"""iALS against its own objective, the solution of its normal equations, and what it has to learn."""

import numpy as np
import pytest

from llmrec import memory
from llmrec.baselines import ials
from llmrec.baselines.baseline import DoesNotFit
from llmrec.baselines.ials import Ials
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError
from llmrec.recommenders.requests import Requests
from tests.baselines.test_by_name import checkerboard


def random_events(num_items=15):
    """30 users with one to eight events each, some twice with one item; the last item is nobody's."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, num_items - 1, rng.integers(1, 9)).tolist() for _ in range(30)]
    histories = Histories.from_lists(rows)
    return Interactions(histories.indptr, histories.items, num_items)


def counts_of(data):
    counts = np.zeros((data.num_users, data.num_items))
    np.add.at(counts, (np.repeat(np.arange(data.num_users), data.lengths), data.items), 1)
    return counts


def test_the_withheld_cell_of_a_checkerboard_ranks_first():
    data, history, withheld = checkerboard()
    model = Ials(dim=4, regularisation=1.0).fit(data)
    assert model.rank(Requests(Histories.from_lists([history])), 1, exclude_seen=True).items.tolist() == [[withheld]]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_every_iteration_lowers_the_objective_of_the_paper(exponent):
    data = random_events()
    values = [
        Ials(dim=4, frequency_exponent=exponent, iterations=number).fit(data).objective(data) for number in (1, 2, 4, 8)
    ]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]
    model, counts = Ials(dim=4, alpha=3.0, frequency_exponent=exponent, iterations=3).fit(data), counts_of(data)
    of_users, of_items = (3 * counts.sum(axis=1) + 15) ** exponent, (3 * counts.sum(axis=0) + 30) ** exponent
    mean = np.concatenate([of_users, of_items[:14]]).mean()  # item 14 has no event
    errors = (counts > 0) - model.user_vectors @ model.item_vectors.T
    sizes = (of_users / mean) @ (model.user_vectors**2).sum(axis=1) + (of_items / mean) @ (model.item_vectors**2).sum(
        axis=1
    )
    by_hand = ((1 + 3 * counts) * errors**2).sum() + model.settings.regularisation * sizes
    assert model.objective(data) == pytest.approx(by_hand)


@pytest.mark.parametrize("dim", [3, 20])  # rows with more items than dimensions, and with fewer
def test_half_steps_solve_the_normal_equations_of_every_row(dim, monkeypatch):
    monkeypatch.setattr(ials, "_NUMBERS_AT_ONCE", 40)  # batches of one row and of several
    data, counts = random_events(), counts_of(random_events())
    model = Ials(dim=dim, alpha=5.0, regularisation=2.0, iterations=2).fit(data)
    x = model.user_vectors
    for item in range(14):
        weights = 1 + 5 * counts[:, item]
        expected = np.linalg.solve(
            x.T @ (weights[:, None] * x) + 2 * np.eye(dim), x.T @ (weights * (counts[:, item] > 0))
        )
        assert model.item_vectors[item] == pytest.approx(expected, abs=1e-10)
    assert not model.item_vectors[14].any()


def test_a_request_is_folded_in_as_a_user_whose_history_it_is_and_no_user_number_counts():
    data = random_events()
    model = Ials(dim=4).fit(data)
    requests = Requests(data.histories)
    folded = model.scores(requests)
    user = counts_of(data)[3]
    y, weights = model.item_vectors, 1 + 20 * user
    vector = np.linalg.solve(y.T @ (weights[:, None] * y) + 10 * np.eye(4), y.T @ (weights * (user > 0)))
    assert folded[3] == pytest.approx(y @ vector, abs=1e-10)
    assert not model.scores(Requests(Histories.from_lists([[]]))).any()


def test_items_after_the_request_change_nothing_and_a_seed_repeats():
    data = random_events()
    model, history = Ials(dim=4, seed=7).fit(data), [3, 1]
    first = model.scores(Requests(Histories.from_lists([history])))
    both = model.scores(Requests(Histories.from_lists([history, [*history, 5]])))
    assert both[0] == pytest.approx(first[0], abs=1e-12) and not np.allclose(both[1], first[0])
    assert np.array_equal(model.item_vectors, Ials(dim=4, seed=7).fit(data).item_vectors)
    assert not np.allclose(model.item_vectors, Ials(dim=4, seed=8).fit(data).item_vectors)


def test_without_the_memory_it_is_refused_before_anything_is_allocated(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemAvailable: 1 kB\n")
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    with pytest.raises(DoesNotFit, match=r"iALS with 45 users and items of 256 dimensions needs .* are free"):
        Ials().fit(random_events())


def test_settings_that_cannot_be_are_refused_in_words():
    with pytest.raises(ConfigError, match="'regularisation' of ials"):
        Ials(dim=4, regularisation=0)
    with pytest.raises(ConfigError, match="'frequency_exponent' of ials"):
        Ials(frequency_exponent=2)
