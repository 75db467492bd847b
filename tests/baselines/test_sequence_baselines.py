"""SASRec, GRU4Rec and BERT4Rec as recommenders: what they must learn, what repeats, what a refit is, and what their windows hold."""

import textwrap

import numpy as np
import pytest
import torch

from llmrec.baselines.baseline import fitted_on
from llmrec.baselines.bert4rec import Bert4RecRecommender
from llmrec.baselines.by_name import make_baseline
from llmrec.baselines.gru4rec import Gru4RecRecommender
from llmrec.baselines.sasrec import SasRecRecommender
from llmrec.baselines.sequence_baseline import SequenceBaseline
from llmrec.data.interactions import Histories, Interactions
from llmrec.data.splits import leave_one_out
from llmrec.errors import ConfigError, DataError, ModelError
from llmrec.nn.packed import Packed
from llmrec.recommenders.requests import Requests
from llmrec.sequential import learning
from llmrec.sequential.learning import cut_into_windows, last_held_back
from tests.test_fit import in_two_processes

SMALL = {"dim": 16, "max_length": 8, "num_layers": 1, "dropout": 0.0, "lr": 1e-2, "batch_size": 16,
         "epochs": 40, "monitor": "loss", "patience": 99, "validate_every": 5}  # fmt: skip
KINDS = [SasRecRecommender, Gru4RecRecommender, Bert4RecRecommender]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def cycles(num_users=40, num_items=12, step=5, length=9) -> Interactions:
    """Everybody goes round the items by the same step from a place of his own."""
    rows = [[(user + step * place) % num_items for place in range(length)] for user in range(num_users)]
    histories = Histories.from_lists(rows)
    return Interactions(histories.indptr, histories.items, num_items)


def requests(*histories):
    return Requests(Histories.from_lists([list(history) for history in histories]))


def learned(model, length=4) -> float:
    """For how many of the twelve items the next one of the cycle ranks first."""
    asked = [[(start + 5 * place) % 12 for place in range(length)] for start in range(12)]
    best = model.rank(requests(*asked), 1, exclude_seen=False).items[:, 0]
    return np.mean(best == [(row[-1] + 5) % 12 for row in asked])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (SasRecRecommender, {}),
        (SasRecRecommender, {"layers": "ligr"}),
        (SasRecRecommender, {"loss": "sampled", "num_negatives": 6}),
        (Gru4RecRecommender, {}),
        (Gru4RecRecommender, {"loss": "sampled", "num_negatives": 6}),
        (Bert4RecRecommender, {"epochs": 80}),
    ],
)
def test_the_next_item_of_a_cycle_ranks_first(kind, settings):
    assert learned(kind(**{**SMALL, **settings}).fit(cycles())) == 1


@every_kind
def test_the_next_item_ranks_first_from_features_alone(kind):
    matrix = np.random.default_rng(0).normal(size=(12, 12)).astype(np.float32)
    model = kind(item_inputs={"text": (matrix, np.ones(12, bool))}, **{**SMALL, "use_ids": False, "epochs": 100})
    assert learned(model.fit(cycles()), length=8) == 1


@pytest.mark.parametrize("kind", [SasRecRecommender, Gru4RecRecommender])
def test_the_order_of_a_history_matters(kind):
    # The last item alone decides here; popularity could not tell these two apart.
    model = kind(**SMALL).fit(cycles())
    ranked = model.rank(requests([0, 5], [5, 0]), 1, exclude_seen=False).items[:, 0]
    assert ranked.tolist() == [10, 5]


@every_kind
def test_the_same_seed_gives_the_same_scores_and_leaves_torch_s_random_state_alone(kind):
    state = torch.get_rng_state()
    first, again, other = (
        kind(**{**SMALL, "epochs": 2, "dropout": 0.3, "seed": seed}).fit(cycles()).scores(requests([0, 5]))
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


@every_kind
def test_what_is_hidden_or_later_moves_no_answer(kind):
    """The target of a question is changed, and with it all that comes after: the state that answers it stays."""
    model = kind(**{**SMALL, "epochs": 1}).fit(cycles())
    window = np.array([1, 2, 3, 4, 5, 6])
    for place in range(1, 6):
        other = window.copy()
        other[place] = 9
        if kind is not Bert4RecRecommender:
            other[place:] = 9
        with torch.inference_mode():
            answers = []
            for items in (window, other):
                torch.manual_seed(3)  # the same items are hidden
                network = model.sequential.network
                read, asked, targets = network.questions(Packed.of([items]))
                states = network(read, network.item_vectors())[asked]
                answers.append(dict(zip(asked.tolist(), states, strict=True)))
        question = place if kind is Bert4RecRecommender else place - 1
        if question in answers[0]:
            assert torch.equal(answers[0][question], answers[1][question])
    assert len(targets) == (5 if kind is not Bert4RecRecommender else len(asked))


def test_bert4rec_reads_no_item_that_it_is_asked_for_and_is_asked_for_the_last_of_every_window():
    model = Bert4RecRecommender(**{**SMALL, "epochs": 1, "mask_probability": 0.5}).fit(cycles())
    torch.manual_seed(0)
    windows = Packed.of([np.arange(8)] * 200)
    network = model.sequential.network
    read, asked, targets = network.questions(windows)
    assert torch.equal(windows.items[asked], targets) and (read.items[asked] == network.mask).all()
    assert set(windows.last.tolist()) <= set(asked.tolist())
    assert int((read.items == network.mask).sum()) == len(asked)
    only_last = (read.items.view(200, 8)[:, :7] != network.mask).all(1).float().mean().item()
    assert 0.4 < only_last < 0.6


@every_kind
def test_a_batch_scores_like_its_requests_one_by_one_and_an_empty_history_scores_nothing(kind):
    model = kind(**{**SMALL, "epochs": 2}).fit(cycles())
    asked = requests([0, 5], [], [3], list(range(12)))
    scores = model.scores(asked)
    for row in range(4):
        np.testing.assert_allclose(scores[row], model.scores(asked.take([row]))[0], atol=1e-5)
    assert not scores[1].any()
    latest = model.scores(requests(list(range(4, 12))))  # max_length 8
    np.testing.assert_allclose(scores[3], latest[0], atol=1e-5)


# ------------------------------------------------------------------------------------------- validation and refit


def test_validation_asks_the_instances_given_and_all_events_are_learned_from():
    split = leave_one_out(cycles())
    model = fitted_on(SasRecRecommender(**{**SMALL, "epochs": 4, "validate_every": 1}), split, "train")
    assert [line["step"] for line in model.validations] == [3, 6, 9, 12]  # 40 windows: 3 batches an epoch
    scores = model.scores(Requests.from_instances(split.valid))
    best = min(model.validations, key=lambda line: line["loss"])
    wrong = scores.max(1) - scores[np.arange(40), split.valid.targets]
    log_z = np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1))
    assert best["loss"] == pytest.approx(float((wrong + log_z).mean()), rel=1e-4)
    assert model.card["epochs_chosen"] == best["step"] / 3


@every_kind
def test_a_refit_is_a_training_of_just_the_chosen_epochs_from_the_same_seed(kind):
    split, settings = leave_one_out(cycles()), {**SMALL, "epochs": 5, "validate_every": 1, "dropout": 0.2}
    model = fitted_on(kind(**settings), split, "train+valid", refit=True)
    chosen = model.epochs_chosen
    alone = kind(**settings)
    alone.epochs_chosen = chosen
    alone.refit(split.train_valid)
    asked = requests([0, 5], [3])
    assert np.array_equal(model.scores(asked), alone.scores(asked))
    only_train = fitted_on(kind(**settings), split, "train")
    assert only_train.epochs_chosen == chosen
    assert not np.array_equal(only_train.scores(asked), model.scores(asked))


def test_a_refit_on_the_same_events_comes_to_the_state_that_was_chosen():
    split, settings = leave_one_out(cycles()), {**SMALL, "epochs": 6, "validate_every": 2, "dropout": 0.2}
    model = SasRecRecommender(**settings).fit(split.train, valid=split.valid)
    chosen, asked = model.scores(requests([0, 5], [3])), requests([0, 5], [3])
    assert np.array_equal(model.refit(split.train).scores(asked), chosen)


def test_a_refit_without_a_choice_or_without_more_events_is_refused_in_words():
    with pytest.raises(ConfigError, match="fit SASRec first"):
        SasRecRecommender(**SMALL).refit(cycles())
    with pytest.raises(ConfigError, match=r"Set fit to train\+valid"):
        fitted_on(SasRecRecommender(**SMALL), leave_one_out(cycles()), "train", refit=True)


def test_baselines_without_a_training_are_fitted_on_what_the_split_allows():
    split = leave_one_out(cycles())
    for refit in (False, True):
        popularity = fitted_on(make_baseline("popularity"), split, "train+valid", refit=refit)
        assert popularity.scores(requests([0]))[0].sum() == split.train_valid.num_events


@pytest.mark.parametrize("monitor", ["ndcg@10", "loss"])
def test_a_diverged_training_is_a_sentence(monitor):
    with pytest.raises(ModelError, match=r"SASRec diverged: its .* on validation is .*Lower lr"):
        SasRecRecommender(**{**SMALL, "lr": 1e30, "monitor": monitor}).fit(cycles())


# ------------------------------------------------------------------------------------ resuming and several processes


@pytest.mark.parametrize("refit", [False, True])
def test_a_killed_training_goes_on_to_the_very_scores_of_an_unbroken_one(tmp_path, monkeypatch, refit):
    settings = {**SMALL, "epochs": 6, "dropout": 0.3, "validate_every": 2}  # three steps an epoch
    split, folder = leave_one_out(cycles()), tmp_path / "state"

    def trained(folder=None):
        model = SasRecRecommender(**settings)
        return fitted_on(model, split, "train+valid" if refit else "train", refit=refit, folder=folder)

    unbroken, steps, loss = trained(), [], learning.Objective.__call__
    refit_steps = round(3 * unbroken.epochs_chosen)
    assert refit_steps >= 12
    killed_at = 18 + 11 if refit else 13  # in the refit's fourth epoch, or the fit's fifth

    def killed(*arguments):
        steps.append(None)
        if len(steps) == killed_at:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(learning.Objective, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(folder)
    kept = folder.with_name("state-refit") if refit else folder
    assert kept.exists()
    resumed = trained(folder)
    # What came before the last validation, or its place in a refit, is not done again.
    again = 18 + refit_steps - 6 if refit else 18 - 12
    assert len(steps) - killed_at == again and not kept.exists()
    assert np.array_equal(resumed.scores(requests([0, 5], [3])), unbroken.scores(requests([0, 5], [3])))


@pytest.mark.slow
def test_two_processes_end_with_the_scores_of_one(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np
            from accelerate import PartialState
            from tests.baselines.test_sequence_baselines import scores_of_35_users

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
    model = SasRecRecommender(**{**SMALL, "epochs": 3}).fit(cycles(num_users=35))
    return model.scores(requests([0, 5], [3], [1, 6, 11]))


# --------------------------------------------------------------------------------------------------- windows, errors


def test_windows_ask_for_every_event_but_the_first_exactly_once():
    windows = cut_into_windows(Histories.from_lists([list(range(10)), [4], [], [7, 8]]), 4)
    assert sorted(int(item) for window in windows for item in window[1:]) == [*range(1, 9), 8, 9]
    assert all(2 <= len(window) <= 4 for window in windows)


def test_the_last_event_of_those_with_three_is_held_back_where_nothing_is_given():
    histories = Histories.from_lists([[0, 1, 2], [3, 4], [5, 6, 7, 8]])
    train, valid = last_held_back(Interactions(histories.indptr, histories.items, 9))
    assert [list(train.histories[user]) for user in range(3)] == [[0, 1], [3, 4], [5, 6, 7]]
    assert valid.users.tolist() == [0, 2] and valid.targets.tolist() == [2, 8]
    assert [list(valid.histories[row]) for row in range(2)] == [[0, 1], [5, 6, 7]]


def test_settings_and_data_that_cannot_be_are_refused_in_words():
    with pytest.raises(ConfigError, match="without ids"):
        SasRecRecommender(use_ids=False)
    for kind in (SasRecRecommender, Bert4RecRecommender):
        with pytest.raises(ConfigError, match="multiple of num_heads"):
            kind(dim=10, num_heads=4)
    two_events = Interactions([0, 2, 4], [0, 1, 2, 0], 3)
    with pytest.raises(DataError, match="three events or more"):
        Gru4RecRecommender(**SMALL).fit(two_events)
    with pytest.raises(DataError, match="two events or more"):
        Gru4RecRecommender(**SMALL).fit(Interactions([0, 1, 2], [0, 1], 3), valid=leave_one_out(cycles()).valid)
    with pytest.raises(DataError, match="5 rows"):
        SasRecRecommender(item_inputs={"text": (np.ones((5, 2), np.float32), np.ones(5, bool))}, **SMALL).fit(cycles())


def test_all_three_are_sequence_baselines_that_a_name_makes():
    for kind in KINDS:
        assert type(make_baseline(kind.name)) is kind and issubclass(kind, SequenceBaseline)
