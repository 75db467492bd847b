"""What a language model as it is does with a list, and what it writes when it may write anything: beside `llmrec eval --model`."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec.apps.eval.asked import Asked
from llmrec.evaluation.asked.choose import AskedCandidates, best_places, free_choices, position_bias
from llmrec.evaluation.asked.next_item import AskedNextItem, validity_of_free_text
from llmrec.evaluation.candidates import task_candidates
from llmrec.evaluation.compare import Comparison
from llmrec.evaluation.tasks import CandidatesTask
from llmrec.recommenders.requests import Ranker, Requests
from llmrec.text_models.open_model import open_text_model


def choices_of(asked: Asked, comparison: Comparison, model: Ranker) -> dict[str, Any]:
    """JSON values about the first `untrained.free_users` instances: among candidates `position_bias` (what hangs on the order) and
    `free_text`, the answers of a chat model that may write anything as valid, repeated or none; of the whole catalogue `free_text`."""
    instances = comparison.instances.take(np.arange(min(asked.untrained.free_users, len(comparison.instances))))
    if not len(instances):
        return {}
    if isinstance(comparison.task, CandidatesTask):
        assert isinstance(model, AskedCandidates), type(model)
        candidates, able = task_candidates(comparison.task, comparison.split, instances)
        instances = instances.take(able)
        requests, settings = Requests.from_instances(instances), asked.untrained.checked()
        bias = position_bias(best_places(model), requests, candidates, instances.targets, seed=comparison.task.seed)
        writer = open_text_model(settings)
        if not writer.is_chat:  # which would go on with the list
            return {"position_bias": bias}
        places, told = free_choices(writer, settings, comparison.data, requests, candidates, by=model.by)
        right = candidates[np.arange(len(places)), np.maximum(places, 0)] == instances.targets
        return {"position_bias": bias, "free_text": {**told, "accuracy": float(((places >= 0) & right).mean())}}
    assert isinstance(model, AskedNextItem), type(model)
    return {"free_text": validity_of_free_text(model, Requests.from_instances(instances))}
