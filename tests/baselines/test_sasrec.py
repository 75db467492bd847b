"""SASRec as a recommender: what it must learn, what repeats, and what its windows hold."""

import textwrap

import numpy as np
import pytest
import torch

from llmrec.baselines.sasrec import SasRecRecommender, SasRecSettings, _latest, _windows
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError, DataError, ModelError
from llmrec.recommenders.requests import Requests
from tests.test_fit import in_two_processes

SMALL = SasRecSettings(dim=16, max_length=8, num_layers=1, dropout=0.0, lr=1e-2, batch_size=16, epochs=60)


def cycles(num_users=40, num_items=12, step=5, length=9) -> Interactions:
    """Everybody goes round the items by the same step from a place of his own."""
    rows = [[(user + step * place) % num_items for place in range(length)] for user in range(num_users)]
    histories = Histories.from_lists(rows)
    return Interactions(histories.indptr, histories.items, num_items)


def requests(*histories):
    return Requests(Histories.from_lists([list(history) for history in histories]))


@pytest.mark.parametrize("features", [False, True])
def test_the_next_item_of_a_cycle_ranks_first_from_ids_and_from_features_alone(features):
    matrix = np.random.default_rng(0).normal(size=(12, 12)).astype(np.float32)
    inputs = {"text": (matrix, np.ones(12, bool))} if features else {}
    settings = SMALL.model_copy(update={"use_ids": not features})
    model = SasRecRecommender.from_settings(settings, item_inputs=inputs).fit(cycles())
    asked = [[(start + 5 * place) % 12 for place in range(4)] for start in range(12)]
    best = model.rank(requests(*asked), 1, exclude_seen=False).items[:, 0]
    assert best.tolist() == [(row[-1] + 5) % 12 for row in asked]


def test_the_order_of_a_history_matters():
    # The last item alone decides here; popularity could not tell these two apart.
    model = SasRecRecommender.from_settings(SMALL).fit(cycles())
    ranked = model.rank(requests([0, 5], [5, 0]), 1, exclude_seen=False).items[:, 0]
    assert ranked.tolist() == [10, 5]


def test_the_same_seed_gives_the_same_scores_and_leaves_torch_s_random_state_alone():
    state = torch.get_rng_state()
    first, again, other = (
        SasRecRecommender.from_settings(SMALL.model_copy(update={"epochs": 2, "dropout": 0.3, "seed": seed}))
        .fit(cycles())
        .scores(requests([0, 5]))
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_a_killed_training_goes_on_to_the_very_scores_of_an_unbroken_one(tmp_path, monkeypatch):
    settings = SMALL.model_copy(update={"epochs": 6, "dropout": 0.3})  # validations after epochs 1, 3 and 5
    unbroken = SasRecRecommender.from_settings(settings).fit(cycles())
    losses, last_loss = [], SasRecRecommender._last_loss

    def killed_at_the_second(self, *sequences):
        losses.append(last_loss(self, *sequences))
        if len(losses) == 2:
            raise KeyboardInterrupt
        return losses[-1]

    monkeypatch.setattr(SasRecRecommender, "_last_loss", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        SasRecRecommender.from_settings(settings).fit(cycles(), folder=tmp_path / "state")
    resumed = SasRecRecommender.from_settings(settings).fit(cycles(), folder=tmp_path / "state")
    assert len(losses) == 4, "the first validation is not made again"
    assert np.array_equal(resumed.scores(requests([0, 5], [3])), unbroken.scores(requests([0, 5], [3])))
    assert not (tmp_path / "state").exists()


def test_validations_follow_the_1st_3rd_5th_epoch(monkeypatch):
    epochs, step = [], SasRecRecommender._loss
    monkeypatch.setattr(SasRecRecommender, "_loss", lambda self, *batch: epochs.append("step") or step(self, *batch))
    last = SasRecRecommender._last_loss
    monkeypatch.setattr(SasRecRecommender, "_last_loss", lambda self, *all_: epochs.append("look") or last(self, *all_))
    SasRecRecommender.from_settings(SMALL.model_copy(update={"epochs": 4})).fit(
        cycles()
    )  # 40 windows: 3 batches an epoch
    assert epochs == ["step"] * 3 + ["look"] + ["step"] * 6 + ["look"] + ["step"] * 3


def test_a_diverged_training_is_a_sentence():
    with pytest.raises(ModelError, match=r"SASRec diverged: its loss on validation is .*Lower lr"):
        SasRecRecommender.from_settings(SMALL.model_copy(update={"lr": 1e30})).fit(cycles())


@pytest.mark.slow
def test_two_processes_end_with_the_scores_of_one(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np
            from accelerate import PartialState
            from tests.baselines.test_sasrec import scores_of_35_users

            PartialState(cpu=True)
            scores = scores_of_35_users()
            if PartialState().is_main_process:
                np.save(sys.argv[1], scores)
            """
        )
    )
    in_two_processes(str(script), str(tmp_path / "scores.npy"))
    # Not the weights: a bias of the keys changes no attention, so its gradient is rounding alone, which Adam makes large.
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), scores_of_35_users(), atol=1e-4)


def scores_of_35_users():
    """Three batches an epoch, the last of three examples, so that two processes have 2 and 1."""
    model = SasRecRecommender.from_settings(SMALL.model_copy(update={"epochs": 3})).fit(cycles(num_users=35))
    return model.scores(requests([0, 5], [3], [1, 6, 11]))


def test_a_batch_scores_like_its_requests_one_by_one_and_an_empty_history_scores_nothing():
    model = SasRecRecommender.from_settings(SMALL.model_copy(update={"epochs": 2})).fit(cycles())
    asked = requests([0, 5], [], [3], list(range(12)))
    scores = model.scores(asked)
    for row in range(4):
        np.testing.assert_allclose(scores[row], model.scores(asked.take([row]))[0], atol=1e-5)
    assert not scores[1].any()
    latest = model.scores(requests(list(range(4, 12))))  # max_length 8
    np.testing.assert_allclose(scores[3], latest[0], atol=1e-5)


def test_windows_ask_for_every_event_but_the_first_exactly_once():
    histories = Histories.from_lists([list(range(10)), [4], [], [7, 8]])
    items, mask = _windows(histories, 4)
    asked = sorted(int(item) for row, real in zip(items, mask, strict=True) for item in row[1:][real[:-1] & real[1:]])
    assert asked == [*range(1, 9), 8, 9] and (mask.sum(dim=1) >= 2).all()
    latest, real = _latest(histories, np.array([0, 1]), 4)
    assert latest.tolist() == [[6, 7, 8, 9], [0, 0, 0, 4]] and real.sum(dim=1).tolist() == [4, 1]


def test_settings_and_data_that_cannot_be_are_refused_in_words():
    with pytest.raises(ConfigError, match="without ids"):
        SasRecRecommender(use_ids=False)
    with pytest.raises(ConfigError, match="multiple of num_heads"):
        SasRecRecommender(dim=10, num_heads=4)
    with pytest.raises(DataError, match="two events or more"):
        SasRecRecommender.from_settings(SMALL).fit(Interactions([0, 1, 2], [0, 1], 3))
    with pytest.raises(DataError, match="5 rows"):
        SasRecRecommender.from_settings(
            SMALL, item_inputs={"text": (np.ones((5, 2), np.float32), np.ones(5, bool))}
        ).fit(cycles())
