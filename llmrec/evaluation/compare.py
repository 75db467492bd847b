"""One task asked of several recommenders on one data folder: the runs, the baselines, the hybrid, and some users to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmrec.baselines.baseline import Baseline
from llmrec.baselines.by_name import fit_baselines
from llmrec.baselines.ease_r import EaseR
from llmrec.data.folder import Data
from llmrec.data.splits import Instances, Split
from llmrec.evaluation.progress import batches
from llmrec.evaluation.report import Example
from llmrec.evaluation.runner import Evaluation, evaluate
from llmrec.evaluation.tasks import NextItemTask
from llmrec.evaluation.ties import with_shuffled_ties
from llmrec.recommenders.hybrid import Hybrid
from llmrec.recommenders.requests import REQUESTS_AT_ONCE, Ranker, Requests
from llmrec.terminal import printable


@dataclass(frozen=True, eq=False)
class Comparison:
    """What every recommender is asked. subset: "test" or "valid"; max_instances: only the first so many, None for all."""

    data: Data
    task: NextItemTask
    split: Split
    subset: str = "test"
    max_instances: int | None = None

    @property
    def instances(self) -> Instances:
        """All test instances of the subset."""
        return self.split.valid if self.subset == "valid" else self.split.test

    def ask(self, recommender: Ranker) -> Evaluation:
        """How it does."""
        return evaluate(
            recommender, self.data, self.task, self.subset, split=self.split, max_instances=self.max_instances
        )

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
