import numpy as np
import pytest

from llmrec.data.features import Features
from llmrec.errors import DataError


def test_saved_and_loaded_is_the_same(tmp_path):
    features = Features(3)
    features.add("text", np.arange(6).reshape(3, 2))
    features.add("image", np.array([[1.0], [np.nan], [2.0]]), np.array([True, False, True]))
    features.save(tmp_path)
    loaded = Features.load(tmp_path, 3)
    assert sorted(loaded.names) == ["image", "text"] and len(loaded) == 2 and "text" in loaded
    assert loaded["text"].dtype == np.float32 and loaded["text"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert loaded["image"].tolist() == [[1], [0], [2]]  # absent rows are zero, whatever they held
    assert loaded.present["image"].tolist() == [True, False, True] and loaded.present["text"].all()


def test_no_folder_means_no_features(tmp_path):
    assert Features.load(tmp_path / "features", 5).names == []


@pytest.mark.parametrize(
    ("name", "vectors", "present", "sentence"),
    [
        ("text", np.zeros((2, 4)), None, "one row for each of the 3 items, but their shape is"),
        ("text", np.zeros(3), None, "one row for each of the 3 items"),
        ("text", np.full((3, 2), np.inf), None, "should be finite, but 3 items have NaN or infinity"),
        ("text", np.zeros((3, 2)), np.ones(2, bool), r"should be bool \(3,\)"),
        ("../text", np.zeros((3, 2)), None, "the name of features should be letters"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(name, vectors, present, sentence):
    with pytest.raises(DataError, match=sentence):
        Features(3).add(name, vectors, present)


def test_unknown_names_truncated_files_and_other_catalogs_are_refused(tmp_path):
    features = Features(3)
    with pytest.raises(DataError, match=r"no features 'text' \(there are: none\)"):
        features["text"]
    features.add("text", np.ones((3, 2)))
    features.save(tmp_path)
    with pytest.raises(DataError, match="one row for each of the 4 items"):
        Features.load(tmp_path, 4)
    whole = (tmp_path / "text.safetensors").read_bytes()
    (tmp_path / "text.safetensors").write_bytes(whole[:-3])
    with pytest.raises(DataError, match="could not be read as a whole file of features"):
        Features.load(tmp_path, 3)


def test_a_column_of_a_mask_is_saved_as_it_reads(tmp_path):
    mask = np.ones((6, 2), bool)
    mask[3, 1] = False
    features = Features(6)
    features.add("image", np.ones((6, 3)), mask[:, 1])
    features.save(tmp_path)
    assert Features.load(tmp_path, 6).present["image"].tolist() == [True, True, True, False, True, True]
