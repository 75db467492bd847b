"""One task asked of several recommenders on one data folder: the runs, the baselines, the hybrid, and some users to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from llmrec.baselines.baseline import Baseline
from llmrec.baselines.by_name import fit_baselines
from llmrec.baselines.ease_r import EaseR
from llmrec.data.click_examples import ClickExamples, ClickSplit
from llmrec.data.folder import Data
from llmrec.data.splits import Instances, Split
from llmrec.evaluation.candidates import task_candidates
from llmrec.evaluation.clicks import ask_clicks, click_means, click_protocol
from llmrec.evaluation.cost import Cost, measure_cost
from llmrec.evaluation.progress import batches
from llmrec.evaluation.report import Example
from llmrec.evaluation.results import ClickEvaluation, Evaluation, Kind
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.shards import Work
from llmrec.evaluation.slices import row_masks
from llmrec.evaluation.tasks import CandidatesTask, ClicksTask, NextItemTask
from llmrec.evaluation.ties import with_shuffled_ties
from llmrec.recommenders.clicks import ClickScorer
from llmrec.recommenders.hybrid import Hybrid
from llmrec.recommenders.requests import REQUESTS_AT_ONCE, Ranker, Requests
from llmrec.terminal import printable

COST_INSTANCES = 256  # that are timed, at most


def _told(known: Cost | None) -> Cost | None:
    """None for a cost of which nothing is known."""
    return known if known is not None and known.to_json() else None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What every recommender is asked. subset: "test" or "valid"; max_instances: only the first so many, None for all; cost_seconds:
    how long the cost of answers is measured, 0: not at all."""

    data: Data
    task: NextItemTask
    split: Split
    subset: str = "test"
    max_instances: int | None = None
    cost_seconds: float = 0.0

    @property
    def instances(self) -> Instances:
        """All test instances of the subset."""
        return self.split.valid if self.subset == "valid" else self.split.test

    def ask(
        self,
        recommender: Ranker,
        work: Work | None = None,
        *,
        known: Cost | None = None,
        codes: np.ndarray | None = None,
    ) -> Evaluation:
        """How it does. work: where answers are kept while it runs, so that a killed evaluation goes on; known: of its cost what need
        not be measured, such as `training_cost(run)`; codes: see `evaluate`."""
        cost = self._cost(recommender, known) if self.cost_seconds and len(self.instances) else _told(known)
        found = evaluate(
            recommender,
            self.data,
            self.task,
            self.subset,
            split=self.split,
            max_instances=self.max_instances,
            work=work,
            codes=codes,
        )
        return replace(found, cost=cost)

    def _cost(self, recommender: Ranker, known: Cost | None) -> Cost:
        instances, candidates = self.instances.take(np.arange(min(COST_INSTANCES, len(self.instances)))), None
        if isinstance(self.task, CandidatesTask):
            candidates, asked = task_candidates(self.task, self.split, instances)
            instances = instances.take(asked)
        return measure_cost(
            recommender, Requests.from_instances(instances), exclude_seen=self.task.exclude_seen, candidates=candidates,
            known=known, seconds=self.cost_seconds,
        )  # fmt: skip

    def with_shuffled_ties(self) -> Comparison:
        """The same with events of one moment in another order (`ties.with_shuffled_ties`), divided anew."""
        data = with_shuffled_ties(self.data)
        return replace(self, data=data, split=self.task.make(data))

    def baselines(self) -> list[Baseline]:
        """The standard ones, fitted on what the task allows; one that does not fit into memory is left out and said so."""
        return fit_baselines(self.split.fitted(self.task.fit))

    def hybrid(self, ranker: Ranker, baselines: Sequence[Ranker]) -> Hybrid | None:
        """`ranker` and the EASE-R among the baselines together, weighed on validation; None where there is none, or where
        validation was fitted too."""
        ease_r = next((baseline for baseline in baselines if isinstance(baseline, EaseR)), None)
        if ease_r is None or self.task.fit != "train":
            return None
        rows = batches(len(self.split.valid), REQUESTS_AT_ONCE, "weighing the hybrid")
        return Hybrid(ranker, ease_r).fit_weight(self.split.valid, exclude_seen=self.task.exclude_seen, batches=rows)

    def examples(self, ranker: Ranker, rows: Sequence[int]) -> list[Example]:
        """What the users of some test instances are recommended."""
        instances = self.instances
        requests = Requests.from_instances(instances).take(np.asarray(rows))
        ranking = ranker.rank(requests, 10, exclude_seen=self.task.exclude_seen)
        return [
            Example(
                user_id=self.data.user_ids[int(instances.users[row])],
                history=self._titles(requests.histories[number][-10:]),
                recommended=self._titles(ranking.items[number]),
                target=printable(self.data.catalog.title(instances.targets[row])),
            )
            for number, row in enumerate(rows)
        ]

    def _titles(self, items: np.ndarray) -> list[str]:
        return [printable(self.data.catalog.title(item)) for item in items if item >= 0]


@dataclass(frozen=True, eq=False)
class ClickComparison:
    """What every click scorer is asked. subset: "test" or "valid"; cost_seconds: as of a `Comparison`."""

    data: Data
    task: ClicksTask
    split: ClickSplit
    subset: str = "test"
    cost_seconds: float = 0.0

    @property
    def rows(self) -> ClickExamples:
        """The examples of the subset."""
        return self.split.valid if self.subset == "valid" else self.split.test

    @cached_property
    def protocol(self) -> dict:
        """Everything the numbers depend on but the scorer."""
        return click_protocol(self.data, self.task, self.split, self.subset, self.rows)

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """The task's slices: bool (N,) of each."""
        return row_masks(self.task.slices, self.data, self.split, self.rows)

    def ask(
        self, scorer: ClickScorer, work: Work | None = None, *, known: Cost | None = None, kind: Kind = "model"
    ) -> ClickEvaluation:
        """How it does. work, known: as of a `Comparison`."""
        cost = _told(known)
        if self.cost_seconds and len(self.rows):
            cost = measure_cost(scorer, self.rows, known=known, seconds=self.cost_seconds)
        found = ask_clicks(scorer, self.rows, self.protocol, self.task, kind=kind, masks=self.masks, work=work)
        return replace(found, cost=cost)

    def means(self) -> list[ClickEvaluation]:
        """The means of items and users over the training examples, asked the same."""
        return click_means(
            self.split, self.rows, self.protocol, self.task, self.data.catalog.num_items, masks=self.masks
        )
