"""Semantic IDs: unique rows, exact decoding, files that are whole."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from llmrec.errors import ArtifactError, DataError
from llmrec.items.codebooks import Codebooks, Scaling
from llmrec.items.rq_kmeans import tokenize_features
from llmrec.items.semantic_ids import SemanticIDs


@st.composite
def semantic_ids(draw):
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    rows = draw(
        st.lists(st.tuples(*(st.integers(0, size - 1) for size in sizes)), min_size=1, max_size=20, unique=True)
    )
    return SemanticIDs(np.array(rows), tuple(sizes))


@settings(deadline=None)
@given(semantic_ids())
def test_decoding_the_codes_of_every_item_gives_the_item(ids):
    assert ids.decode(ids.codes).tolist() == list(range(ids.num_items))
    every_row = np.stack(np.unravel_index(np.arange(np.prod(ids.codebook_sizes)), ids.codebook_sizes), axis=1)
    found = ids.decode(every_row)
    assert (found >= 0).sum() == ids.num_items
    assert ids.decode(ids.codes[0] + np.array(ids.codebook_sizes)) == -1, "codes beyond the codebooks are no item"


@settings(deadline=None)
@given(semantic_ids())
def test_saved_semantic_ids_come_back(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("ids") / "codes"
    replace(ids, card={"method": "test"}).save(folder)
    again = SemanticIDs.load(folder)
    assert (
        again.card == {"method": "test"}
        and again.codes.tolist() == ids.codes.tolist()
        and again.codebook_sizes == ids.codebook_sizes
    )


def test_codebooks_whose_product_passes_64_bits_still_decode():
    codes = np.array([[255] * 9, [0] * 9, [255] * 8 + [254]])
    ids = SemanticIDs(codes, (256,) * 9)
    assert ids.decode(codes).tolist() == [0, 1, 2]
    assert ids.decode(codes.reshape(3, 1, 9)).tolist() == [[0], [1], [2]]
    assert ids.decode(codes[2]) == 2
    assert ids.decode(np.array([1] * 9)) == -1


def test_token_strings_name_level_and_code():
    assert SemanticIDs(np.array([[0, 1]]), (1, 2)).token_strings == ["<a_0>", "<b_0>", "<b_1>"]


@pytest.mark.parametrize(
    ("codes", "sizes", "sentence"),
    [
        ([[0, 1], [0, 1]], (2, 2), "items 0 and 1 share the codes"),
        ([[0, 2]], (2, 2), "outside the codebooks"),
        ([[0, -1]], (2, 2), "outside the codebooks"),
        ([[0, 1]], (2,), "a code for each of 1 levels"),
        ([[0] * 27], (2,) * 27, "at most 26 levels"),
    ],
)
def test_codes_that_cannot_name_items_are_refused(codes, sizes, sentence):
    with pytest.raises(ArtifactError, match=sentence):
        SemanticIDs(np.array(codes), sizes)


def test_folders_that_are_not_whole_are_refused_in_words(tmp_path):
    ids = SemanticIDs(np.array([[0, 1], [1, 1]]), (2, 2))
    with pytest.raises(ArtifactError, match="cannot read"):
        SemanticIDs.load(tmp_path)
    ids.save(tmp_path / "ids")
    codes = tmp_path / "ids" / "codes.safetensors"
    codes.write_bytes(codes.read_bytes()[:-5])
    with pytest.raises(ArtifactError, match="not whole"):
        SemanticIDs.load(tmp_path / "ids")
    (tmp_path / "ids" / "semantic_ids.json").write_text('{"format_version": 99}')
    with pytest.raises(ArtifactError, match="format version 99"):
        SemanticIDs.load(tmp_path / "ids")


def tokenized(num_items: int = 40, size: int = 4, seed: int = 0) -> tuple[SemanticIDs, np.ndarray]:
    features = np.random.default_rng(seed).normal(size=(num_items, 6)).astype(np.float32)
    return tokenize_features(features, levels=3, codebook_size=size, seed=seed)[0], features


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 24), st.integers(0, 5))
def test_new_items_get_free_rows_and_old_rows_stay(num_items, num_new, seed):
    ids, features = tokenized(num_items, seed=seed)
    new = np.random.default_rng(seed + 1).normal(size=(num_new, 6)).astype(np.float32)
    new[num_new // 2 :] = features[0]  # some all want the row of one item
    grown = ids.extend(new)
    assert grown.codes[:num_items].tobytes() == ids.codes.tobytes()
    assert len(np.unique(grown.codes, axis=0)) == num_items + num_new
    assert grown.decode(grown.codes).tolist() == list(range(num_items + num_new))
    assert grown.codebooks is ids.codebooks and grown.card["added_items"] == num_new


def test_a_new_item_takes_the_row_of_its_nearest_codes_and_else_the_nearest_free_one():
    books = Codebooks(
        [np.array([[0.0], [10.0]], np.float32), np.array([[-1.0], [0.0], [1.0]], np.float32)], Scaling.none(1)
    )
    ids = SemanticIDs(np.array([[0, 1], [1, 1]]), (2, 3), books)
    assert ids.extend(np.array([[0.9], [10.8]], np.float32)).codes[2:].tolist() == [[0, 2], [1, 2]]
    # .1 wants row (0, 1), which is taken, then 1.0; .2 comes second, as .1 is nearer to the code; .3 must leave the prefix
    assert ids.extend(np.array([[0.3], [0.1], [0.2]], np.float32)).codes[2:].tolist() == [[1, 0], [0, 2], [0, 0]]


def test_placing_in_two_steps_keeps_the_first_step_and_what_was_saved_places_alike(tmp_path):
    ids, _ = tokenized()
    new = np.random.default_rng(9).normal(size=(10, 6)).astype(np.float32)
    ids.extend(new[:5]).save(tmp_path / "ids")
    again = SemanticIDs.load(tmp_path / "ids").extend(new[5:])
    assert (again.codes[:45] == ids.extend(new[:5]).codes).all() and again.card["added_items"] == 10
    assert again.codes.tolist() == ids.extend(new[:5]).extend(new[5:]).codes.tolist()


def test_items_that_cannot_be_placed_are_refused_in_words(tmp_path):
    ids, _ = tokenized(num_items=60)
    with pytest.raises(DataError, match="5 new items do not fit: of 64 sequences of codes 60 are taken"):
        ids.extend(np.zeros((5, 6), np.float32))
    with pytest.raises(DataError, match="one row of 6 finite numbers"):
        ids.extend(np.zeros((1, 7), np.float32))
    with pytest.raises(DataError, match="hold NaN"):
        ids.extend(np.full((1, 6), np.nan, np.float32))
    with pytest.raises(ArtifactError, match="without the codebooks"):
        SemanticIDs(ids.codes, ids.codebook_sizes).extend(np.zeros((1, 6), np.float32))
    with pytest.raises(ArtifactError, match="codebooks of"):
        SemanticIDs(ids.codes, (5, 4, 4), ids.codebooks)
    ids.save(tmp_path / "ids")
    books = tmp_path / "ids" / "codebooks.safetensors"
    save_file({name: value for name, value in load_file(books).items() if name != "centre"}, books)
    with pytest.raises(ArtifactError, match="not whole"):
        SemanticIDs.load(tmp_path / "ids")
