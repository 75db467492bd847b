"""TF-IDF and its directions: by hand, against an exact decomposition and scikit-learn, on real titles, and on texts that come later."""

import gzip
import json
from math import log, sqrt

import numpy as np
import pytest

from llmrec.artifacts.item_sources import grown_features, new_features
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.encoders import tf_idf as module
from llmrec.encoders.item_features import TextSource, catalog_features, fit_words
from llmrec.encoders.text import are_encoded, encode_texts
from llmrec.encoders.tf_idf import TfIdf, fitted_tf_idf
from llmrec.errors import ArtifactError, DataError


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path))
    return tmp_path / "features"


@pytest.fixture(scope="module")
def titles(bench_data) -> list[str]:
    with gzip.open(bench_data / "ml100k_posters" / "items.jsonl.gz", "rt", encoding="utf-8") as file:
        return Catalog.from_rows([json.loads(next(file)) for _ in range(700)]).texts(["title", "genres"])


def test_weights_are_those_of_hand_arithmetic():
    fitted = TfIdf.fit(["Red red car", "red bus", "..."])
    assert fitted.words == ["bus", "car", "red"]
    rare, common = log(3 / 2) + 1, log(3 / 3) + 1  # two texts have words
    assert np.allclose(fitted.idf, [rare, rare, common])
    red, car = (1 + log(2)) * common, rare
    length = sqrt(red**2 + car**2)
    rows = fitted.rows(["Red red car", "...", "a BUS", "bus red"]).toarray()
    assert np.allclose(rows[0], [0, car / length, red / length], atol=1e-6)
    assert not rows[1].any() and rows[2].tolist() == [1, 0, 0], "an unknown word does not shorten the others"
    assert np.allclose(rows[3], np.array([rare, 0, common]) / sqrt(rare**2 + common**2), atol=1e-6)


def test_all_directions_of_a_few_texts_keep_every_angle_and_length():
    texts = ["red car", "red bus", "blue bus bus", "red car"]
    fitted = TfIdf.fit(texts)
    assert fitted.dim == 3, "four texts, two of them equal"
    rows, vectors = fitted.rows(texts).toarray(), fitted.encode(texts)
    assert vectors.dtype == np.float32 and np.allclose(vectors @ vectors.T, rows @ rows.T, atol=1e-5)
    assert TfIdf.fit(texts, dim=2).dim == 2


def test_the_directions_of_real_titles_hold_as_much_as_an_exact_decomposition(titles):
    fitted = TfIdf.fit(titles, dim=32)
    values = np.linalg.svd(fitted.rows(titles).toarray().astype(np.float64), compute_uv=False)
    held, most = (fitted.encode(titles) ** 2).sum(), (values[:32] ** 2).sum()
    assert 0.998 * most < held < 1.0001 * most
    assert np.allclose(fitted.components.T @ fitted.components, np.eye(32), atol=1e-5)


def test_weights_are_scikit_learns(titles):
    text = pytest.importorskip("sklearn.feature_extraction.text", reason="scikit-learn comes with llmrec[bench]")
    theirs = text.TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
    rows = theirs.fit_transform(titles).toarray()
    ours = TfIdf.fit(titles, dim=4)
    assert ours.words == list(theirs.get_feature_names_out())
    assert np.allclose(ours.rows(titles).toarray(), rows, atol=1e-6)


def test_the_same_seed_gives_the_same_vectors_and_texts_can_be_added_around_one(titles):
    one, other = TfIdf.fit(titles, dim=16, seed=3), TfIdf.fit(titles, dim=16, seed=3)
    assert (one.components == other.components).all() and one.words == other.words
    alone, among = one.encode(titles[5:6]), one.encode(["", titles[9], titles[5], "ZZZunknown"])
    assert (alone[0] == among[2]).all() and not among[0].any() and not among[3].any()
    assert one.knows(["", titles[9], "zzzunknown"]).tolist() == [False, True, False]
    largest = np.abs(one.components).argmax(axis=0)
    assert (one.components[largest, np.arange(16)] > 0).all()


def test_what_is_saved_is_loaded_again_and_what_is_not_whole_is_refused(tmp_path, titles):
    fitted = TfIdf.fit(titles, dim=8)
    fitted.save(tmp_path / "words")
    loaded = TfIdf.load(tmp_path / "words")
    assert (loaded.encode(titles) == fitted.encode(titles)).all()
    assert sorted(path.name for path in (tmp_path / "words").iterdir()) == ["tf_idf.json", "tf_idf.safetensors"]

    described = json.loads((tmp_path / "words" / "tf_idf.json").read_text())
    for change in ({"format_version": 2}, {"words": described["words"][1:]}, {"words": [1] * len(described["words"])}):
        (tmp_path / "words" / "tf_idf.json").write_text(json.dumps(described | change))
        with pytest.raises(ArtifactError, match="not of format version 1, or its words and weights do not belong"):
            TfIdf.load(tmp_path / "words")
    (tmp_path / "words" / "tf_idf.safetensors").write_bytes(b"half")
    with pytest.raises(ArtifactError, match="is not whole"):
        TfIdf.load(tmp_path / "words")
    with pytest.raises(ArtifactError, match="cannot read the words of TF-IDF"):
        TfIdf.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="none of 2 has one"):
        TfIdf.fit(["", "?!"])


def test_a_fit_is_kept_by_its_texts_and_a_broken_one_is_made_again(fresh_cache, monkeypatch):
    texts = ["red car", "red bus"]
    assert not are_encoded(texts, "tf_idf")
    first = encode_texts(texts, "tf_idf")
    assert are_encoded(texts, "tf_idf") and not are_encoded(texts[:1], "tf_idf")
    fits, fit = [], module.TfIdf.fit
    monkeypatch.setattr(module.TfIdf, "fit", lambda texts: fits.append(texts) or fit(texts))
    assert (encode_texts(texts, "tf_idf") == first).all() and not fits
    next(fresh_cache.glob("tf_idf-*/tf_idf.safetensors")).write_bytes(b"half")
    assert (encode_texts(texts, "tf_idf") == first).all() and fits == [texts]


def test_an_item_of_words_that_the_fit_has_not_seen_is_absent(fresh_cache):
    catalog = Catalog.from_rows([{"item_id": str(n), "title": t} for n, t in enumerate(["red car", "red bus", "boat"])])
    text = TextSource(encoder="tf_idf")
    words = fit_words(text, catalog, np.array([True, True, False]))
    assert words.words == ["bus", "car", "red"] and fit_words(TextSource(), catalog) is None
    found = catalog_features(["text"], catalog, Features(3), text=text, tf_idf=words)
    assert found.present["text"].tolist() == [True, True, False] and not found["text"][2].any()
    of_all = catalog_features(["text"], catalog, Features(3), text=text)
    assert of_all.present["text"].all() and fitted_tf_idf(catalog.texts()).dim == of_all["text"].shape[1] == 3


def test_texts_of_new_items_are_encoded_by_the_words_that_were_kept_or_refused(fresh_cache):
    catalog = Catalog.from_rows([{"item_id": "a", "title": "red car"}, {"item_id": "b", "title": "red bus"}])
    new = Catalog.from_rows([{"item_id": "c", "title": "Bus! Bus!"}, {"item_id": "d", "title": "boat"}])
    text = TextSource(encoder="tf_idf")
    sources, words = {"text": text.model_dump()}, fit_words(text, catalog)
    old = catalog_features(["text"], catalog, Features(2), text=text, tf_idf=words)
    added, absent = new_features({"text": words.dim}, sources, new, {}, None, {"text": words})
    assert absent == {"text": 1} and added.present["text"].tolist() == [True, False]
    assert (added["text"][0] == words.encode(["bus bus"])[0]).all()
    with pytest.raises(ArtifactError, match="encoded by TF-IDF, whose words it has not kept"):
        grown_features(old, sources, new, {}, None)
