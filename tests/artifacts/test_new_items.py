"""Items added to a finished run: at once recommended, old codes untouched, the old run whole when anything fails."""

import json
import shutil

import numpy as np
import pytest

from llmrec.apps.tokenize_command import tokenize
from llmrec.artifacts import new_items as module
from llmrec.artifacts.new_items import add_items
from llmrec.artifacts.run_folder import load_artifact, read_manifest
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.errors import ArtifactError, DataError, LlmrecError
from llmrec.files import content_hash
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.recommender import Recommender

NEW = [
    {"item_id": "n1", "title": "Toy Story 2", "genres": ["Animation", "Children's", "Comedy"], "year": "1999"},
    {"item_id": "n2", "title": "Toy Story 2", "genres": ["Animation", "Children's", "Comedy"], "year": "1999"},
    {"item_id": "n3", "title": "Terminator 3", "genres": ["Action"], "budget": "187"},
]


@pytest.fixture
def run(growing_run, tmp_path):
    shutil.copytree(growing_run, tmp_path / "run")
    return tmp_path / "run"


def contents(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): content_hash(path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


def test_new_items_are_recommended_at_once_and_nothing_else_changes(run):
    before, old = contents(run / "model"), SemanticIDs.load(run / "model" / "semantic_ids")
    added = add_items(run, Catalog.from_rows(NEW))
    assert (added.num_new, added.num_items, added.folder) == (3, 103, run / "model")
    assert (added.missing_columns, added.unused_columns) == ([], ["budget"])
    ids = SemanticIDs.load(run / "model" / "semantic_ids")
    assert ids.codes[:100].tobytes() == old.codes.tobytes() and (ids.codes[100:] == added.codes).all()
    assert len(np.unique(ids.codes, axis=0)) == 103
    changed = {name for name, digest in contents(run / "model").items() if before.get(name) != digest}
    assert changed == {
        "manifest.json",
        "README.md",
        "items.parquet",
        "semantic_ids/codes.safetensors",
        "semantic_ids/semantic_ids.json",
    }

    recommender = Recommender.from_pretrained(run)
    found = recommender.recommend(["50", "1"], k=10_000)
    assert len(found) == 101 and {"n1", "n2", "n3"} <= {item.item_id for item in found}
    assert recommender.recommend(["n1", "50"], k=3, candidates=["n3"])[0].title == "Terminator 3"
    assert recommender.catalog.text(100, "genres") == "Animation, Children's, Comedy"


def test_an_item_like_an_old_one_gets_codes_like_its_codes(run):
    catalog = load_artifact(run).catalog
    twin = {"item_id": "twin", "title": catalog.title(0), "genres": catalog.text(0, "genres").split(", ")}
    add_items(run, Catalog.from_rows([twin]))
    ids = SemanticIDs.load(run / "model" / "semantic_ids")
    assert (ids.codes[100, :-1] == ids.codes[0, :-1]).all() and ids.codes[100, -1] != ids.codes[0, -1]


def test_adding_twice_goes_on_and_another_folder_leaves_the_run_as_it_is(run, tmp_path):
    before = contents(run)
    add_items(run, Catalog.from_rows(NEW[:2]), out=tmp_path / "grown")
    assert contents(run) == before
    add_items(tmp_path / "grown", Catalog.from_rows(NEW[2:]))
    manifest = read_manifest(tmp_path / "grown")
    assert manifest["num_items"] == 103 and manifest["protocol"]["added_items"] == 3
    catalog = load_artifact(tmp_path / "grown").catalog
    assert catalog.item_ids[100:] == ["n1", "n2", "n3"] and manifest["catalog_hash"] == catalog.content_hash
    card = json.loads((tmp_path / "grown" / "semantic_ids" / "semantic_ids.json").read_text())["card"]
    assert card["added_items"] == 3 and card["catalog_hash"] == catalog.content_hash


def test_columns_written_another_way_are_read_as_the_old_ones(run):
    add_items(run, Catalog.from_rows([{"item_id": "n4", "title": "x", "genres": "Comedy", "year": 1999}]))
    catalog = load_artifact(run).catalog
    assert (catalog.text(100, "genres"), catalog.text(100, "year")) == ("Comedy", "1999")


def test_titles_join_the_trie_of_a_run_of_the_text_form(few_items, tiny_model, tmp_path):
    from tests.recipes.running import run_here, settings

    more = ("items.form=text", "training.max_steps=2", "training.evaluate_every=2", "validation.max_users=2",
            "validation.num_beams=3", "prompt.max_history=3")  # fmt: skip
    run_here(settings(few_items, tiny_model, tmp_path / "run", *more))
    assert add_items(tmp_path / "run", Catalog.from_rows(NEW[2:])).codes is None
    found = Recommender.from_pretrained(tmp_path / "run", num_beams=3).recommend(["50"], k=1, candidates=["n3"])
    assert [item.title for item in found] == ["Terminator 3"]
    with pytest.raises(DataError, match="by their titles, so features have no use"):
        add_items(tmp_path / "run", Catalog.from_rows(NEW[:1]), features={"taste": np.ones((1, 4))})


@pytest.mark.parametrize(
    ("rows", "features", "sentence"),
    [
        (
            [NEW[0], {"item_id": "50", "title": "Star Wars"}],
            {},
            "1 of 2 new items are in the catalog of 100 items already: '50'",
        ),
        ([NEW[0], {"item_id": "n5", "title": None}], {}, r"1 of 2 have none \(the first is 'n5'\)"),
        (
            NEW,
            {"taste": np.ones((3, 4))},
            "nothing but the items' texts, but there are features for 'taste'. Leave --features out",
        ),
        ([{"item_id": f"n{i}", "title": f"{i}"} for i in range(413)], {}, "of 512 sequences of codes 100 are taken"),
    ],
)
def test_items_that_cannot_be_added_are_refused_and_the_run_stays_whole(run, rows, features, sentence):
    before = contents(run)
    with pytest.raises(DataError, match=sentence):
        add_items(run, Catalog.from_rows(rows), features=features)
    assert contents(run) == before


def test_a_failure_while_writing_leaves_the_old_run(run, monkeypatch):
    before = contents(run)
    monkeypatch.setattr(module, "write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(LlmrecError, match="No space left"):
        add_items(run, Catalog.from_rows(NEW))
    assert contents(run) == before


def test_codes_of_other_features_need_those_of_the_new_items(few_items, tiny_model, tmp_path):
    from tests.recipes.running import run_here, settings

    data = load_data(few_items)
    taste = np.random.default_rng(0).normal(size=(100, 4)) * 50 + 7
    data.features.add("taste", taste, np.arange(100) != 5)
    shutil.copytree(few_items, tmp_path / "data")
    data.features.save(tmp_path / "data" / "features")
    tokenize(tmp_path / "data", feature=["taste", "text"], name="both", codebook_size=8)
    ids = f"items.semantic_ids={tmp_path / 'data' / 'semantic_ids' / 'both'}"
    more = ("items.form=semantic_id", "training.max_steps=1", "training.evaluate_every=1", "validation.max_users=2")
    run_here(settings(tmp_path / "data", tiny_model, tmp_path / "run", ids, *more))
    twin = data.catalog.table.slice(0, 1).to_pylist()[0] | {"item_id": "twin"}
    with pytest.raises(
        DataError, match=r"made from 'taste', but there are features for nothing. Give vectors for each"
    ):
        add_items(tmp_path / "run", Catalog.from_rows([twin]))
    with pytest.raises(
        DataError, match=r"item features of 388 numbers per item were expected, but these have 386 \(2 \+ 384\)"
    ):
        add_items(tmp_path / "run", Catalog.from_rows([twin]), features={"taste": np.ones((1, 2))})
    add_items(tmp_path / "run", Catalog.from_rows([twin]), features={"taste": taste[:1]})
    codes = SemanticIDs.load(tmp_path / "run" / "model" / "semantic_ids").codes
    assert (codes[100, :-1] == codes[0, :-1]).all(), "the same features in the same scale lie at the same codes"


def test_runs_that_cannot_take_new_items_say_what_to_do(tiny_run, tiny_code_run, run, tmp_path):
    new = Catalog.from_rows(NEW)
    with pytest.raises(ArtifactError, match=r"a new item has none: train again .*or train with items.form=semantic_id"):
        add_items(tiny_run, new)
    with pytest.raises(ArtifactError, match="came without the codebooks"):
        add_items(tiny_code_run, new)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="left as it is"):
        add_items(run, new, out=tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
