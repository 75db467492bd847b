"""Runs one recommender through one task: counts ranks batch by batch, then metrics with intervals, slices, a card.

Letters: U test instances, I items, k the longest list the task asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec import metrics
from llmrec.baselines.baseline import Baseline
from llmrec.baselines.by_name import make_baseline
from llmrec.data.folder import Data
from llmrec.data.splits import Instances, Split
from llmrec.errors import ConfigError, ModelError
from llmrec.evaluation.candidates import task_candidates
from llmrec.evaluation.code_hits import code_hits
from llmrec.evaluation.item_words import ItemVectors, word_vectors
from llmrec.evaluation.results import Evaluation, Kind, means, slices_of
from llmrec.evaluation.shards import Answers, Work, in_shards
from llmrec.evaluation.slices import ALWAYS, instance_masks
from llmrec.evaluation.tasks import CandidatesTask, NextItemTask
from llmrec.recommenders.hybrid import Hybrid
from llmrec.recommenders.requests import REQUESTS_AT_ONCE, DenseRecommender, Ranker, Ranking, Requests, top_k
from llmrec.version import __version__

LISTED = (
    "coverage",
    "gini",
    "novelty",
    "popularity_bias",
    "diversity",
)  # metrics that look at the lists, however right
# Scores of all items for a batch take about 8 bytes x batch x num_items, several times over.
SCORED_AT_ONCE = 32  # requests with candidates


def fit_baseline(name: str, split: Split, fit: str, overrides: Sequence[str] = ()) -> Baseline:
    """A fitted baseline by its name, with settings such as "dim=64" in place of defaults; see `make_baseline`."""
    return make_baseline(name, overrides).fitted(split.fitted(fit))


def evaluate(
    recommender: Ranker,
    data: Data,
    task: NextItemTask,
    subset: str = "test",
    *,
    split: Split | None = None,
    batch: int = REQUESTS_AT_ONCE,
    max_instances: int | None = None,
    vectors: ItemVectors | None = None,
    work: Work | None = None,
    codes: np.ndarray | None = None,
) -> Evaluation:
    """Asks `recommender` every test instance of the task and finds the ranks of the targets.

    A `DenseRecommender` is ranked by its scores, with expected ranks under ties; any other by the list it returns.
    subset: "test" or "valid"; split: the task's split of these data, where the caller has made it already; max_instances:
    only the first so many (recorded in the protocol); vectors: what diversity is measured in, by default `word_vectors`; work: where
    answers are kept while it runs, so that a killed evaluation goes on; codes: of `code_hits.shared_codes`, for `code_recall` where
    lists are looked at. Raises ConfigError for settings that contradict each other and ModelError for a recommender that breaks its
    contract (NaN, seen items, repeated items).
    """
    if subset not in ("valid", "test"):
        raise ConfigError(f"subset should be 'valid' or 'test', but it is '{subset}'.")
    if subset == "valid" and task.fit == "train+valid":
        raise ConfigError(
            "the validation targets are among the training events 'train+valid': evaluate 'test', or set fit to 'train'."
        )
    if recommender.num_items != data.catalog.num_items:
        raise ConfigError(
            f"'{recommender.name}' knows {recommender.num_items} items but the catalogue of {data.folder} has "
            f"{data.catalog.num_items}. Evaluate it on the data folder that it was made from."
        )
    split = split or task.make(data)
    instances = split.valid if subset == "valid" else split.test
    if max_instances is not None:
        instances = instances.take(np.arange(min(max_instances, len(instances))))
    candidates = None
    if isinstance(task, CandidatesTask):
        candidates, asked = task_candidates(task, split, instances)
        instances = instances.take(asked)  # users with too few items left are not asked
    if "diversity" in task.metrics and vectors is None:
        vectors = word_vectors(data.catalog)
    protocol = _protocol(recommender, data, task, split, subset, instances, vectors)
    answers = _answers(recommender, instances, task, batch, candidates, protocol, work)
    per_user = _per_user(task, instances, answers, split.fitted(task.fit).counts(), vectors)
    if codes is not None and "items" in answers:
        per_user |= code_hits(answers["items"], instances.targets, codes, task.ks)
    masks = instance_masks((*ALWAYS, *task.slices), data, split, task.fit, instances)
    return Evaluation(
        protocol,
        _with_intervals(task, per_user, answers.get("items"), recommender.num_items),
        slices_of(masks, per_user, task.interval),
        instances.users,
        per_user,
        _kind(recommender),
        masks,
    )


def _kind(recommender: Ranker) -> Kind:
    if isinstance(recommender, Hybrid):
        return "hybrid"
    return "baseline" if isinstance(recommender, Baseline) else "model"


def _answers(
    recommender: Ranker,
    instances: Instances,
    task: NextItemTask,
    batch: int,
    candidates: np.ndarray | None,
    protocol: dict,
    work: Work | None,
) -> Answers:
    """greater, equal: float64 (U,), among the candidates, int64 (U, C) with the target among them, or the whole catalogue; items: int32
    (U, k) where a metric looks at the lists."""
    requests = Requests.from_instances(instances)

    def ask(rows: np.ndarray) -> Answers:
        if candidates is not None:
            return _among_candidates(recommender, requests.take(rows), candidates[rows], instances.targets[rows])
        return _among_all(recommender, requests.take(rows), instances.targets[rows], task)

    size = batch if candidates is None else SCORED_AT_ONCE
    place = None
    if work is not None:
        asked = (instances.users, instances.histories.indptr, instances.histories.items, instances.targets)
        chosen = {"metrics": sorted(set(LISTED) & set(task.metrics)), "ks": task.ks, "batch": size}
        place = work.place(protocol, chosen, *asked, *(() if candidates is None else (candidates,)))
    found = in_shards(ask, len(instances), size, f"evaluating {recommender.name}", place=place)
    nobody = np.zeros(0)
    return found or {"greater": nobody, "equal": nobody, "items": np.zeros((0, max(task.ks)), np.int32)}


def _among_all(recommender: Ranker, asked: Requests, targets: np.ndarray, task: NextItemTask) -> Answers:
    k = max(task.ks)
    if isinstance(recommender, DenseRecommender):
        scores, allowed = recommender.allowed_scores(asked, exclude_seen=task.exclude_seen)
        greater, equal = metrics.ranks_from_scores(scores, targets, allowed)
        items = top_k(scores, allowed, k).items if set(LISTED) & set(task.metrics) else None
    else:
        ranking = recommender.rank(asked, k, exclude_seen=task.exclude_seen)
        _check_ranking(recommender, ranking, asked, k, task.exclude_seen)
        greater, equal = metrics.ranks_from_ranking(ranking.items, ranking.scores, targets)
        items = ranking.items if set(LISTED) & set(task.metrics) else None
    return {"greater": greater, "equal": equal, **({} if items is None else {"items": items})}


def _among_candidates(recommender: Ranker, asked: Requests, candidates: np.ndarray, targets: np.ndarray) -> Answers:
    scores = recommender.score(asked, candidates)
    if np.isnan(scores).any():
        raise ModelError(
            f"'{recommender.name}' gave NaN as a score of a candidate. Its score() breaks the contract of Ranker."
        )
    greater, equal = metrics.ranks_from_scores(scores, np.argmax(candidates == targets[:, None], axis=1))
    return {"greater": greater, "equal": equal}


def _check_ranking(recommender: Ranker, ranking: Ranking, asked: Requests, k: int, exclude_seen: bool) -> None:
    """A list that repeats items, holds seen ones or has another shape would be counted wrongly without a word."""
    items, scores = ranking.items, ranking.scores
    problem = None
    if items.shape != (len(asked), k) or scores.shape != items.shape:
        problem = f"lists of shape {items.shape} and scores of {scores.shape} instead of ({len(asked)}, {k})"
    elif np.isnan(scores).any():
        problem = "NaN as a score"
    elif items.max(initial=-1) >= recommender.num_items:
        problem = f"item {items.max()} of a catalogue of {recommender.num_items}"
    else:
        ordered = np.sort(items, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            problem = "an item twice in one list"
        elif exclude_seen:
            rows = np.repeat(np.arange(len(asked)), asked.histories.lengths)
            if (items[rows] == asked.histories.items[:, None]).any():
                problem = "an item of the history although seen items were excluded"
    if problem:
        raise ModelError(f"'{recommender.name}' returned {problem}. Its rank() breaks the contract of Ranker.")


def _per_user(
    task: NextItemTask, instances: Instances, answers: Answers, counts: np.ndarray, vectors: ItemVectors | None
) -> dict[str, np.ndarray]:
    """Every metric that is a mean over users: name@k -> float64 (U,)."""
    per_user = {}
    for name in task.metrics:
        for k in task.ks:
            if name in metrics.ACCURACY:
                per_user[f"{name}@{k}"] = metrics.ACCURACY[name](answers["greater"], answers["equal"], k)
            elif name == "popularity_bias":
                percentiles, histories = metrics.popularity_percentiles(counts), instances.histories
                bias = metrics.popularity_bias(answers["items"][:, :k], histories.indptr, histories.items, percentiles)
                per_user[f"{name}@{k}"] = bias
            elif name == "novelty":
                per_user[f"{name}@{k}"] = metrics.novelty(answers["items"][:, :k], metrics.self_information(counts))
            elif name == "diversity" and k > 1:  # one item has no pair
                assert vectors is not None
                per_user[f"{name}@{k}"] = metrics.intra_list_diversity(answers["items"][:, :k], vectors.values)
    return per_user


def _with_intervals(
    task: NextItemTask, per_user: dict[str, np.ndarray], items: np.ndarray | None, num_items: int
) -> dict:
    """The means over users with their intervals, and what is of all lists together, which has none."""
    result = means(per_user, task.interval)
    for name, of_all in (("coverage", metrics.coverage), ("gini", metrics.gini)):
        for k in task.ks if name in task.metrics else ():
            assert items is not None
            value = of_all(items[:, :k], num_items)
            result[f"{name}@{k}"] = {"value": None if np.isnan(value) else value, "low": None, "high": None}
    return result


def _ranked_by(recommender: Ranker, task: NextItemTask) -> str:
    if isinstance(task, CandidatesTask):
        return "scores of the candidates"
    return "scores of all items" if isinstance(recommender, DenseRecommender) else f"list of {max(task.ks)}"


def _protocol(
    recommender: Ranker,
    data: Data,
    task: NextItemTask,
    split: Split,
    subset: str,
    instances: Instances,
    vectors: ItemVectors | None,
) -> dict:
    """Everything the numbers depend on; two results whose protocols differ in more than the recommender do not compare."""
    card = data.card  # empty for data made in memory
    diverse = {"diversity_of": vectors.made_from} if "diversity" in task.metrics and vectors is not None else {}
    return {
        "data": {key: card.get(key) for key in ("name", "content_hash", "counts")},
        "ties": {"time": card.get("ties"), "score": "expected rank over a random order of equal scores"},
        "ratings": card.get("ratings"),
        "task": {"name": task.name, "version": task.version, "kind": task.kind},
        "split": split.card,
        "subset": subset,
        "fit": task.fit,
        "candidates": task.candidates,
        "exclude_seen": task.exclude_seen,
        "ranked_by": _ranked_by(recommender, task),
        **diverse,
        "interval": {"kind": "percentile bootstrap over users", **task.interval.model_dump()},
        "num_users": len(instances),
        "num_items": recommender.num_items,
        "recommender": {"name": recommender.name, **recommender.card},
        "llmrec_version": __version__,
    }
