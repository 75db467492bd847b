"""recipes/next_item.py on a vision-language model: posters in the prompt, next to soft tokens, saved, loaded, decoded."""

import gzip
import json

import numpy as np
import pytest

from llmrec.artifacts.run_folder import load_artifact
from llmrec.data.folder import load_data
from llmrec.data.prepare import prepare
from llmrec.recommenders.generative import recommender_of
from tests.backbones.tiny_vision import save_checkpoint
from tests.recipes.running import run_here, settings
from tests.recipes.test_soft_form import requests_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def poster_data(bench_data, tmp_path_factory):
    """60 films, about two in three with their real posters, and 40 users."""
    folder = tmp_path_factory.mktemp("posters")
    source = bench_data / "ml100k_posters"
    with gzip.open(source / "items.jsonl.gz", "rt") as file:
        items = [json.loads(line) for line in file][:60]
    known = {item["item_id"] for item in items}
    with gzip.open(source / "interactions.tsv.gz", "rt") as file:
        header, *rows = file.read().splitlines()
    kept = [row for row in rows if row.split("\t")[1] in known and int(row.split("\t")[0]) < 200]
    (folder / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    (folder / "events.tsv").write_text("\n".join([header, *kept]))
    prepare(folder / "items.jsonl", folder / "events.tsv", folder / "data", image_root=source)
    return folder / "data"


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava"])
def test_posters_and_soft_tokens_are_read_trained_with_saved_and_decoded(family, poster_data, tmp_path):
    model_folder = save_checkpoint(family, tmp_path / "model")
    run_here(
        settings(
            poster_data, str(model_folder), tmp_path / "run", "items.form=soft", "items.prompt_form=[image,soft]",
            "prompt.max_history=4", "soft.adapter.hidden_dim=16", "prompt.max_tokens=400", "images.max_tokens=16",
            "training.max_steps=2", "training.evaluate_every=2", "validation.max_users=4",
        )
    )  # fmt: skip
    model, data = load_artifact(tmp_path / "run"), load_data(poster_data)
    assert model.card["prompt_forms"] == ["image", "soft"]
    images = model.backbone.vector_tokens["image"]
    has_poster = np.diff(images.offsets) > 0
    assert has_poster.tolist() == [name is not None for name in data.catalog.table["image"].to_pylist()]
    with_poster, without = int(np.flatnonzero(has_poster)[0]), int(np.flatnonzero(~has_poster)[0])
    first = model.backbone.first_vector_id("image")
    assert first in model.encoder.encode([with_poster]) and first not in model.encoder.encode([without])
    recommender, requests = recommender_of(model), requests_of(data, 4)
    together = recommender.scores(requests)
    alone = recommender.scores(requests.take([1]))
    np.testing.assert_allclose(alone[0], together[1], atol=1e-4)


def test_images_alone_fall_back_on_titles(poster_data, tmp_path):
    model_folder = save_checkpoint("llava", tmp_path / "model")
    run_here(
        settings(
            poster_data, str(model_folder), tmp_path / "run", "items.prompt_form=[image]", "prompt.max_tokens=400",
            "prompt.max_history=4", "images.max_tokens=16",
            "training.max_steps=2", "training.evaluate_every=2", "validation.max_users=2",
        )
    )  # fmt: skip
    model, data = load_artifact(tmp_path / "run"), load_data(poster_data)
    without = int(np.flatnonzero([name is None for name in data.catalog.table["image"].to_pylist()])[0])
    words = model.encoder.encode([without])
    assert data.catalog.title(without)[:10] in model.encoder.tokenizer.decode(
        words[words < model.backbone.base_vocab_size]
    )
