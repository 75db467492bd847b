"""Semantic IDs: unique rows, exact decoding, files that are whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.errors import ArtifactError
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
    ids.save(folder, {"method": "test"})
    again = SemanticIDs.load(folder)
    assert again.codes.tolist() == ids.codes.tolist() and again.codebook_sizes == ids.codebook_sizes


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
    ids.save(tmp_path / "ids", {})
    codes = tmp_path / "ids" / "codes.safetensors"
    codes.write_bytes(codes.read_bytes()[:-5])
    with pytest.raises(ArtifactError, match="not whole"):
        SemanticIDs.load(tmp_path / "ids")
    (tmp_path / "ids" / "semantic_ids.json").write_text('{"format_version": 99}')
    with pytest.raises(ArtifactError, match="format version 99"):
        SemanticIDs.load(tmp_path / "ids")
