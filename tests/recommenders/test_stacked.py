"""A stack: its shares by hand, who abstains, and weights that are learned from other users than those they are measured on."""

import json

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from llmrec.baselines.ease_r import EaseR
from llmrec.baselines.markov import Markov
from llmrec.data.interactions import Histories, Interactions
from llmrec.data.prepare import prepare
from llmrec.data.splits import Instances, leave_one_out
from llmrec.errors import ArtifactError, ConfigError, LlmrecError
from llmrec.recommenders.requests import DenseRecommender, Requests
from llmrec.recommenders.stack_weights import (
    FORMS,
    StackWeights,
    _loss,
    cross_fitted,
    folds_of,
    history_features,
    item_features,
    learned,
    pressed,
)
from llmrec.recommenders.stacked import ListedScores, Part, Stacked, finite


class Told(DenseRecommender):
    """Scores as they are told, the same for everybody."""

    name = "told"

    def __init__(self, scores):
        self.told, self.num_items = np.asarray(scores, np.float32), len(scores)

    def scores(self, requests):
        return np.repeat(self.told[None], len(requests), axis=0)


class Guesses(DenseRecommender):
    """A table of scores, one row for every user number."""

    name = "guesses"

    def __init__(self, table):
        self.table, self.num_items = table.astype(np.float32), table.shape[1]

    def scores(self, requests):
        return self.table[requests.users].copy()


def asked(*histories):
    return Requests(Histories.from_lists(histories))


def weights_of(*shares):
    names = tuple(f"part{place}" for place in range(len(shares)))
    return StackWeights(names, "constant", np.log(shares)[:, None, None])


def stack_of(rankers, counts, weights=None, by_events=True):
    parts = [Part(f"part{place}", ranker, by_events) for place, ranker in enumerate(rankers)]
    return Stacked(parts, np.asarray(counts), weights)


def instances_of(targets, lengths):
    """Users 0, 1, ... with histories of item 0 alone, of the given lengths."""
    histories = Histories.from_lists([[0] * length for length in lengths])
    return Instances(np.arange(len(targets), dtype=np.int32), histories, np.asarray(targets, np.int32), None)


@pytest.fixture(scope="module")
def ring():
    """400 users who walk around a ring of 60 items, with detours."""
    rng = np.random.default_rng(0)
    steps = rng.choice([1, 1, 1, 2, 5, -3], (400, 12))
    items = (rng.integers(0, 60, (400, 1)) + np.cumsum(steps, axis=1)) % 60
    return leave_one_out(Interactions(np.arange(0, 4801, 12), items.ravel(), 60))


def test_a_stack_of_one_part_has_that_parts_order(ring):
    requests, markov = Requests.from_instances(ring.test), Markov().fit(ring.train)
    own = markov.rank(requests, 20, exclude_seen=True).items
    stack = stack_of([markov], ring.train.counts())
    assert np.array_equal(stack.rank(requests, 20, exclude_seen=True).items, own)


def test_a_part_that_scores_all_alike_changes_nothing(ring):
    requests, markov = Requests.from_instances(ring.test), Markov().fit(ring.train)
    own = markov.rank(requests, 20, exclude_seen=True).items
    stack = stack_of([markov, Told([3.0] * 60)], ring.train.counts(), weights_of(0.2, 0.8))
    assert np.array_equal(stack.rank(requests, 20, exclude_seen=True).items, own)


def test_scores_are_the_shares_of_standardised_and_pressed_scores():
    stack = stack_of([Told([0, 0, 3]), Told([1, 2, 3])], [5, 5, 5], weights_of(3, 1))
    # (0, 0, 3): mean 1, deviation sqrt 2; (1, 2, 3): mean 2, deviation sqrt(2 / 3)
    first = [-np.log1p(1 / np.sqrt(2))] * 2 + [np.log1p(np.sqrt(2))]
    second = [-np.log1p(np.sqrt(1.5)), 0, np.log1p(np.sqrt(1.5))]
    expected = 0.75 * np.array(first) + 0.25 * np.array(second)
    assert stack.scores(asked([]))[0] == pytest.approx(expected, abs=1e-6)


def test_a_part_abstains_for_an_item_without_events_and_its_share_goes_to_the_others():
    parts = [
        Part("part0", Told([0, 2, 99]), by_events=True),
        Part("part1", Told([0, 2, 4]), by_events=False),
        Part("part2", Told([0, 2, 1]), by_events=False),
    ]
    stack = Stacked(parts, np.array([4, 4, 0]), weights_of(0.5, 0.375, 0.125))
    # part0 knows two items, at -1 and 1 deviations, whatever it says of the third; the others three, of which 1 is the mean of part2's
    part1, part2 = np.log1p(np.sqrt(1.5)), 0.0
    low2, high2 = -np.log1p(np.sqrt(1.5)), np.log1p(np.sqrt(1.5))
    expected = [
        -0.5 * np.log(2) - 0.375 * part1 + 0.125 * low2,
        0.5 * np.log(2) + 0.375 * 0 + 0.125 * high2,
        (0.375 * part1 + 0.125 * part2) / 0.5,
    ]
    assert stack.scores(asked([]))[0] == pytest.approx(expected, abs=1e-6)


def test_what_no_part_knows_comes_last_and_minus_infinity_is_the_lowest_score():
    stack = stack_of([Told([9, 1, 5, 7])], [0, 3, 3, 3])
    assert stack.rank(asked([]), 4, exclude_seen=True).items.tolist() == [[3, 2, 1, 0]]
    assert finite(np.array([[1.0, -np.inf, 3.0], [-np.inf] * 3])).tolist() == [[1, 1, 3], [0, 0, 0]]
    listed = stack_of([Told([-np.inf, 1, 5, 7])], [3, 3, 3, 3])  # the lowest finite score is the common one
    assert listed.rank(asked([]), 4, exclude_seen=True).items.tolist() == [[3, 2, 0, 1]]


def test_no_event_weighs_as_one_and_long_histories_as_fifty():
    weights = StackWeights(("a", "b"), "both", np.arange(8.0).reshape(2, 2, 2) / 10)
    assert weights.shares(5, 0) == weights.shares(5, 1) != weights.shares(5, 2)
    assert weights.shares(50, 3) == weights.shares(500, 3) != weights.shares(49, 3)
    logits = [theta.sum() for theta in weights.theta * np.outer([1, np.log(6) - 2], [1, np.log(4) - 2])]
    share = 1 / (1 + np.exp(logits[1] - logits[0]))
    assert weights.shares(5, 4)["a"] == pytest.approx(share, abs=1e-4)
    table = weights.part(0, np.array([5, 9]), np.array([4, 4, 0]))
    assert table.shape == (2, 3) and table[0, 0] == pytest.approx(np.exp(logits[0]), rel=1e-5)


def test_tails_are_pressed_beyond_the_knee_and_order_is_kept():
    z = np.array([-5, -0.5, 0, 0.5, 5, 50])
    for knee in (1.0, 3.0, 10.0):
        found = pressed(z, knee)
        assert (np.diff(found) > 0).all() and found[2] == 0 and found[4] == pytest.approx(np.log(6)) == -found[0]
    assert pressed(z, 1.0)[5] == pytest.approx(np.log(51)) and pressed(z, 1e6)[5] == pytest.approx(
        10 * np.log(6), rel=1e-4
    )


def table_of(rng, targets, num_items, size):
    """Noise, and the target's score `size` higher."""
    table = rng.normal(size=(len(targets), num_items))
    table[np.arange(len(targets)), targets] += size
    return table


@pytest.fixture(scope="module")
def two_guesses():
    """300 users; part 0 knows the targets of long histories and part 1 those of short ones."""
    rng = np.random.default_rng(1)
    targets, is_long = rng.integers(1, 40, 300), rng.random(300) < 0.5
    good, bad = table_of(rng, targets, 40, 4), table_of(rng, targets, 40, 0)
    long_one = np.where(is_long[:, None], good, bad)
    short_one = np.where(is_long[:, None], rng.normal(size=bad.shape), good)
    counts = np.full(40, 7)
    instances = instances_of(targets, np.where(is_long, 30, 2))
    return stack_of([Guesses(long_one), Guesses(short_one)], counts), instances


def test_weights_that_may_depend_on_the_history_are_found_where_they_pay(two_guesses):
    stack, instances = two_guesses
    stack.fit_weights(instances, knees=[1, 3])
    told = stack.weights.facts["validation"]
    assert stack.weights.form in ("history", "both")
    assert stack.weights.shares(30, 7)["part0"] > 0.9 and stack.weights.shares(2, 7)["part1"] > 0.9
    choices = told["ndcg@10_of_choices"]
    assert choices[f"history, knee {stack.weights.knee:g}"] > max(choices[f"constant, knee {k}"] for k in (1, 3)) + 0.02
    assert told["ndcg@10"] > max(told["ndcg@10_of_parts"].values()) + 0.1


def test_permuted_targets_are_ranked_as_by_chance(two_guesses):
    stack, instances = two_guesses
    shuffled = np.random.default_rng(2).permutation(instances.targets)
    stack.fit_weights(Instances(instances.users, instances.histories, shuffled, None), forms=["constant"], knees=[1])
    ranks = 1 / np.log2(np.arange(2, 12))
    assert stack.weights.facts["validation"]["ndcg@10"] == pytest.approx(ranks.sum() / 39, abs=0.03)


def test_the_weights_that_a_user_is_measured_by_do_not_depend_on_that_users_target(two_guesses):
    stack, instances = two_guesses
    fold = folds_of(len(instances), 5, seed=0)
    assert sorted(np.bincount(fold)) == [60] * 5
    lists, _ = stack._shortlists(instances, True, 0, lambda n, size, what: [np.arange(n)])
    changed = instances.targets.copy()
    changed[fold == 3] = 1 + changed[fold == 3] % 39
    changed = Instances(instances.users, instances.histories, changed, None)
    others, _ = stack._shortlists(changed, True, 0, lambda n, size, what: [np.arange(n)])
    pairs = zip(cross_fitted(["part0", "part1"], "both", lists, fold),
                cross_fitted(["part0", "part1"], "both", others, fold), strict=True)  # fmt: skip
    assert [np.array_equal(one.theta, other.theta) for one, other in pairs] == [False, False, False, True, False]


def test_the_gradient_is_that_of_the_loss(two_guesses):
    stack, instances = two_guesses
    lists, _ = stack._shortlists(instances.take(np.arange(50)), True, 0, lambda n, size, what: [np.arange(n)])
    lists.known[::3, 2:, 0] = False
    f, g = history_features(lists.lengths, "both"), item_features(lists.counts, "both")
    flat = np.random.default_rng(0).normal(size=8) / 3
    _, gradient = _loss(flat, (2, 2, 2), f, g, lists)
    numbers = approx_fprime(flat, lambda x: _loss(x, (2, 2, 2), f, g, lists)[0], 1e-3)
    assert gradient == pytest.approx(numbers, rel=0.02, abs=0.02)


def test_fitting_twice_gives_the_same_and_batches_do_not_matter(ring):
    stack = stack_of([Markov().fit(ring.train), EaseR(regularisation=5).fit(ring.train)], ring.train.counts())
    found = stack.fit_weights(ring.valid, seed=3, knees=[3], forms=["both"]).weights
    again = stack.fit_weights(ring.valid, seed=3, knees=[3], forms=["both"]).weights
    assert found.to_json() == again.to_json()
    assert found.facts["validation"]["ndcg@10"] == pytest.approx(
        max(found.facts["validation"]["ndcg@10_of_choices"].values()), abs=0.02
    )  # among the shortlist nearly what it is among all items


def test_targets_out_of_reach_teach_nothing(ring):
    lists, _ = stack_of([Markov().fit(ring.train)], ring.train.counts())._shortlists(
        instances_of([0] * 8, [2] * 8), True, 0, lambda n, size, what: [np.arange(n)]
    )
    assert not lists.real[:, 0].any() and not lists.near.any()
    assert learned(["part0"], "both", lists).theta.tolist() == [[[0, 0], [0, 0]]]


def test_weights_are_kept_as_json_and_damaged_ones_are_refused():
    weights = StackWeights(("a", "b"), "item", np.array([[[1.0, 2.0]], [[0.5, 0.25]]]), 3.0, {"seed": 1})
    kept = json.loads(json.dumps(weights.to_json()))
    read = StackWeights.from_json(kept)
    assert read.card == weights.card and np.array_equal(read.theta, weights.theta)
    for damage in ({"form": "all"}, {"knee": 0}, {"theta": [[1.0]]}, {"theta": "x"}, {"names": None}):
        with pytest.raises(ArtifactError, match="damaged"):
            StackWeights.from_json(kept | damage)
    assert set(FORMS) == {"constant", "history", "item", "both"}


def test_parts_that_do_not_fit_together_are_refused_in_a_sentence(ring):
    markov = Markov().fit(ring.train)
    for parts, counts, weights, said in (
        ([markov], [1, 2], None, "one catalogue"),
        ([], ring.train.counts(), None, "none"),
        ([markov], ring.train.counts(), weights_of(1, 2), "the weights are of the parts part0, part1"),
    ):
        with pytest.raises(LlmrecError, match=said):
            stack_of(parts, counts, weights)
    with pytest.raises(ConfigError, match="5 validation users or more, but there are 3"):
        stack_of([markov], ring.train.counts()).fit_weights(ring.valid.take(np.arange(3)))


def test_a_generative_model_takes_part_by_its_list(ring):
    markov, ease_r = Markov().fit(ring.train), EaseR(regularisation=5).fit(ring.train)
    stack = stack_of([ListedScores(markov, 20), ease_r], ring.train.counts())
    requests = Requests.from_instances(ring.test)
    assert stack.card["parts"]["part0"]["num_listed"] == 20
    items = stack.rank(requests, 10, exclude_seen=True).items
    assert not any(np.isin(requests.histories[row], items[row]).any() for row in range(len(requests)))


@pytest.mark.slow
def test_on_movielens_a_stack_is_above_its_parts_for_users_its_weights_did_not_see(bench_data, tmp_path):
    source = bench_data / "ml100k_posters"
    data = prepare(source / "items.jsonl.gz", source / "interactions.tsv.gz", tmp_path / "data")
    split = leave_one_out(data.interactions)
    stack = stack_of([Markov().fit(split.train), EaseR().fit(split.train)], split.train.counts())
    told = stack.fit_weights(split.valid, knees=[10], forms=["constant"]).weights.facts["validation"]
    assert told["ndcg@10"] > max(told["ndcg@10_of_parts"].values()) + 0.001
