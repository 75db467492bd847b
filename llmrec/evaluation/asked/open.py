"""The one way to a language model that was never trained here: whatever kind of task it is asked by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrec.data.click_examples import ClickSplit
from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.evaluation.tasks import CandidatesTask, ClicksTask, RankingTask
from llmrec.text_models.open_model import check_text_model

if TYPE_CHECKING:
    from llmrec.recommenders.clicks import ClickScorer
    from llmrec.recommenders.requests import Ranker


def open_asked(
    settings: AskedSettings, data: Data, task: RankingTask | CandidatesTask | ClicksTask, split: Split | ClickSplit
) -> Ranker | ClickScorer:
    """A ClickScorer for tasks of clicks, for `ask_clicks`; a Ranker for others, for `evaluate`. split: `task.make(data)`.

    What is wrong with the settings is said before anything is loaded. Raises:
        ConfigError: settings that contradict each other, or that do not fit the task.
        ModelError: the name leads to no language model.
        ProviderError: a server that does not answer.
    """
    check_text_model(settings)
    if isinstance(task, ClicksTask):
        from llmrec.evaluation.asked.clicks import open_asked_clicks

        return open_asked_clicks(settings, data, split)
    if isinstance(task, CandidatesTask):
        from llmrec.evaluation.asked.choose import open_asked_candidates

        if not task.shuffle:
            raise ConfigError(
                f"the task '{task.name}' lists the target first, which a model that reads its candidates one after another may notice. "
                "Shuffle them: shuffle=true in the task, or the task sampled_candidates_shuffled."
            )
        return open_asked_candidates(settings, data)
    from llmrec.evaluation.asked.next_item import open_asked_next_item

    return open_asked_next_item(settings, data, split)
