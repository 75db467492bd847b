"""Features by name: each at its own width, absent where an item has none, and nothing that would leak."""

import logging

import numpy as np
import pytest
from PIL import Image

from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Interactions
from llmrec.encoders import item_features as module
from llmrec.encoders.item_features import (
    ImageSource,
    TextSource,
    catalog_features,
    item_features,
    items_without_features,
)
from llmrec.encoders.text import encode_texts
from llmrec.errors import DataError
from tests.backbones.vision_folders import save_vision_model

ITEMS = (
    ("a", "Heat", "images/a.png"),
    ("b", "", None),
    ("c", "Toy Story", "images/broken.png"),
    ("d", "", "images/a.png"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    Image.new("RGB", (20, 30), "teal").save(folder / "images" / "a.png")
    (folder / "images" / "broken.png").write_text("no image")
    catalog = Catalog.from_rows([dict(zip(("item_id", "title", "image"), row, strict=True)) for row in ITEMS])
    features = Features(4)
    features.add("mine", np.arange(8).reshape(4, 2), np.array([True, True, False, False]))
    features.add("collaborative", np.ones((4, 3)))  # somebody's mistake
    events = Interactions(np.array([0, 1]), np.array([0], np.int32), 4)
    return Data(catalog, events, features, ["u"], {}, folder)


@pytest.fixture(autouse=True)
def own_cache(data, monkeypatch):
    monkeypatch.setenv("LLMREC_CACHE", str(data.folder.parent / "cache"))


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> ImageSource:
    return ImageSource(encoder=save_vision_model("vit", tmp_path_factory.mktemp("vit")))


def test_each_feature_has_its_own_width_and_says_who_has_it(data, image):
    split = Features(4)
    split.add("collaborative", np.full((4, 5), 2), np.array([True, False, False, False]))
    found = item_features(["collaborative", "image", "text", "mine"], data, image=image, extra=split)
    assert found.names == ["collaborative", "image", "text", "mine"]
    assert [found[name].shape for name in found] == [(4, 5), (4, 16), (4, 384), (4, 2)]
    assert {name: found.present[name].tolist() for name in found} == {
        "collaborative": [True, False, False, False],
        "image": [True, False, False, True],
        "text": [True, False, True, False],
        "mine": [True, True, False, False],
    }
    assert (found["image"][0] == found["image"][3]).all() and found["image"][0].any()
    assert all(not found[name][~found.present[name]].any() for name in found)
    assert np.allclose(found["text"][0], encode_texts(["Heat"])[0], atol=1e-5)


def test_what_was_fitted_to_events_is_never_read_from_the_data_folder(data):
    with pytest.raises(
        DataError, match=r"'collaborative' are not known here: they are fitted to the events that a split allows"
    ):
        item_features(["collaborative"], data)


def test_the_callers_features_go_before_those_of_the_folder(data):
    extra = Features(4)
    extra.add("mine", np.full((4, 1), 9))
    extra.add("text", np.full((4, 1), 8))
    found = item_features(["mine", "text"], data, extra=extra)
    assert found["mine"].tolist() == [[9]] * 4 and found["text"].tolist() == [[8]] * 4
    assert item_features(["mine"], data)["mine"].shape == (4, 2)


def test_text_is_made_from_the_fields_and_by_the_encoder_that_are_asked_for(data, monkeypatch):
    asked = []
    monkeypatch.setattr(
        module,
        "encode_texts",
        lambda texts, model, *, max_tokens: asked.append((texts, model, max_tokens)) or np.ones((4, 2)),
    )
    item_features(["text"], data, text=TextSource(encoder="another", fields=["title", "image"], max_tokens=9))
    assert asked == [
        (["Heat. image: images/a.png", "", "Toy Story. image: images/broken.png", "image: images/a.png"], "another", 9)
    ]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            ["smell"],
            r"no features 'smell' \(there are: text, image, mine\)\. Add your own with: llmrec features DATA --add",
        ),
        (["mine", "mine"], "'mine' is named twice"),
        ([], "name a feature or more"),
        (
            ["generated_texts"],
            "'generated_texts' are not known here: they are encoded from the texts of `llmrec enrich`",
        ),
    ],
)
def test_names_that_cannot_be_served_are_refused(data, names, sentence):
    with pytest.raises(DataError, match=sentence):
        item_features(names, data)


def test_a_feature_that_no_item_has_is_refused(data, image):
    untitled = Catalog.from_rows([{"item_id": "a", "title": "", "image": None}])
    for name in ("text", "image"):
        with pytest.raises(DataError, match=f"none of the 1 items has the features '{name}'"):
            catalog_features([name], untitled, Features(1), folder=data.folder, image=image)
    with pytest.raises(DataError, match="need the data folder"):
        catalog_features(["image"], untitled, Features(1))


def test_a_broken_image_fails_by_item_where_that_is_asked(data, image):
    with pytest.raises(DataError, match=r"item 'c', '.*broken\.png': the file is no image"):
        item_features(["image"], data, image=image.model_copy(update={"on_broken": "fail"}))


def test_items_without_any_feature_are_counted_named_and_refused_where_asked(data, image, caplog):
    found = item_features(["text", "image"], data, image=image)
    with caplog.at_level(logging.WARNING, logger="llmrec"):
        assert items_without_features(found, data.catalog).tolist() == [False, True, False, False]
    assert "1 of 4 items have none of the features text, image: 'b'." in caplog.text
    with pytest.raises(DataError, match="1 of 4 items have none of the features text, image: 'b'"):
        items_without_features(found, data.catalog, "fail")
    caplog.clear()
    assert not items_without_features(item_features(["text", "image", "mine"], data, image=image), data.catalog).any()
    assert not [record for record in caplog.records if "none of the features" in record.getMessage()]
