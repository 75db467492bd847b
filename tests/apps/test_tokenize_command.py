"""`llmrec tokenize` on real films."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from llmrec.apps.tokenize_command import tokenize
from llmrec.data.folder import Data, load_data, save_data
from llmrec.data.prepare import prepare
from llmrec.errors import ConfigError, DataError
from llmrec.items.semantic_ids import SemanticIDs

app = typer.Typer()
app.command()(tokenize)


@pytest.fixture(scope="module")
def films(bench_data, tmp_path_factory) -> Data:
    source = bench_data / "ml100k_posters"
    folder = tmp_path_factory.mktemp("data") / "films"
    data = prepare(source / "items.jsonl.gz", source / "interactions.tsv.gz", folder)
    factors = np.random.default_rng(0).normal(size=(data.catalog.num_items, 8))
    data.features.add("factors", factors)
    save_data(data, folder)
    return load_data(folder)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)


def test_it_writes_unique_codes_and_prints_how_good_they_are(films):
    result = run(films.folder, "--field", "title", "--field", "genres")
    assert result.exit_code == 0, result.output
    for word in ("Collisions before re-assignment", "entropy", "used", "neighbours"):
        assert word in result.output
    ids = SemanticIDs.load(films.folder / "semantic_ids" / "rq-kmeans")
    assert ids.num_items == films.catalog.num_items
    assert ids.codebook_sizes == (64, 64, 64)


def test_json_is_one_object_and_features_can_stand_side_by_side(films):
    result = run(
        films.folder, "--feature", "text", "--feature", "factors", "--field", "title", "--field", "genres",
        "--levels", 2, "--codebook-size", 50, "--name", "both", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    card = json.loads(result.stdout)
    assert card["report"]["codebook_sizes"] == [50, 50] and card["features"] == ["text", "factors"]
    assert card["catalog_hash"] == films.catalog.content_hash
    assert SemanticIDs.load(card["folder"]).num_levels == 2


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (["--method", "magic"], ConfigError, "no method 'magic'"),
        (["--feature", "smell"], DataError, "no features 'smell'"),
        (["--name", "../up"], ConfigError, "name of semantic IDs"),
        (["--feature", "factors", "--field", "title"], ConfigError, "not among the features"),
        (["--feature", "factors", "--codebook-size", "2"], ConfigError, "tell 8 items apart"),
        (
            ["--feature", "factors", "--codebook-size", "1000000"],
            ConfigError,
            "have no use for 1000000 codes per level",
        ),
        (["--seed", "-1"], ConfigError, "a seed is a number from 0 to 4294967295, but it is -1"),
        (["--name", "n" * 300], ConfigError, "name of semantic IDs should be letters"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(films, arguments, error, sentence):
    result = run(films.folder, *arguments)
    assert isinstance(result.exception, error) and sentence in str(result.exception)
