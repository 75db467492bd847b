"""Mixtures: how many rows of which source, and that nothing but seed and epoch decides it."""

from itertools import chain

import numpy as np
import pytest

from llmrec.errors import ConfigError, DataError
from llmrec.items.forms import NO_TARGET
from llmrec.prompting.mixture import Mixture, Source, share_lines
from llmrec.training.samplers import BranchSampler, LengthSampler, MixtureSampler


class Counted:
    """Row r of source s is the ids [s, r, 0, 0, ...]: `scale` tokens for each unit of its length, and its last two are targets."""

    def __init__(self, number: int, lengths: list[int], *, scale: int = 1, users=None):
        self.number, self.lengths, self.scale = number, lengths, scale
        self.users = np.arange(len(lengths)) if users is None else users

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        ids = np.zeros(2 + self.scale * self.lengths[row], dtype=np.int32)
        ids[:2] = self.number, row
        labels = ids.astype(np.int64)
        labels[:-2] = NO_TARGET
        return {"input_ids": ids, "labels": labels}


def names(mixture: Mixture) -> list[tuple[int, int]]:
    return [tuple(row["input_ids"][:2].tolist()) for row in mixture]


def sources(**times: float) -> list[Source]:
    rng = np.random.default_rng(0)
    lengths = {"a": rng.integers(1, 60, 100).tolist(), "b": rng.integers(1, 12, 40).tolist(), "c": [3] * 10}
    scales = {"a": 1, "b": 10, "c": 1}
    return [
        Source(name, Counted(number, lengths[name], scale=scales[name]), times[name])
        for number, name in enumerate(lengths)
        if name in times
    ]


def test_every_row_comes_as_often_as_its_source_says():
    mixture = Mixture(sources(a=1, b=2.5, c=0), seed=0)
    found = names(mixture)
    assert len(mixture) == len(found) == 100 + 100
    counts = {name: found.count(name) for name in set(found)}
    assert [counts[0, row] for row in range(100)] == [1] * 100
    assert sorted(counts[1, row] for row in range(40)) == [2] * 20 + [3] * 20
    assert not any(number == 2 for number, _ in found)


def test_the_seed_alone_decides_the_draw_and_a_new_source_leaves_the_others_as_they_were():
    sampled = names(Mixture(sources(a=0.3, b=0.5), seed=1))
    assert names(Mixture(sources(a=0.3, b=0.5), seed=1)) == sampled
    assert names(Mixture(sources(a=0.3, b=0.5), seed=2)) != sampled
    more = names(Mixture(sources(a=0.3, b=0.5, c=1), seed=1))
    assert [name for name in more if name[0] != 2] == sampled
    assert len(set(sampled)) == len(sampled) == 30 + 20


def test_each_epoch_draws_other_rows_and_all_have_come_once_before_one_comes_twice():
    mixture, sampled = Mixture(sources(a=0.25, b=1.5), seed=1), []
    assert names(mixture) == names(Mixture(sources(a=0.25, b=1.5), seed=1))
    for epoch in range(8):
        mixture.draw(epoch)
        sampled.append(names(mixture))
        assert len(mixture) == len(mixture.lengths) == 25 + 60
        assert mixture.lengths == [len(row["input_ids"]) for row in mixture]
        assert mixture.shares() == Mixture(sources(a=0.25, b=1.5), seed=1).shares()
    of_a = [[row for number, row in epoch if number == 0] for epoch in sampled]
    assert sorted(chain(*of_a[:4])) == sorted(chain(*of_a[4:])) == list(range(100))
    assert len({tuple(rows) for rows in of_a}) == 8
    twice = [sorted(row for number, row in epoch if number == 1) for epoch in sampled[:2]]
    assert sorted(twice[0] + twice[1]) == sorted(list(range(40)) * 3)


@pytest.mark.parametrize("times", [0.3, 0.7, 2.4])
def test_parts_that_do_not_divide_one_come_as_often_all_the_same(times):
    mixture, counts = Mixture(sources(a=times), seed=3), np.zeros(100, int)
    for epoch in range(10):
        mixture.draw(epoch)
        for _, row in names(mixture):
            counts[row] += 1
    assert (counts == round(10 * times)).all()


def test_a_run_that_goes_on_meets_the_same_rows():
    """A second process makes mixture and sampler anew and is told the epoch, as a resumed training does."""
    orders = []
    for before in ([0, 1, 2], []):
        mixture = Mixture(sources(a=0.7, b=1.5), seed=5)
        sampler = MixtureSampler(mixture, lambda mixture=mixture: LengthSampler(8, mixture.lengths, seed=5))
        for epoch in [*before, 3]:
            sampler.set_epoch(epoch)
            order = [mixture[row]["input_ids"].tolist() for row in sampler]
        orders.append(order)
    assert orders[0] == orders[1] and len(orders[0]) == len(sampler) == 70 + 60


def test_lengths_are_tokens_whatever_unit_a_source_counts_in():
    mixture = Mixture(sources(a=1, b=1, c=1), seed=0)
    assert mixture.lengths == [len(row["input_ids"]) for row in mixture]


def test_batches_of_several_sources_have_rows_of_like_length():
    mixture = Mixture(sources(a=1, b=1), seed=0)
    true = np.array([len(row["input_ids"]) for row in mixture])

    def padding(order) -> int:
        return sum(int((batch.max() - batch).sum()) for batch in np.split(true[order], range(8, len(order), 8)))

    by_length = padding(list(LengthSampler(8, mixture.lengths, seed=0)))
    assert by_length < padding(np.random.default_rng(0).permutation(len(true))) / 2


def test_rows_of_a_user_stand_side_by_side_and_no_two_sources_share_a_user():
    users = np.repeat(np.arange(5), 4)
    mixture = Mixture(
        [Source("a", Counted(0, [2] * 20, users=users), 1.5), Source("b", Counted(1, [2] * 20, users=users), 1)], seed=0
    )
    whose = mixture.users
    assert (np.diff(whose) >= 0).all() and len(whose) == len(mixture) == 50
    of_source = np.array([number for number, _ in names(mixture)])
    assert set(whose[of_source == 0]).isdisjoint(whose[of_source == 1])
    assert sorted(BranchSampler(4, whose, seed=0)) == list(range(50))


def test_the_table_says_what_an_epoch_is_made_of():
    shares = Mixture(sources(a=1, b=2.5, c=0), seed=0).shares()
    assert [(s.name, s.rows, s.rows_an_epoch, s.targets_an_epoch) for s in shares] == [
        ("a", 100, 100, 200),
        ("b", 40, 100, 200),
    ]
    lines = share_lines(shares)
    assert [line.split() for line in lines[1:]] == [
        ["a", "100", "1", "100", "50.0%", "50.0%"],
        ["b", "40", "2.5", "100", "50.0%", "50.0%"],
    ]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("wrong", "error", "sentence"),
    [
        ([Source("a", Counted(0, [1]), -1)], ConfigError, "0 times or more"),
        ([Source("a", Counted(0, [1]), float("nan"))], ConfigError, "0 times or more"),
        ([Source("a", Counted(0, [1])), Source("a", Counted(1, [1]))], ConfigError, "stands twice"),
        ([Source("a", Counted(0, []))], DataError, "has no examples"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(wrong, error, sentence):
    with pytest.raises(error, match=sentence):
        Mixture(wrong, seed=0)


def test_a_mixture_of_nothing_has_no_rows():
    assert len(Mixture(sources(a=0, c=0), seed=0)) == 0
