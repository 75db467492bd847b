"""The sequential model: what an item is to it, which items its softmax runs over, what training keeps, what new items get."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from llmrec.data.interactions import Histories, Interactions
from llmrec.data.splits import leave_one_out
from llmrec.errors import DataError
from llmrec.nn.packed import Packed
from llmrec.nn.precision import multiplies_bfloat16, products
from llmrec.recommenders.requests import Requests
from llmrec.sequential.learning import Learner, Objective, validation_of
from llmrec.sequential.recommender import SequentialRecommender
from llmrec.sequential.settings import SequentialSettings

NUM_ITEMS, UNSEEN = 14, 13  # twelve go round, 12 has features and no event, 13 has neither
FEATURES = np.random.default_rng(0).normal(size=(NUM_ITEMS, 12)).astype(np.float32)
SMALL = {"dim": 16, "max_length": 8, "num_layers": 1, "dropout": 0.0, "lr": 1e-2, "batch_size": 16, "epochs": 6,
         "validate_every": 2, "monitor": "loss", "average": 0.5, "precision": "float32"}  # fmt: skip


def settings(**changed) -> SequentialSettings:
    return SequentialSettings(**{**SMALL, **changed})


def cycles(num_users=40, length=9) -> Interactions:
    """Everybody goes round twelve items by the same step from a place of his own."""
    rows = [[(user + 5 * place) % 12 for place in range(length)] for user in range(num_users)]
    histories = Histories.from_lists(rows)
    return Interactions(histories.indptr, histories.items, NUM_ITEMS)


def text(rows=FEATURES):
    return {"text": (rows, np.arange(len(rows)) != UNSEEN)}


def learned(features=None, folder=None, **changed) -> SequentialRecommender:
    split = leave_one_out(cycles())
    learner = Learner(settings(**changed), split.train, text() if features is None else features)
    return learner.learn(validation_of(split.valid), folder=folder).recommender


def requests(*histories) -> Requests:
    return Requests(Histories.from_lists([list(history) for history in histories]))


def objective(**changed) -> Objective:
    """Of a network that has learned nothing yet, whose embeddings differ from zero."""
    learner = Learner(settings(id_start="normal", **changed), cycles(), text())
    torch.manual_seed(0)
    network = learner._network(learner.events.counts() > 0)
    return Objective(network, learner.settings.settled(12))


WINDOWS = Packed.of([np.array([0, 5, 10, 3]), np.array([7, 0])])


# ------------------------------------------------------------------------------------------------- what an item is


def test_an_item_is_its_embedding_plus_a_map_of_its_features_and_what_it_lacks_is_zero():
    network = learned().network
    vectors, ids, field = network.item_vectors(), network.inputs.fields[0].rows, network.inputs.frozen("text")
    seen = np.arange(NUM_ITEMS) < 12
    centred = FEATURES - FEATURES[seen].mean(0)
    scaled = torch.from_numpy(centred / np.sqrt((centred[seen] ** 2).mean()))  # numbers of a mean square of one
    mapped = scaled @ field.projection.weight.T
    assert field.projection.bias is None and ids[:12].abs().sum() > 0
    torch.testing.assert_close(vectors[:12], ids[:12] + mapped[:12], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vectors[12], mapped[12], atol=1e-5, rtol=1e-5)
    assert not vectors[UNSEEN].any()


def test_dropped_embeddings_leave_nothing_but_the_features():
    network = objective(id_dropout=0.5).network
    torch.manual_seed(0)
    vectors, whole = network.train().item_vectors(), network.eval().item_vectors()
    mapped = network.inputs.frozen("text").table()
    dropped = (vectors == mapped).all(1)
    assert 0 < dropped[:12].sum() < 12 and dropped[12:].all()
    assert torch.equal(vectors[~dropped], whole[~dropped]) and not (whole[:12] == mapped[:12]).all(1).any()


def test_what_nothing_is_known_of_comes_last_and_new_words_alone_do_not():
    scores = learned().scores(requests([0, 5], [3]))
    assert (scores[:, UNSEEN] == scores[:, :UNSEEN].min(1)).all()
    assert (scores[:, 12] > scores[:, UNSEEN]).any()


# ------------------------------------------------------------------------------------------------------ the softmax


def test_items_without_an_event_are_not_in_the_denominator():
    made = objective()
    network = made.network.eval()
    loss, count = made(WINDOWS)
    packed, _, targets = network.questions(WINDOWS)
    logits = network(packed, network.item_vectors()) @ network.item_vectors()[:12].T
    assert count == 4 and targets.tolist() == [5, 10, 3, 0]
    assert loss.item() == pytest.approx(F.cross_entropy(logits, targets, reduction="sum").item(), rel=1e-5)
    assert loss.item() < F.cross_entropy(
        network(packed, network.item_vectors()) @ network.item_vectors().T, targets, reduction="sum"
    )


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_features_of_items_without_an_event_move_no_weight(loss):
    other = FEATURES.copy()
    other[12:] = 100.0
    made = settings(loss=loss, num_negatives=20, id_dropout=0.2)
    first, again = (Learner(made, cycles(), text(rows)).relearn(2.0).network.state_dict() for rows in (FEATURES, other))
    assert all(torch.equal(first[name], again[name]) for name in first if not name.endswith("matrix"))


def test_a_sampled_softmax_maps_only_the_items_of_the_batch_and_of_the_sample():
    made, seen = objective(loss="sampled", num_negatives=3), []
    made.network.eval().inputs.frozen("text").projection.register_forward_hook(
        lambda _, inputs, __: seen.append(len(inputs[0]))
    )
    torch.manual_seed(0)
    loss, _ = made(WINDOWS)
    negatives = made.items[torch.manual_seed(0) and torch.randint(12, (3,))]
    assert seen == [len({0, 5, 10, 3, 7, *negatives.tolist()})]
    vectors = made.network.item_vectors()
    packed, _, targets = made.network.questions(WINDOWS)
    states, total = made.network(packed, vectors), 0.0
    for state, target in zip(states, targets, strict=True):  # each negative stands for 12 / 3 items
        others = [4 * torch.exp(state @ vectors[n]) for n in negatives if n != target]
        total -= torch.log(torch.exp(state @ vectors[target]) / (torch.exp(state @ vectors[target]) + sum(others)))
    assert loss.item() == pytest.approx(total.item(), rel=1e-4)


def test_the_softmax_is_sampled_by_itself_beyond_a_size():
    assert settings().settled(50_000).loss == "full" and settings().settled(50_001).loss == "sampled"
    assert settings(loss="full").settled(10**6).loss == "full"


# --------------------------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("changed", [{}, {"loss": "sampled", "num_negatives": 6}, {"use_ids": False}])
def test_the_next_item_of_a_cycle_ranks_first(changed):
    model = learned(epochs=40, patience=99, **changed)
    asked = [[(start + 5 * place) % 12 for place in range(4)] for start in range(12)]
    best = model.rank(requests(*asked), 1, exclude_seen=False, candidates=np.arange(12)).items[:, 0]
    assert best.tolist() == [(row[-1] + 5) % 12 for row in asked]


def test_a_killed_training_goes_on_to_the_very_weights_of_an_unbroken_one(tmp_path, monkeypatch):
    changed = {"dropout": 0.3, "id_dropout": 0.2, "average": 0.9}
    unbroken, steps, call = learned(**changed), [], Objective.__call__

    def killed(*arguments):
        steps.append(None)
        if len(steps) == 15:  # of eighteen, three an epoch
            raise KeyboardInterrupt
        return call(*arguments)

    monkeypatch.setattr(Objective, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        learned(folder=tmp_path / "state", **changed)
    resumed = learned(folder=tmp_path / "state", **changed)
    assert len(steps) == 15 + 6
    for name, tensor in unbroken.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_features_of_other_items_are_refused_in_words():
    with pytest.raises(DataError, match=r"'text' have 5 rows, but there are 14 items"):
        learned(text(FEATURES[:5]))


# -------------------------------------------------------------------------------------------------------- new items


def test_a_new_item_is_its_features_and_moves_no_score_of_the_others():
    model = learned()
    like = FEATURES[[7]]
    grown = model.with_new_items({"text": (like, np.array([True]))}, 1)
    asked = requests([0, 5], [3])
    np.testing.assert_allclose(grown.scores(asked)[:, :UNSEEN], model.scores(asked)[:, :UNSEEN], atol=1e-6)
    assert grown.num_items == NUM_ITEMS + 1 and model.num_items == NUM_ITEMS
    embedding = model.network.inputs.fields[0].rows[7].detach().numpy()
    np.testing.assert_allclose(grown.item_vectors()[-1] + embedding, model.item_vectors()[7], atol=1e-5)
    assert np.isfinite(grown.scores(requests([NUM_ITEMS]))).all()


# -------------------------------------------------------------------------------------------------------- precision


def test_products_are_rounded_for_as_long_as_it_is_asked_for():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(64, 128, generator=generator), torch.randn(128, 64, generator=generator)
    exact = left @ right
    with products("bfloat16"):
        rounded = left @ right
    assert torch.equal(left @ right, exact)
    assert torch.allclose(rounded, exact, atol=0.3)
    assert torch.equal(rounded, exact) != multiplies_bfloat16()


def test_a_training_step_in_bfloat16_comes_close_to_one_in_float32():
    losses, gradients = [], []
    for precision in ("float32", "bfloat16"):
        made = objective(precision=precision, id_dropout=0.0)
        loss, _ = made(WINDOWS)
        loss.backward()
        losses.append(loss.item())
        gradients.append(made.network.inputs.frozen("text").projection.weight.grad)
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert torch.allclose(*gradients, atol=0.05 * gradients[0].abs().max())
    network = made.network.eval()
    assert torch.equal(network.inputs.frozen("text").table(), network.inputs.frozen("text")(torch.arange(NUM_ITEMS)))


def test_auto_is_what_the_processor_multiplies():
    expected = "bfloat16" if multiplies_bfloat16() else "float32"
    assert settings(precision="auto").settled(5).precision == expected


def test_the_normalised_layers_leave_a_residual_as_it_is():
    network = objective(layers="pre_norm").network.eval()
    for block in network.blocks:
        for last in (block.out, block.forward_net[3]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    vectors = network.item_vectors()
    read = 4 * vectors[torch.tensor([0, 5])] + network.places[torch.tensor([1, 0])]  # width 16: its root is 4
    torch.testing.assert_close(network(Packed.of([np.array([0, 5])]), vectors), network.norm(read))
