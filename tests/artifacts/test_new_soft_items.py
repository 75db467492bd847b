"""Items added to a run of soft tokens: made of their own features by the trained adapter; old ones stay as they are."""

import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from llmrec.artifacts.new_items import add_items
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.errors import ArtifactError, DataError, LlmrecError
from llmrec.files import read_json, write_json
from llmrec.recommender import Recommender
from tests.apps.calling import call
from tests.recipes.running import run_here, settings

HISTORY = ["50", "1", "56"]
NEW = {"item_id": "n1", "title": "Terminator 3", "genres": ["Action"], "year": "2003"}


@pytest.fixture
def run(poster_run, tmp_path):
    shutil.copytree(poster_run / "model", tmp_path / "run" / "model")
    return tmp_path / "run"


def twin(data, item: int) -> dict:
    """A new item with the texts and the image of an old one."""
    return data.catalog.table.slice(item, 1).to_pylist()[0] | {"item_id": "twin"}


def features_of(run) -> dict:
    folder = run / "model" / "vector_tokens" / "features"
    return {path.stem: load_file(path) for path in folder.glob("*.safetensors")}


def test_a_new_item_like_an_old_one_gets_its_score_and_old_rows_stay(run, imaged_items):
    data, old = load_data(imaged_items), features_of(run)
    before = Recommender.from_pretrained(run)
    known = before.score(HISTORY, data.catalog.item_ids)
    added = add_items(run, Catalog.from_rows([twin(data, 3), NEW]), images=imaged_items)
    assert (added.num_new, added.num_items, added.codes, added.without) == (2, 102, None, {"image": 1})
    assert added.unused_columns == [] and added.missing_columns == []
    for name, kept in features_of(run).items():
        assert kept["vectors"][:100].tobytes() == old[name]["vectors"].tobytes()
        assert (kept["present"][:100] == old[name]["present"]).all()
    after = Recommender.from_pretrained(run)
    scores = np.array(after.score(HISTORY, [*data.catalog.item_ids, "twin", "n1"]))
    assert scores[100] == pytest.approx(scores[3], abs=1e-4), "the same features, the same score"
    moved = scores[:100] - known  # two more items share the probability: all others lose the same
    np.testing.assert_allclose(moved, moved.mean(), atol=1e-4)
    found = after.recommend(HISTORY, k=200)
    assert {"twin", "n1"} <= {item.item_id for item in found} and len(found) == 99
    as_history = (
        after.score([*HISTORY[:2], "twin"], ["n1"]),
        after.score([*HISTORY[:2], data.catalog.item_id(3)], ["n1"]),
    )
    np.testing.assert_allclose(*as_history, atol=1e-4)


def test_adding_twice_goes_on_and_a_broken_image_is_gone_without(run, tmp_path, capsys):
    Image.new("RGB", (30, 40), "blue").save(tmp_path / "blue.png")
    (tmp_path / "broken.png").write_text("no image")
    (tmp_path / "new.csv").write_text(
        "item_id,title,genres,image\nn1,Terminator 3,Action,blue.png\nn2,Heat 2,Crime,broken.png\n"
    )
    done = call(capsys, "add-items", run, tmp_path / "new.csv", "--json")
    assert done.json["without"] == {"image": 1} and done.json["missing_columns"] == ["year"]
    assert "1 of 2 new items have no 'image'" in done.err
    add_items(run, Catalog.from_rows([NEW | {"item_id": "n3"}]))
    model = Recommender.from_pretrained(run)
    assert model.catalog.item_ids[100:] == ["n1", "n2", "n3"]
    assert features_of(run)["image"]["present"][100:].tolist() == [True, False, False]
    assert len(model.recommend(["n1", "n3"], k=3, candidates=["n2", "50"])) == 2


def test_matrices_of_ones_own_are_asked_for_and_collaborative_is_absent(imaged_items, tiny_model, tmp_path):
    run, new = tmp_path / "run", Catalog.from_rows([NEW])
    more = (
        "items.form=soft",
        "soft.features=[text,collaborative,taste]",
        "soft.collaborative_dim=16",
        "soft.adapter.hidden_dim=8",
    )
    run_here(settings(imaged_items, tiny_model, run, *more, "training.max_steps=1", "training.evaluate_every=1"))
    with pytest.raises(DataError, match=r"are known by text, collaborative, taste, but .* for nothing\. Give 'taste'"):
        add_items(run, new)
    with pytest.raises(DataError, match=r"'taste' of this run have 4 numbers per item, but those that came have 3"):
        add_items(run, new, features={"taste": np.ones((1, 3))})
    added = add_items(run, new, features={"taste": np.ones((1, 4))})
    assert added.without == {"collaborative": 1}
    assert (features_of(run)["taste"]["vectors"][100] == 1).all()
    assert np.isfinite(Recommender.from_pretrained(run).score(HISTORY, ["n1"])).all()


def test_codes_and_soft_tokens_of_one_run_both_grow(few_items, tiny_model, tmp_path):
    more = ("items.form=semantic_id", "items.prompt_form=[text,soft]", "prompt.targets=last_item", "prompt.name=next_item/instruction",
            "soft.features=[text]", "soft.adapter.hidden_dim=8", "training.max_steps=1", "training.evaluate_every=1",
            "validation.max_users=2", "validation.num_beams=3", "prompt.max_history=3")  # fmt: skip
    run_here(settings(few_items, tiny_model, tmp_path / "run", *more))
    added = add_items(tmp_path / "run", Catalog.from_rows([NEW]))
    assert added.codes.shape == (1, 3) and added.without == {}
    recommender = Recommender.from_pretrained(tmp_path / "run", num_beams=5)
    assert [
        item.item_id for item in recommender.recommend(["n1", "50"], k=1, candidates=["n1"], exclude_seen=False)
    ] == ["n1"]


def test_what_cannot_be_made_is_said_and_the_run_stays(run, tmp_path):
    before = features_of(run)
    new = Catalog.from_rows([NEW])
    with pytest.raises(DataError, match=r"there are matrices for 'taste'\. Leave --features out"):
        add_items(run, new, features={"taste": np.ones((1, 4))})
    card = run / "model" / "vector_tokens" / "vector_tokens.json"
    facts = read_json(card, "card")
    write_json(
        card,
        {"soft": facts["soft"] | {"sources": facts["soft"]["sources"] | {"text": {"encoder": str(tmp_path / "no")}}}},
    )
    with pytest.raises(LlmrecError, match="no"):
        add_items(run, new)
    write_json(card, {"soft": {"adapter": facts["soft"]["adapter"]}})
    with pytest.raises(ArtifactError, match="does not say what the features were made from"):
        add_items(run, new)
    assert all((features_of(run)[name]["vectors"] == kept["vectors"]).all() for name, kept in before.items())
