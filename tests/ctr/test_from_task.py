"""CTR models straight from a task's examples: inputs by their names, given splits without times, refused settings."""

from dataclasses import replace

import numpy as np
import pytest

from llmrec import metrics
from llmrec.ctr.from_task import CTR_NAMES, ctr_settings, train_ctr_from_task
from llmrec.ctr.model import CtrModel, CtrSettings
from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import click_examples
from llmrec.data.click_files import read_click_split, write_click_examples
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError

N = 12
QUICK = ["dim=8", "hidden=[16]", "dropout=0", "lr=1e-2", "batch_size=128", "epochs=12", "context=false"]


@pytest.fixture(scope="module")
def data():
    """Even users like what is about dogs, odd users what is about ships; the word stands in the title."""
    rng = np.random.default_rng(0)
    num_users, length = 60, 20
    items = rng.integers(0, N, num_users * length).astype(np.int32)
    users = np.repeat(np.arange(num_users), length)
    ratings = np.where(items % 2 == users % 2, 5.0, 1.0).astype(np.float32)
    times = np.concatenate([np.sort(rng.integers(0, 1000, length)) for _ in range(num_users)])
    events = Interactions(np.arange(0, num_users * length + 1, length), items, N, times, ratings)
    titles = [f"{'ship' if item % 2 else 'dog'} story {'abcdefghijkl'[item]}" for item in range(N)]
    catalog = Catalog.from_rows([{"item_id": f"i{item}", "title": title} for item, title in enumerate(titles)])
    return Data(catalog, events, Features(N), [str(user) for user in range(num_users)])


@pytest.fixture(scope="module")
def given(data, tmp_path_factory):
    """The examples as a published split gives them: no times, no earlier answers, and test users that nobody trains on."""
    split, folder = click_examples(data.interactions), tmp_path_factory.mktemp("given")
    for name in ("train", "valid", "test"):
        rows = getattr(split, name)
        rows = rows.take(rows.users < 50 if name != "test" else rows.users >= 50)
        write_click_examples(folder / f"{name}.parquet", replace(rows, times=None))
    return read_click_split(folder, N, max_history=20)


@pytest.mark.parametrize("inputs", ["id", "text", "semantic_embedding", "id,text,semantic_embedding"])
def test_every_input_learns_what_decides_from_a_given_split_of_users_it_never_met(data, given, inputs):
    assert given.train.times is None and not given.train.answered.any()
    assert not np.isin(given.test.users, given.train.users).any()
    settings = ctr_settings("din", [f"inputs={inputs}", *QUICK])
    model = train_ctr_from_task(data, given, settings)
    assert metrics.auc(given.test.labels, model.score_rows(given.test)) > 0.9
    assert model.card["inputs"] == inputs.split(",") and model.fit_cpu_minutes > 0
    assert model.name == "din" and model.inputs.num_fields == len(inputs.split(","))


def test_a_refit_and_the_seed_come_from_the_settings_and_the_model_is_kept_with_its_card(data, given, tmp_path):
    settings = ctr_settings("gdcn", ["refit=true", "seed=4", *QUICK])
    model = train_ctr_from_task(data, given, settings)
    assert model.card["fit"] == "train+valid" and model.card["seed"] == 4
    assert model.card["settings"] == CtrSettings(**settings.model_dump(exclude={"inputs", "seed", "refit"})).model_dump(
        mode="json"
    )
    model.save(tmp_path / "model", {"data": "dogs"})
    loaded, card = CtrModel.load(tmp_path / "model")
    assert card == {**model.card, "data": "dogs"}
    assert np.array_equal(loaded.score_rows(given.test), model.score_rows(given.test))


def test_every_model_has_its_settings_by_name():
    for name in CTR_NAMES:
        assert ctr_settings(name, ["inputs=id, text"]).inputs == ("id", "text")
        assert ctr_settings(name, ["inputs=[text]"]).model == name


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("deepfm", [], "no CTR model 'deepfm' .*gdcn"),
        ("din", ["inputs=id,picture"], "'inputs.*picture"),
        ("din", ["inputs=id,id"], "once each"),
        ("din", ["model=dnn"], "the CTR model is 'din', but a setting says model=dnn"),
        ("din", ["depth=3"], "unknown setting 'depth'"),
    ],
)
def test_names_and_settings_that_there_are_not_are_refused_in_words(name, overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ctr_settings(name, overrides)
