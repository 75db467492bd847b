"""`llmrec image`: another image changes one item's soft tokens and score, and nothing of any other item."""

import json
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from llmrec.artifacts.run_folder import load_artifact
from llmrec.data.features import Features
from llmrec.data.images import MAX_PIXELS
from llmrec.encoders.image import DEFAULT_IMAGE_ENCODER, encode_images
from llmrec.encoders.text import DEFAULT_ENCODER, MAX_TOKENS
from llmrec.files import read_json, write_json
from llmrec.recommender import Recommender
from tests.apps.calling import assert_one_sentence, call
from tests.recipes.running import run_here, settings

HISTORY = ("--history", "50", "--history", "1")


@pytest.fixture
def run(poster_run, tmp_path):
    shutil.copytree(poster_run / "model", tmp_path / "run" / "model")
    return tmp_path / "run"


@pytest.fixture
def red(tmp_path):
    Image.new("RGB", (40, 60), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def test_a_run_says_what_its_features_were_made_from(poster_run):
    soft = load_artifact(poster_run).backbone.vector_tokens["soft"]
    assert list(soft.sources) == ["text", "image"]
    assert soft.sources["text"] == {"encoder": DEFAULT_ENCODER, "fields": None, "max_tokens": MAX_TOKENS}
    assert soft.sources["image"] == {"encoder": DEFAULT_IMAGE_ENCODER, "on_broken": "skip", "max_pixels": MAX_PIXELS}
    assert soft.present.sum(dim=0).tolist() == [100, 99] and not soft.present[7, 1]


def test_another_image_changes_the_items_tokens_and_score_and_no_other_item(poster_run, red, capsys):
    found = call(capsys, "image", poster_run, "--item", "56", "--image", red, *HISTORY, "-k", "5", "--json").json
    tokens = found["soft_tokens"]
    assert tokens["cosine"] < 0.999 and tokens["largest_change_of_other_items"] == 0 and tokens["length_ratio"] > 0
    assert found["score"]["before"] != found["score"]["after"]
    assert all(1 <= found["rank"][when] <= 100 for when in ("before", "after")) and found["num_ranked"] == 100
    for when in ("before", "after"):
        listed = [item["item_id"] for item in found["recommendations"][when]]
        assert len(listed) == 5 and not {"50", "1"} & set(listed)
    scored = Recommender.from_pretrained(poster_run).score(["50", "1"], ["56"])
    assert found["score"]["before"] == pytest.approx(scored[0], abs=1e-4), "and the run on disk is as it was"


def test_the_same_image_changes_nothing(poster_run, imaged_items, capsys):
    same = imaged_items / "images" / "56.png"
    found = call(capsys, "image", poster_run, "--item", "56", "--image", same, *HISTORY, "--json").json
    assert found["soft_tokens"]["cosine"] == pytest.approx(1, abs=1e-6)
    assert found["score"]["before"] == pytest.approx(found["score"]["after"], abs=1e-5)
    assert found["recommendations"]["before"] == found["recommendations"]["after"]


def test_people_read_before_and_after(poster_run, red, capsys):
    said = call(capsys, "image", poster_run, "--item", "50", "--image", red, *HISTORY, "-k", "3").out
    assert "Star Wars [50]" in said and "unchanged (largest difference 0)" in said and " -> " in said
    assert "the list, with the item in the history: " in said
    assert "--image runs/demo/data/images/181.png" in call(capsys, "image", "--help").out


def test_what_is_read_after_a_change_is_what_a_run_with_that_image_reads(run, red):
    """Also of prompts that were read before: nothing of the old image is remembered."""
    recommender, history = Recommender.from_pretrained(run), ["1", "50", "56", "7"]
    before = recommender.score(history, ["2", "50", "56"])
    recommender.replace_image("50", red)
    after = recommender.score(history, ["2", "50", "56"])
    assert not np.allclose(before, after, atol=1e-4)
    folder = run / "model" / "vector_tokens" / "features"
    features = Features.load(folder, 100)
    vectors, present = features["image"].copy(), features.present["image"]
    vectors[recommender.catalog.index(["50"])[0]] = encode_images([red])[0][0]
    features.add("image", vectors, present)
    features.save(folder)
    manifest = json.loads((run / "model" / "manifest.json").read_text())
    del manifest["weights"]  # the checksums of the files before
    (run / "model" / "manifest.json").write_text(json.dumps(manifest))
    np.testing.assert_allclose(Recommender.from_pretrained(run).score(history, ["2", "50", "56"]), after, atol=1e-5)


def test_an_item_without_a_image_gets_its_first_one(poster_run, red):
    recommender = Recommender.from_pretrained(poster_run)
    item = recommender.catalog.item_id(7)
    before = recommender.score(["50"], [item])
    recommender.replace_image(item, red)
    assert recommender.score(["50"], [item]) != before


def test_files_that_are_no_images_are_refused_in_one_sentence(poster_run, tmp_path, capsys):
    (tmp_path / "words.png").write_text("no image")
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\x35\xaf\x06\x1e"
    )
    for name, sentence in (
        ("words.png", "the file is no image"),
        ("bomb.png", "too large"),
        ("none.png", "No such file"),
    ):
        called = call(capsys, "image", poster_run, "--item", "50", "--image", tmp_path / name)
        assert_one_sentence(called, sentence)


def test_unknown_items_and_runs_that_read_no_image_are_said(
    poster_run, run, tiny_run, imaged_items, tiny_model, red, tmp_path, capsys
):
    image = ("--image", red)
    assert_one_sentence(call(capsys, "image", poster_run, "--item", "nix", *image), "no item id 'nix'")
    assert_one_sentence(call(capsys, "image", tiny_run, "--item", "50", *image), "has no soft tokens")
    more = ("items.form=soft", "soft.features=[text]", "soft.adapter.hidden_dim=8", "training.max_steps=1")
    run_here(settings(imaged_items, tiny_model, tmp_path / "words", *more, "training.evaluate_every=1"))
    said = call(capsys, "image", tmp_path / "words", "--item", "50", *image)
    assert_one_sentence(said, "made of text, so no image is read")

    card = run / "model" / "vector_tokens" / "vector_tokens.json"
    facts = read_json(card, "card")
    facts["soft"]["sources"]["image"]["encoder"] = str(tmp_path / "no-such-encoder")
    write_json(card, facts)
    assert_one_sentence(call(capsys, "image", run, "--item", "50", *image), "no-such-encoder")
