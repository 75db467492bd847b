"""Training of click models: what must be learned, what repeats, what a table says and how it goes on after a kill."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec import fit as fit_module
from llmrec import metrics
from llmrec.baselines.click_means import mean_scores
from llmrec.ctr import grid as ctr_grid
from llmrec.ctr.grid import Variant, cell_scores, run_ctr_grid
from llmrec.ctr.model import CtrModel, CtrSettings
from llmrec.ctr.training import train_ctr_model
from llmrec.data.click_examples import click_examples
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.clicks import ctr_table
from llmrec.evaluation.significance import NOT_SIGNIFICANT
from llmrec.nn.item_inputs import ItemPieces

N = 16
KINDS = ("dnn", "dcn_v2", "din", "autoint", "gdcn")
QUICK = CtrSettings(
    dim=8, hidden=(16,), dropout=0.0, id_dropout=0.0, lr=1e-2, evaluations=1, batch_size=256, epochs=30, context=False
)


@pytest.fixture(scope="module")
def split():
    """Even users like even items and dislike odd ones, odd users the other way round: no item is better than another."""
    rng = np.random.default_rng(0)
    num_users, length = 100, 24
    items = rng.integers(0, N, num_users * length).astype(np.int32)
    users = np.repeat(np.arange(num_users), length)
    ratings = np.where(items % 2 == users % 2, 5.0, 1.0).astype(np.float32)
    times = np.concatenate([np.sort(rng.integers(0, 1000, length)) for _ in range(num_users)])
    return click_examples(Interactions(np.arange(0, num_users * length + 1, length), items, N, times, ratings))


def parity():
    """One feature that says all: even or odd."""
    return {"parity": ((np.arange(N) % 2 * 2.0 - 1)[:, None].astype(np.float32), np.ones(N, bool))}


def parity_in_words():
    """Even items are called 1 and a word of their own, odd ones 2 and a word of their own."""
    return ItemPieces(np.stack([1 + np.arange(N) % 2, 3 + np.arange(N)], axis=1).astype(np.int32), N + 2)


INPUTS = {
    "id": {"item_inputs": {}, "use_ids": True},
    "feature": {"item_inputs": parity(), "use_ids": False},
    "text": {"item_inputs": {}, "use_ids": False, "pieces": parity_in_words()},
}


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_model_learns_the_checkerboard_from_ids_from_a_feature_and_from_words(split, kind, inputs):
    settings = QUICK.model_copy(update={"model": kind})
    model, lines = train_ctr_model(split, N, settings=settings, seed=0, **INPUTS[inputs])
    assert metrics.ctr_metrics(split.test.labels, model.score_rows(split.test), split.test.users)["auc"] > 0.95
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]


def test_means_cannot_learn_the_checkerboard(split):
    for kind in ("item_mean", "user_item_mean"):
        assert 0.3 < metrics.auc(split.test.labels, mean_scores(kind, split.train, split.test, N)) < 0.7


def test_the_means_by_hand(split):
    train = split.train.take(np.flatnonzero(split.train.items < 2)[:8])
    rows = split.test.take(np.arange(3))
    overall = train.labels.mean()
    by_item = np.array(
        [
            (train.labels[train.items == item].sum() + 3 * overall) / ((train.items == item).sum() + 3)
            for item in rows.items
        ]
    )
    assert mean_scores("item_mean", train, rows, N) == pytest.approx(by_item)
    by_user = (rows.liked + 20 * overall) / (rows.answered + 20)
    odds = by_item / (1 - by_item) * by_user / (1 - by_user) / (overall / (1 - overall))
    assert mean_scores("user_item_mean", train, rows, N) == pytest.approx(odds / (1 + odds))


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_s_random_state_alone(split):
    state = torch.get_rng_state()
    settings = QUICK.model_copy(update={"epochs": 2, "dropout": 0.2, "id_dropout": 0.1})
    first, again, other = (
        train_ctr_model(split, N, parity(), use_ids=True, settings=settings, seed=seed)[0].score_rows(split.test)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("killed_at", [1, 3])
def test_a_killed_training_goes_on_to_the_very_weights_of_an_unbroken_one(split, tmp_path, monkeypatch, killed_at):
    settings = QUICK.model_copy(update={"epochs": 2, "evaluations": 2, "dropout": 0.2, "id_dropout": 0.1})

    def train(folder=None):
        return train_ctr_model(split, N, parity(), use_ids=True, settings=settings, seed=0, folder=folder)

    unbroken, lines = train()
    scored, score = [], CtrModel.score_rows

    def killed(self, rows):
        scored.append(len(rows))
        if len(scored) == killed_at + 1:
            raise KeyboardInterrupt
        return score(self, rows)

    monkeypatch.setattr(CtrModel, "score_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "state")
    resumed, again = train(tmp_path / "state")
    assert again == lines and len(scored) == len(lines) + 1, "what was validated before the kill is not validated again"
    for name, weights in unbroken.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weights), name


def test_a_refit_learns_the_validation_examples_too_for_as_many_epochs_as_validation_chose(split):
    settings = QUICK.model_copy(update={"evaluations": 2, "lr": 3e-3, "epochs": 6})
    model, lines = train_ctr_model(split, N, {}, use_ids=True, settings=settings, seed=0, refit=True)
    best = max(lines, key=lambda line: line["auc"])["step"]
    chosen = best / -(-len(split.train) // 256)
    assert (model.card["epochs_chosen"], model.card["fit"]) == (chosen, "train+valid")
    without, _ = train_ctr_model(split, N, {}, use_ids=True, settings=settings, seed=0)
    assert without.card["fit"] == "train" and without.card["epochs_chosen"] == chosen
    flipped = replace(split.valid, labels=~split.valid.labels)  # labels of validation are learned in a refit
    changed, _ = train_ctr_model(
        replace(split, valid=flipped), N, {}, use_ids=True, settings=settings, seed=0, refit=True
    )
    assert not np.array_equal(changed.score_rows(split.test), model.score_rows(split.test))


def test_a_refit_that_was_killed_goes_on_to_the_weights_of_an_unbroken_one(split, tmp_path, monkeypatch):
    settings = QUICK.model_copy(update={"epochs": 3, "dropout": 0.2, "evaluations": 2})

    def train(folder=None):
        return train_ctr_model(split, N, {}, use_ids=True, settings=settings, seed=0, refit=True, folder=folder)[0]

    unbroken, saves, save = train(), [], fit_module._save

    def killed(folder, *more):
        save(folder, *more)
        saves.append(folder.name)
        if saves[-1] == "state-refit" and saves.count("state-refit") == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(fit_module, "_save", killed)
        train(tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir()] == ["state-refit"]
    assert torch.equal(train(tmp_path / "state").net.out.weight, unbroken.net.out.weight)
    assert not list(tmp_path.iterdir())


def test_the_best_validation_is_kept_training_stops_after_it_and_test_rows_change_nothing(split):
    settings = QUICK.model_copy(update={"monitor": "gauc", "patience": 2, "lr": 3e-2})
    model, lines = train_ctr_model(split, N, {}, use_ids=True, settings=settings, seed=0)
    best = max(line["gauc"] for line in lines)
    assert metrics.ctr_metrics(split.valid.labels, model.score_rows(split.valid), split.valid.users)[
        "gauc"
    ] == pytest.approx(best)
    values = [line["gauc"] for line in lines]
    assert len(values) - 1 - int(np.argmax(values)) == 2
    without_test = replace(split, test=split.test.take(np.arange(2)))
    other, _ = train_ctr_model(without_test, N, {}, use_ids=True, settings=settings, seed=0)
    assert np.array_equal(model.score_rows(split.test), other.score_rows(split.test))


def test_an_item_without_a_training_row_scores_as_any_other_such_item(split):
    train = split.train.take((split.train.items < 14) & ~(split.train.histories >= 14).any(axis=1))
    few = replace(split, train=train)
    model, _ = train_ctr_model(few, N, {}, use_ids=True, settings=QUICK.model_copy(update={"epochs": 2}), seed=0)
    row = split.test.take(np.zeros(2, np.int64))
    row.items[:] = [14, 15]
    row.histories[:] = 3
    first, second = model.score_rows(row)
    assert first == second


def test_a_gauc_that_does_not_exist_is_not_monitored(split):
    of_one_user = split.valid.take(np.unique(split.valid.users, return_index=True)[1])  # a row a user
    few = replace(split, valid=of_one_user)
    with pytest.raises(DataError, match="set monitor=auc"):
        train_ctr_model(few, N, {}, use_ids=True, settings=QUICK.model_copy(update={"monitor": "gauc"}), seed=0)


def grid(split, folder, seeds=(0, 1), **changes):
    settings = QUICK.model_copy(update={"epochs": 2, **changes})
    variants = {"ids": Variant(True), "parity": Variant(False, parity())}
    return run_ctr_grid(split, N, variants, models=["dnn", "din"], seeds=seeds, settings=settings, folder=folder)


def of_cells(lines, folder):
    return [cell_scores(folder, line) for line in lines]


@pytest.fixture
def trained(monkeypatch) -> list:
    """The seeds of the models that were really trained."""
    done, train = [], ctr_grid.train_ctr_model
    monkeypatch.setattr(
        ctr_grid,
        "train_ctr_model",
        lambda *args, seed, **more: done.append(seed) or train(*args, seed=seed, **more),
    )
    return done


def test_a_killed_table_goes_on_and_equals_an_unbroken_one(split, tmp_path, trained):
    unbroken = grid(split, tmp_path / "a")
    assert len(unbroken) == 2 + 2 * 2 * 2 and len(trained) == 8
    grid(split, tmp_path / "b", seeds=(0,))
    cells = tmp_path / "b" / "cells.jsonl"
    lines = cells.read_text().splitlines(keepends=True)
    cells.write_text("".join(lines[:-1]) + lines[-1][:20])  # killed while it wrote the last line
    trained.clear()
    resumed = grid(split, tmp_path / "b")
    assert len(trained) == 5  # the cut one of seed 0, and the four of seed 1
    without_time = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in some] for some in (unbroken, resumed)
    ]
    assert without_time[0] == without_time[1]
    assert all(json.loads(line)["key"] for line in cells.read_text().splitlines())
    trained.clear()
    grid(split, tmp_path / "b")
    assert not trained


def test_a_killed_cell_goes_on_from_its_last_validation_unless_the_table_is_fresh(split, tmp_path, monkeypatch):
    scored, score = [], CtrModel.score_rows

    def killed(self, rows):
        scored.append(len(rows))
        if len(scored) == 2:
            raise KeyboardInterrupt
        return score(self, rows)

    def table(folder, **more):
        settings = QUICK.model_copy(update={"epochs": 3})
        variants = {"ids": Variant(True)}
        return run_ctr_grid(
            split, N, variants, models=["dnn"], seeds=[0], settings=settings, folder=folder, **more
        )  # fmt: skip

    unbroken = table(tmp_path / "whole")
    monkeypatch.setattr(CtrModel, "score_rows", killed)
    for folder, more, validations in ((tmp_path / "a", {}, 2), (tmp_path / "b", {"fresh": True}, 3)):
        scored.clear()
        with pytest.raises(KeyboardInterrupt):
            table(folder)
        assert [path.name for path in folder.glob("training-*")] == [f"training-{unbroken[2]['key']}"]
        assert table(folder, **more)[2]["test"] == unbroken[2]["test"]
        assert len(scored) == 2 + validations + 2  # before the kill; after it; the scores of the cell
        assert not list(folder.glob("training-*"))


def test_other_settings_rows_or_matrices_are_trained_anew(split, tmp_path, trained):
    grid(split, tmp_path, seeds=(0,))
    trained.clear()
    grid(split, tmp_path, seeds=(0,), dropout=0.1)
    assert len(trained) == 4
    fewer = replace(split, train=split.train.take(np.arange(200)))
    grid(fewer, tmp_path, seeds=(0,))
    assert len(trained) == 8
    variants = {"parity": Variant(False, {"parity": (parity()["parity"][0] * 2, np.ones(N, bool))})}
    settings = QUICK.model_copy(update={"epochs": 2})
    run_ctr_grid(split, N, variants, models=["dnn"], seeds=[0], settings=settings, folder=tmp_path)
    assert len(trained) == 9


def test_cells_of_before_the_word_variant_are_read(split, tmp_path, trained):
    lines = grid(split, tmp_path, seeds=(0,))
    cells = tmp_path / "cells.jsonl"
    cells.write_text(cells.read_text().replace('"variant": ', '"arm": '))
    trained.clear()
    assert grid(split, tmp_path, seeds=(0,)) == lines and not trained


def test_the_table_s_figures_are_those_of_its_scores_and_differences_are_paired(split, tmp_path):
    lines = grid(split, tmp_path)
    table = {
        (record["variant"], record["model"]): record
        for record in ctr_table(split.test, lines, of_cells(lines, tmp_path), resamples=100)
    }
    assert set(table) == {
        ("item_mean", "counts"), ("user_item_mean", "counts"),
        ("ids", "dnn"), ("ids", "din"), ("parity", "dnn"), ("parity", "din"),
    }  # fmt: skip
    record, reference = table["parity", "din"], table["ids", "din"]
    scores = [
        np.load(tmp_path / "scores" / f"{line['key']}.npy")
        for line in lines
        if (line["variant"], line["model"]) == ("parity", "din")
    ]
    assert record["auc"]["value"] == pytest.approx(np.mean([metrics.auc(split.test.labels, one) for one in scores]))
    assert record["seeds"] == 2 and record["auc"]["low"] <= record["auc"]["value"] <= record["auc"]["high"]
    difference = record["auc"]["minus_reference"]
    assert difference["value"] == pytest.approx(record["auc"]["value"] - reference["auc"]["value"])
    assert difference["low"] <= difference["value"] <= difference["high"] and difference["verdict"] in (
        "above",
        "below",
        NOT_SIGNIFICANT,
    )
    assert "minus_reference" not in reference["auc"] and "minus_reference" not in table["item_mean", "counts"]["auc"]


def test_a_table_of_some_rows_counts_those_alone(split, tmp_path):
    lines = grid(split, tmp_path, seeds=(0,))
    only = split.test.items < 8
    table = ctr_table(split.test, lines, of_cells(lines, tmp_path), only=only, resamples=50)
    scores = np.load(tmp_path / "scores" / f"{lines[2]['key']}.npy")
    assert table[2]["rows"] == only.sum() < len(split.test)
    assert table[2]["gauc"]["value"] == metrics.gauc(split.test.labels[only], scores[only], split.test.users[only])


def test_a_variant_may_not_take_the_name_of_a_baseline(split, tmp_path):
    with pytest.raises(ConfigError, match="'item_mean' is always in the table"):
        run_ctr_grid(split, N, {"item_mean": Variant(True)}, models=["dnn"], seeds=[0], settings=QUICK, folder=tmp_path)
