"""What a training watches: validation targets that cannot be hit are counted, and refused where they are all there is."""

import numpy as np
import pytest

from llmrec.baselines.markov import Markov
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError
from llmrec.evaluation.tasks import load_task
from llmrec.evaluation.validation import ranking_validation


def monitored(rows, task):
    histories = Histories.from_lists(rows)
    catalog = Catalog.from_rows([{"item_id": f"i{item}", "title": f"Title {item}"} for item in range(12)])
    events = Interactions(histories.indptr, histories.items, 12)
    data = Data(catalog, events, Features(12), [f"u{user}" for user in range(len(rows))])
    split = task.split.make(events)
    return ranking_validation(Markov().fit(split.train), data, task, split, max_users=100)


def test_validation_targets_that_lie_in_the_history_are_counted(capsys):
    rows = [[0, 1, 2, 3, 4], [4, 5, 6, 4, 7], [1, 2, 3, 4, 5]]
    rank_validation, num_instances = monitored(rows, load_task("leave_one_out"))
    assert num_instances == 3 and set(rank_validation()) == {"recall@10", "ndcg@10"}
    assert "note: 1 of 3 validation targets lie in the user's own history" in capsys.readouterr().err
    monitored(rows, load_task("leave_one_out_unfiltered"))
    assert capsys.readouterr().err == ""


def test_a_training_that_could_tell_no_checkpoint_from_another_is_refused():
    rows = [np.repeat([user % 12, (user + 1) % 12], 2).tolist() for user in range(20)]
    rows = [[*row, row[-1]] for row in rows]
    with pytest.raises(ConfigError, match=r"20 of 20 validation targets .* leave_one_out_unfiltered"):
        monitored(rows, load_task("leave_one_out"))
    assert monitored(rows, load_task("leave_one_out_unfiltered"))[1] == 20
