"""The runner: one path from a recommender to numbers, whether it scores or lists, and its refusals in words."""

import json

import numpy as np
import pytest

from llmrec import metrics
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError, ModelError
from llmrec.evaluation.candidates import hit_among
from llmrec.evaluation.item_words import ItemVectors, word_vectors
from llmrec.evaluation.runner import evaluate, fit_baseline
from llmrec.evaluation.tasks import load_any_task, load_task
from llmrec.evaluation.verdicts import notes
from llmrec.recommenders.requests import DenseRecommender, Ranking, Requests

NUM_ITEMS = 40


def data_of(rows, num_items=NUM_ITEMS):
    histories = Histories.from_lists(rows)
    catalog = Catalog.from_rows([{"item_id": f"i{item}", "title": f"Title {item}"} for item in range(num_items)])
    interactions = Interactions(histories.indptr, histories.items, num_items)
    return Data(catalog, interactions, Features(num_items), [f"u{user}" for user in range(len(rows))])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    # Items 30 to 39 are rare, so that some targets have no fitted event; some histories hold their own target.
    return data_of([rng.integers(0, rng.choice([8, 20, NUM_ITEMS]), 6).tolist() for _ in range(200)])


class ListsOf:
    """Shows a dense recommender to the runner as one that only returns lists."""

    def __init__(self, dense):
        self.dense, self.name, self.num_items, self.card = dense, dense.name, dense.num_items, dense.card

    def rank(self, requests, k, *, exclude_seen, candidates=None):
        return self.dense.rank(requests, k, exclude_seen=exclude_seen, candidates=candidates)

    def score(self, requests, candidates):
        return self.dense.score(requests, candidates)


class Constant(DenseRecommender):
    """One score for every item."""

    name = "constant"
    num_items = NUM_ITEMS

    def scores(self, requests):
        return np.zeros((len(requests), NUM_ITEMS))


@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_a_constant_scorer_gets_recall_k_over_num_items(data, k):
    task = load_task("leave_one_out", ["exclude_seen=false"])
    assert evaluate(Constant(), data, task).metrics[f"recall@{k}"]["value"] == pytest.approx(k / NUM_ITEMS)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_scores_and_whole_lists_give_the_same_numbers(data, exclude_seen):
    task = load_task("leave_one_out", [f"exclude_seen={exclude_seen}", f"ks=[1, 5, 10, {NUM_ITEMS}]"])
    split = task.make(data)
    for name in ("popularity", "markov", "ease_r"):
        recommender = fit_baseline(name, split, task.fit)
        dense, listed = evaluate(recommender, data, task), evaluate(ListsOf(recommender), data, task)
        assert dense.metrics == listed.metrics
        assert (dense.protocol["ranked_by"], listed.protocol["ranked_by"]) == ("scores of all items", "list of 40")


def test_batches_do_not_change_the_numbers(data):
    task = load_task("leave_one_out")
    markov = fit_baseline("markov", task.make(data), "train")
    assert evaluate(markov, data, task, batch=7).metrics == evaluate(markov, data, task, batch=1000).metrics


def test_a_repeated_target_is_a_miss_once_seen_items_are_out():
    data = data_of([[0, 1, 2, 0]] * 5, num_items=3)
    for exclude_seen, expected in (("true", 0), ("false", 1)):
        task = load_task("leave_one_out", [f"exclude_seen={exclude_seen}", "ks=[3]"])
        popularity = fit_baseline("popularity", task.make(data), task.fit)
        assert evaluate(popularity, data, task).metrics["recall@3"]["value"] == expected


def test_a_log_that_holds_every_event_twice_says_that_its_targets_cannot_be_hit():
    rng = np.random.default_rng(0)
    data = data_of([np.repeat(rng.permutation(12)[:6], 2).tolist() for _ in range(20)], num_items=12)
    for exclude_seen, expected in (("true", 0), ("false", 1)):
        task = load_task("leave_one_out", [f"exclude_seen={exclude_seen}", "ks=[1]"])
        markov = evaluate(fit_baseline("markov", task.make(data), task.fit), data, task)
        assert markov.metrics["recall@1"]["value"] == expected
        assert markov.slices["repeated_target"]["num_users"] == 20
        assert markov.num_unreachable == (20 if exclude_seen == "true" else 0)


def test_the_metrics_are_given_without_the_targets_that_cannot_be_hit(data):
    task = load_task("leave_one_out", ["ks=[5]"])
    evaluation = evaluate(fit_baseline("markov", task.make(data), task.fit), data, task)
    is_new = np.array([row[-1] not in row[:-1] for row in map(list, np.split(data.interactions.items, 200))])
    new, repeated = evaluation.slices["new_target"], evaluation.slices["repeated_target"]
    assert (new["num_users"], repeated["num_users"]) == (is_new.sum(), 200 - is_new.sum()) and 0 < is_new.sum() < 200
    assert evaluation.num_unreachable == repeated["num_users"]
    assert new["metrics"]["recall@5"]["value"] == evaluation.per_user["recall@5"][is_new].mean()
    assert repeated["metrics"]["recall@5"]["value"] == 0


def test_sampled_candidates_are_ranked_by_any_recommender_and_a_constant_one_gets_its_share(data):
    task = load_any_task("sampled_candidates", ["num_candidates=8", "ks=[1, 4]"])
    assert evaluate(Constant(), data, task).metrics["hit@4"]["value"] == pytest.approx(4 / 8)
    split = task.make(data)
    markov = fit_baseline("markov", split, task.fit)
    dense, listed = evaluate(markov, data, task), evaluate(ListsOf(markov), data, task)
    assert dense.metrics == listed.metrics and dense.num_unreachable == 0
    assert dense.metrics["hit@1"]["value"] == hit_among(markov, split.test, 8, max_instances=200, seed=0)["hit@1"]
    assert "7 items sampled" in dense.protocol["candidates"]


def test_cold_targets_are_a_slice_and_baselines_score_nothing_there():
    warm = [np.roll(np.arange(8), shift).tolist() for shift in range(8)]
    data = data_of([*warm, [1, 2, 8], [3, 4, 9]], num_items=30)
    task = load_task("leave_one_out", ["ks=[3]"])
    evaluation = evaluate(fit_baseline("markov", task.make(data), "train"), data, task)
    cold = evaluation.slices["cold_target"]
    assert cold["num_users"] == 2  # items 8 and 9 are only ever asked for
    assert cold["metrics"]["recall@3"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert evaluation.metrics["recall@3"]["value"] > 0


def test_a_slice_without_users_has_no_numbers():
    data = data_of([[0, 1, 2, 0]] * 5, num_items=3)
    task = load_task("leave_one_out", ["exclude_seen=false", "ks=[3]"])
    evaluation = evaluate(fit_baseline("popularity", task.make(data), "train"), data, task)
    assert evaluation.slices["cold_target"]["num_users"] == 0
    assert evaluation.slices["cold_target"]["metrics"]["ndcg@3"]["value"] is None


def test_the_result_is_one_json_object_with_protocol_and_metrics(data):
    task = load_task("leave_one_out")
    split = task.make(data)
    evaluation = evaluate(fit_baseline("ease_r", split, task.fit), data, task)
    result = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert set(result) == {"protocol", "metrics", "slices"}
    for name in ("recall", "ndcg", "mrr", "hit", "popularity_bias"):
        for k in (1, 5, 10, 20):
            interval = result["metrics"][f"{name}@{k}"]
            assert interval["low"] <= interval["value"] <= interval["high"]
            assert interval["value"] == evaluation.per_user[f"{name}@{k}"].mean()  # in full, not to four places
    assert 0 < result["metrics"]["coverage@10"]["value"] <= 1
    protocol = result["protocol"]
    assert protocol["recommender"] == {"name": "ease_r", "regularisation": 100.0, "recency": 0.6}
    assert (protocol["fit"], protocol["exclude_seen"], protocol["candidates"]) == ("train", True, "all")
    assert (protocol["num_users"], protocol["num_items"], protocol["subset"]) == (200, NUM_ITEMS, "test")


def test_only_the_first_instances_are_asked_when_told_so_and_the_protocol_says_it(data):
    task = load_task("leave_one_out")
    markov = fit_baseline("markov", task.make(data), "train")
    some, everyone = (evaluate(markov, data, task, max_instances=n) for n in (30, None))
    assert some.protocol["num_users"] == 30
    assert np.array_equal(some.per_user["ndcg@10"], everyone.per_user["ndcg@10"][:30])


def test_validation_targets_are_refused_to_models_that_were_trained_on_them(data):
    task = load_task("leave_one_out", ["fit=train+valid"])
    with pytest.raises(ConfigError, match="validation targets are among the training events"):
        evaluate(Constant(), data, task, subset="valid")
    with pytest.raises(ConfigError, match="should be 'valid' or 'test', but it is 'dev'"):
        evaluate(Constant(), data, task, subset="dev")


def test_a_recommender_of_another_catalogue_is_refused(data):
    other = data_of([[0, 1, 2]] * 3, num_items=3)
    with pytest.raises(ConfigError, match=r"'constant' knows 40 items but the catalogue .* has 3"):
        evaluate(Constant(), other, load_task("leave_one_out"))
    with pytest.raises(ConfigError, match="no baseline 'ease' "):
        fit_baseline("ease", load_task("leave_one_out").make(data), "train")


class Broken(ListsOf):
    """Returns whatever `spoil` makes of a proper ranking."""

    def __init__(self, spoil):
        super().__init__(Constant())
        self.spoil = spoil

    def rank(self, requests, k, *, exclude_seen, candidates=None):
        ranking = super().rank(requests, k, exclude_seen=exclude_seen)
        items, scores = ranking.items.copy(), ranking.scores.copy()
        return self.spoil(requests, items, scores)


def _twice(requests, items, scores):
    items[:, 1] = items[:, 0]
    return Ranking(items, scores)


def _seen(requests, items, scores):
    items[0, 0] = requests.histories[0][-1]
    return Ranking(items, scores)


def _not_a_number(requests, items, scores):
    scores[0, 0] = np.nan
    return Ranking(items, scores)


def _unknown(requests, items, scores):
    items[0, 0] = NUM_ITEMS
    return Ranking(items, scores)


def _short(requests, items, scores):
    return Ranking(items[:, :5], scores[:, :5])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_twice, "an item twice"),
        (_seen, "an item of the history"),
        (_not_a_number, "NaN as a score"),
        (_unknown, "item 40 of a catalogue of 40"),
        (_short, r"lists of shape \(200, 5\)"),
    ],
)
def test_a_list_that_would_be_counted_wrongly_is_refused(data, spoil, words):
    with pytest.raises(ModelError, match=f"'constant' returned {words}"):
        evaluate(Broken(spoil), data, load_task("leave_one_out"))


def test_gini_novelty_and_diversity_are_of_the_lists(data):
    task = load_task("leave_one_out", ["metrics=[recall, precision, f1, gini, novelty, diversity]", "ks=[1, 5]"])
    split = task.split.make(data.interactions)
    popularity = fit_baseline("popularity", split, task.fit)
    found = evaluate(popularity, data, task)
    items = popularity.rank(Requests.from_instances(split.test), 5, exclude_seen=True).items
    counts = split.fitted(task.fit).counts()
    assert found.metrics["gini@5"] == {"value": metrics.gini(items, NUM_ITEMS), "low": None, "high": None}
    novelty = metrics.novelty(items, metrics.self_information(counts))
    assert found.metrics["novelty@5"]["value"] == pytest.approx(novelty.mean())
    vectors = word_vectors(data.catalog)
    assert found.metrics["diversity@5"]["value"] == metrics.intra_list_diversity(items, vectors.values).mean()
    assert "diversity@1" not in found.metrics and found.protocol["diversity_of"].startswith(
        "TF-IDF of the words of title"
    )
    assert found.metrics["precision@5"]["value"] == pytest.approx(found.metrics["recall@5"]["value"] / 5)
    same = ItemVectors(np.ones((NUM_ITEMS, 3)), "ones")
    alike = evaluate(popularity, data, task, vectors=same)
    assert alike.metrics["diversity@5"]["value"] == pytest.approx(0) and alike.protocol["diversity_of"] == "ones"


def test_item_words_make_items_of_one_genre_alike():
    words = [
        ("Alien (1979)", "horror"),
        ("Alien III (1992)", "horror"),
        ("Emma (1996)", "romance"),
        ("Dune (1984)", "horror"),
    ]
    catalog = Catalog.from_rows(
        [{"item_id": f"{n}", "title": title, "genre": genre} for n, (title, genre) in enumerate(words)]
    )
    unit = word_vectors(catalog).values
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert cosines[0, 1] > cosines[0, 3] > abs(cosines[0, 2]) - 1e-6
    # "alien" is in 2 of 4 items and "horror" in 3, "1979" and "iii", "1992" in one, "genre" in all.
    shared = np.log(2) ** 2 + np.log(4 / 3) ** 2
    lengths = np.sqrt([shared + np.log(4) ** 2, shared + 2 * np.log(4) ** 2])
    assert cosines[0, 1] == pytest.approx(shared / lengths.prod(), abs=1e-6)


def test_a_repeated_target_among_candidates_is_counted_and_said(data):
    task = load_any_task("sampled_candidates", ["num_candidates=8", "ks=[1, 4]"])
    found = evaluate(Constant(), data, task)
    (note,) = notes(found)
    repeated = found.slices["repeated_target"]["num_users"]
    assert repeated > 0 and note.startswith(f"{repeated} of 200 test instances") and "it alone was seen before" in note


def test_a_candidate_scored_nan_is_refused(data):
    class Broken(Constant):
        def score(self, requests, candidates):
            return np.full(candidates.shape, np.nan)

    with pytest.raises(ModelError, match="'constant' gave NaN as a score of a candidate"):
        evaluate(Broken(), data, load_any_task("sampled_candidates", ["num_candidates=8", "ks=[1]"]))


def test_nobody_asked_is_no_number_and_no_crash(data):
    found = evaluate(Constant(), data, load_task("leave_one_out"), max_instances=0)
    assert found.metrics["ndcg@10"] == {"value": None, "low": None, "high": None}
    json.dumps(found.to_json(), allow_nan=False)
