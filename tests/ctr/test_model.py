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
from llmrec.nn.item_inputs import ItemPieces

N = 9
KINDS = ("dnn", "dcn_v2", "din", "autoint", "gdcn")


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


def some_pieces():
    """Items 0 to 8 of one to three pieces each, but the last, which has none."""
    rows = np.random.default_rng(2).integers(1, 6, (N, 3)).astype(np.int32)
    rows[np.arange(3) > np.arange(N)[:, None] % 3] = 0
    rows[-1] = 0
    return ItemPieces(rows, 5)


def made(kind="din", use_ids=True, inputs=None, pieces=None, **settings):
    torch.manual_seed(0)
    inputs = matrices() if inputs is None else inputs
    return CtrModel.make(N, inputs, use_ids, CtrSettings(model=kind, dim=4, hidden=(8,), **settings), pieces).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_scores_the_same_after_loading(kind, tmp_path):
    model, rows = made(kind, pieces=some_pieces()), some_rows()
    model.card = {"seed": 3}
    model.save(tmp_path / "model", {"split": "time"})
    state = torch.get_rng_state()
    loaded, card = CtrModel.load(tmp_path / "model")
    assert np.array_equal(model.score_rows(rows), loaded.score_rows(rows)) and card == {"seed": 3, "split": "time"}
    assert (loaded.name, loaded.card) == (kind, card)
    assert torch.equal(state, torch.get_rng_state())
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [CARD, WEIGHTS]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_score_the_same_together_and_alone(kind):
    model, rows = made(kind), some_rows()
    alone = [model.score_rows(rows.take(np.array([row])))[0] for row in range(len(rows))]
    np.testing.assert_allclose(model.score_rows(rows), alone, atol=1e-6)


def test_a_folder_of_a_model_from_before_word_pieces_loads(tmp_path):
    model, rows = made(), some_rows()
    model.save(tmp_path / "model", {})
    card = json.loads((tmp_path / "model" / CARD).read_text())
    del card["pieces"]
    (tmp_path / "model" / CARD).write_text(json.dumps(card))
    assert np.array_equal(CtrModel.load(tmp_path / "model")[0].score_rows(rows), model.score_rows(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_the_label_of_a_row_and_the_rows_after_it_change_no_score(kind):
    model, rows = made(kind, pieces=some_pieces()), some_rows(30)
    other = some_rows(30, seed=5)
    changed = ClickExamples(
        *(
            np.concatenate([getattr(rows, name)[:10], getattr(other, name)[10:]])
            for name in ("users", "items", "labels", "histories", "answered", "liked")
        ),
        None,
    )
    changed.labels[:10] = ~changed.labels[:10]
    assert np.array_equal(model.score_rows(changed)[:10], model.score_rows(rows)[:10])
    assert not np.array_equal(model.score_rows(changed)[10:], model.score_rows(rows)[10:])


def test_serving_imports_no_language_model(tmp_path):
    made().save(tmp_path / "model", {})
    code = (
        "import sys, numpy as np\n"
        "from llmrec.data.click_examples import ClickExamples\n"
        "from llmrec.ctr.model import CtrModel\n"
        f"model, _ = CtrModel.load({str(tmp_path / 'model')!r})\n"
        "one = np.zeros(1, np.int32)\n"
        "print(model.score_rows(ClickExamples(one, one, one > 0, np.array([[-1, 2]], np.int32), one, one, None)))\n"
        "loaded = sorted({name.split('.')[0] for name in sys.modules} & {'transformers', 'peft', 'accelerate', 'vllm'})\n"
        "sys.exit(f'imported: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("[0."), done.stderr


def test_other_vectors_of_an_item_change_the_rows_that_hold_it_and_no_others():
    model, rows = made(), some_rows(40)
    text, present = matrices()["text"]
    before = model.score_rows(rows)
    changed = text.copy()
    changed[4] += 3
    model.replace_features("text", changed, present)
    after = model.score_rows(rows)
    holds = (rows.items == 4) | (rows.histories == 4).any(axis=1)
    assert holds.any() and not holds.all()
    np.testing.assert_allclose(after[~holds], before[~holds], atol=1e-6)
    assert (np.abs(after[holds] - before[holds]) > 1e-6).all()
    with pytest.raises(DataError, match="reads no features 'sound'"):
        model.replace_features("sound", changed, present)


def test_without_the_context_only_items_count():
    rows = some_rows()
    other = ClickExamples(rows.users, rows.items, rows.labels, rows.histories, rows.answered + 9, rows.liked + 2, None)
    assert np.array_equal(made(context=False).score_rows(rows), made(context=False).score_rows(other))
    assert not np.array_equal(made().score_rows(rows), made().score_rows(other))


def test_matrices_that_do_not_fit_are_refused_in_words():
    text, present = matrices()["text"]
    with pytest.raises(DataError, match="got none of them"):
        made(use_ids=False, inputs={})
    with pytest.raises(DataError, match=r"\(9, pieces\), but are \(4, 3\)"):
        made(pieces=ItemPieces(some_pieces().rows[:4], 5))
    with pytest.raises(DataError, match=r"\(9, width\)"):
        made(inputs={"text": (text[:5], present)})
    with pytest.raises(DataError, match="hold NaN"):
        made(inputs={"text": (np.full_like(text, np.nan), present)})
    absent = np.where(present[:, None], text, np.nan)
    assert np.isfinite(made(inputs={"text": (absent, present)}).score_rows(some_rows())).all()


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
        model.score_rows(some_rows())
