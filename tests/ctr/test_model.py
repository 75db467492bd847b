"""Click models that serve: saved and loaded they score alike, without a language model, and what does not fit is refused in words."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from llmrec.ctr.model import CARD, WEIGHTS, CtrModel, CtrSettings
from llmrec.data.click_examples import PADDING, ClickExamples
from llmrec.errors import ArtifactError, DataError, ModelError

N = 9
KINDS = ("dnn", "dcn_v2", "din", "autoint")


def some_rows(number=20, seed=0) -> ClickExamples:
    rng = np.random.default_rng(seed)
    histories = rng.integers(0, N, (number, 5)).astype(np.int32)
    histories[np.arange(5) < rng.integers(0, 5, number)[:, None]] = PADDING
    answered = rng.integers(0, 30, number).astype(np.int32)
    return ClickExamples(
        rng.integers(0, 4, number).astype(np.int32), rng.integers(0, N, number).astype(np.int32), rng.random(number) < 0.5,
        histories, answered, (answered * rng.random(number)).astype(np.int32), None,
    )  # fmt: skip


def matrices(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(N, 4)).astype(np.float32)
    return {
        "text": (rng.normal(size=(N, 6)).astype(np.float32), np.ones(N, bool)),
        "image": (image, np.arange(N) % 2 == 0),
    }


def made(kind="din", use_ids=True, inputs=None, **settings):
    torch.manual_seed(0)
    inputs = matrices() if inputs is None else inputs
    return CtrModel.make(N, inputs, use_ids, CtrSettings(model=kind, dim=4, hidden=(8,), **settings)).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_scores_the_same_after_loading(kind, tmp_path):
    model, rows = made(kind), some_rows()
    model.save(tmp_path / "model", {"split": "time"})
    state = torch.get_rng_state()
    loaded, card = CtrModel.load(tmp_path / "model")
    assert np.array_equal(model.score(rows), loaded.score(rows)) and card == {"split": "time"}
    assert torch.equal(state, torch.get_rng_state())
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [CARD, WEIGHTS]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_score_the_same_together_and_alone(kind):
    model, rows = made(kind), some_rows()
    alone = [model.score(rows.take(np.array([row])))[0] for row in range(len(rows))]
    np.testing.assert_allclose(model.score(rows), alone, atol=1e-6)


def test_serving_imports_no_language_model(tmp_path):
    made().save(tmp_path / "model", {})
    code = (
        "import sys, numpy as np\n"
        "from llmrec.data.click_examples import ClickExamples\n"
        "from llmrec.ctr.model import CtrModel\n"
        f"model, _ = CtrModel.load({str(tmp_path / 'model')!r})\n"
        "one = np.zeros(1, np.int32)\n"
        "print(model.score(ClickExamples(one, one, one > 0, np.array([[-1, 2]], np.int32), one, one, None)))\n"
        "loaded = sorted({name.split('.')[0] for name in sys.modules} & {'transformers', 'peft', 'accelerate', 'vllm'})\n"
        "sys.exit(f'imported: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("[0."), done.stderr


def test_other_vectors_of_an_item_change_the_rows_that_hold_it_and_no_others():
    model, rows = made(), some_rows(40)
    text, present = matrices()["text"]
    before = model.score(rows)
    changed = text.copy()
    changed[4] += 3
    model.replace_features("text", changed, present)
    after = model.score(rows)
    holds = (rows.items == 4) | (rows.histories == 4).any(axis=1)
    assert holds.any() and not holds.all()
    np.testing.assert_allclose(after[~holds], before[~holds], atol=1e-6)
    assert (np.abs(after[holds] - before[holds]) > 1e-6).all()
    with pytest.raises(DataError, match="reads no features 'sound'"):
        model.replace_features("sound", changed, present)


def test_without_the_context_only_items_count():
    rows = some_rows()
    other = ClickExamples(rows.users, rows.items, rows.labels, rows.histories, rows.answered + 9, rows.liked + 2, None)
    assert np.array_equal(made(context=False).score(rows), made(context=False).score(other))
    assert not np.array_equal(made().score(rows), made().score(other))


def test_matrices_that_do_not_fit_are_refused_in_words():
    text, present = matrices()["text"]
    with pytest.raises(DataError, match="got neither"):
        made(use_ids=False, inputs={})
    with pytest.raises(DataError, match=r"\(9, width\)"):
        made(inputs={"text": (text[:5], present)})
    with pytest.raises(DataError, match="hold NaN"):
        made(inputs={"text": (np.full_like(text, np.nan), present)})
    absent = np.where(present[:, None], text, np.nan)
    assert np.isfinite(made(inputs={"text": (absent, present)}).score(some_rows())).all()


def test_a_damaged_or_foreign_folder_is_refused_in_words(tmp_path):
    folder = tmp_path / "model"
    with pytest.raises(ArtifactError, match="cannot read"):
        CtrModel.load(folder)
    made().save(folder, {})
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights[:-20])
    with pytest.raises(ArtifactError, match="damaged"):
        CtrModel.load(folder)
    (folder / WEIGHTS).write_bytes(weights)
    facts = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**facts, "num_items": 8}))
    with pytest.raises(ArtifactError, match="damaged"):
        CtrModel.load(folder)
    (folder / CARD).write_text(json.dumps({**facts, "format_version": 99}))
    with pytest.raises(ArtifactError, match="format version 99"):
        CtrModel.load(folder)


def test_a_diverged_model_says_so_instead_of_scoring():
    model = made()
    with torch.no_grad():
        model.net.out.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="diverged"):
        model.score(some_rows())
