"""Residual k-means on made-up and real item texts: unique rows, nearest free codes, a report that counts right."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog
from llmrec.encoders.text import encode_texts
from llmrec.errors import ConfigError, DataError
from llmrec.items.codebooks import Scaling, nearest, nearest_codes
from llmrec.items.quality import quality_report
from llmrec.items.rq_kmeans import _clusters, _fitted_together, default_codebook_size, fit_codebooks, tokenize_features
from llmrec.items.unique_codes import make_unique


def real_texts(bench_data, name: str, num_items: int) -> list[str]:
    with gzip.open(bench_data / name / "items.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(num_items), file, strict=False)]
    catalog = Catalog.from_rows(rows)
    return catalog.texts([field for field in ("title", "genres") if field in catalog.fields])


@pytest.fixture(scope="module")
def movie_vectors(bench_data) -> np.ndarray:
    return encode_texts(real_texts(bench_data, "ml100k_posters", 1682))


@pytest.fixture(scope="module")
def beauty_vectors(bench_data) -> np.ndarray:
    return encode_texts(real_texts(bench_data, "amazon14_beauty", 500))


def squared_distances(features, codes, codebooks) -> np.ndarray:
    return ((features - sum(book[codes[:, level]] for level, book in enumerate(codebooks))) ** 2).sum(axis=1)


def assert_moved_items_sit_on_the_nearest_free_code(features, nearest, codes, codebooks):
    """Free codes only become fewer, so a code that is free at the end was free when an item of its prefix was placed."""
    last = codebooks[-1]
    prefix_taken: dict[tuple, set[int]] = {}
    for row in codes.tolist():
        prefix_taken.setdefault(tuple(row[:-1]), set()).add(row[-1])
    for item in np.flatnonzero((nearest != codes).any(axis=1)):
        prefix = tuple(codes[item, :-1].tolist())
        residual = features[item] - sum(book[code] for book, code in zip(codebooks, prefix, strict=False))
        distances = ((residual - last) ** 2).sum(axis=1)
        free = [code for code in range(len(last)) if code not in prefix_taken[prefix]]
        assert all(distances[codes[item, -1]] <= distances[code] + 1e-5 for code in free)
        if tuple(nearest[item, :-1].tolist()) != prefix:
            assert len(prefix_taken[tuple(nearest[item, :-1].tolist())]) == len(last), "left a prefix that had room"


@pytest.mark.parametrize("vectors", ["movie_vectors", "beauty_vectors"])
def test_real_items_get_unique_rows_and_moved_ones_the_nearest_free_code(vectors, request):
    features = request.getfixturevalue(vectors)
    size = default_codebook_size(len(features))
    codebooks = fit_codebooks(features, [size] * 3, seed=0)
    nearest = nearest_codes(features, codebooks)
    codes = make_unique(features, nearest, codebooks)
    assert len(np.unique(codes, axis=0)) == len(features)
    assert_moved_items_sit_on_the_nearest_free_code(features, nearest, codes, codebooks)
    report = quality_report(features, nearest, codes, codebooks, seed=0)
    assert report.moved_items == len(features) - len(np.unique(nearest, axis=0))
    assert report.neighbour_agreement[0] > 5 * report.chance_agreement[0]
    assert report.unexplained_nearest <= report.unexplained < 1


def test_the_same_seed_gives_the_same_codes_and_another_seed_others(movie_vectors):
    first, report = tokenize_features(movie_vectors, seed=3)
    again, report_again = tokenize_features(movie_vectors, seed=3)
    other, _ = tokenize_features(movie_vectors, seed=4)
    assert (first.codes == again.codes).all() and report == report_again
    assert (first.codes != other.codes).any()
    assert first.codebook_sizes == (64, 64, 64)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 27), st.integers(1, 6), st.integers(0, 3))
def test_any_catalogue_that_fits_gets_unique_rows_even_from_equal_features(num_items, num_different, seed):
    points = np.random.default_rng(seed).normal(size=(num_different, 4)).astype(np.float32)
    features = points[np.arange(num_items) % num_different]
    ids, report = tokenize_features(features, levels=3, codebook_size=3, seed=seed)
    assert ids.decode(ids.codes).tolist() == list(range(num_items))
    assert report.num_items == num_items


@pytest.mark.parametrize("size", [3, 9])
def test_crowded_items_sit_on_the_nearest_free_code_too(size):
    features = np.repeat(np.random.default_rng(0).normal(size=(3, 5)), 9, axis=0).astype(np.float32)
    codebooks = fit_codebooks(features[::3], [size] * 3, seed=0)
    nearest = nearest_codes(features, codebooks)
    codes = make_unique(features, nearest, codebooks)
    assert len(np.unique(codes, axis=0)) == 27
    assert_moved_items_sit_on_the_nearest_free_code(features, nearest, codes, codebooks)


def test_the_nearest_centroid_is_that_of_a_search_over_all_and_the_lower_of_equals():
    rng = np.random.default_rng(0)
    points, centroids = rng.normal(size=(5000, 6)).astype(np.float32), rng.normal(size=(300, 6)).astype(np.float32)
    centroids[200] = centroids[100]
    distances = ((points[:, None] - centroids) ** 2).sum(axis=2)
    found = nearest(points, centroids)
    assert np.allclose(distances[np.arange(5000), found], distances.min(axis=1), atol=1e-5)
    assert (found == 100).any() and not (found == 200).any()


def test_features_far_from_zero_are_coded_as_well_as_the_same_around_it():
    rng = np.random.default_rng(0)
    around_zero = (rng.normal(size=(500, 8)) @ rng.normal(size=(8, 16))).astype(np.float32)
    shares = []
    for offset in (0, 10_000):
        _, report = tokenize_features(around_zero + np.float32(offset), codebook_size=16, seed=0)
        shares.append(report.unexplained_nearest)
    assert shares[1] == pytest.approx(shares[0], rel=0.02)


@pytest.mark.parametrize("seed", [0, 1])
def test_codes_that_start_on_equal_items_find_others(seed):
    """More than half of the items have the same features, and so have the centroids that are drawn from them."""
    points = np.random.default_rng(seed).normal(size=(1200, 12)).astype(np.float32)
    points[:700] = points[0]
    assert len(np.unique(nearest(points, _clusters(points, 64, 12, seed)))) >= 62


def test_levels_are_fitted_together_as_if_item_by_item_and_unused_codes_stay():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 5)).astype(np.float32)
    codes = rng.integers(0, 7, size=(200, 3))
    codebooks = [rng.normal(size=(8, 5)).astype(np.float32) for _ in range(3)]  # code 7 has no items
    expected = [book.copy() for book in codebooks]
    for level in [0, 1, 2] * 2:
        left = points - sum(expected[other][codes[:, other]] for other in range(3) if other != level)
        for code in range(7):
            expected[level][code] = left[codes[:, level] == code].mean(axis=0)
    fitted = _fitted_together(points, codes, codebooks, sweeps=2)
    assert all(np.allclose(book, goal, atol=1e-5) for book, goal in zip(fitted, expected, strict=True))
    assert all((book[7] == before[7]).all() for book, before in zip(fitted, codebooks, strict=True))


def test_the_item_nearest_to_a_shared_code_keeps_it():
    codebooks = [np.zeros((1, 1), np.float32), np.array([[0.0], [10.0], [4.0]], np.float32)]
    features = np.array([[0.5], [0.1], [0.2]], np.float32)
    nearest = nearest_codes(features, codebooks)
    assert nearest.tolist() == [[0, 0]] * 3
    # item 1 keeps 0; item 2 comes next and takes 4.0; item 0 takes what is left
    assert make_unique(features, nearest, codebooks).tolist() == [[0, 1], [0, 0], [0, 2]]


def test_a_full_prefix_sends_its_items_to_the_next_nearest_prefix():
    codebooks = [np.array([[0.0], [5.0], [20.0]], np.float32), np.array([[-0.1], [0.1]], np.float32)]
    features = np.array([[0.0], [0.01], [0.02], [0.03]], np.float32)
    codes = make_unique(features, nearest_codes(features, codebooks), codebooks)
    assert sorted(codes[:, 0].tolist()) == [0, 0, 1, 1]
    assert len(np.unique(codes, axis=0)) == 4


def test_collaborative_and_text_features_stand_side_by_side_with_the_same_say():
    rng = np.random.default_rng(0)
    text, collaborative = rng.normal(size=(50, 8)), 1000 * rng.normal(size=(50, 3)) + 7
    present = [np.ones(50, bool), np.arange(50) < 40]
    joined = Scaling.fit([text, collaborative], present).apply([text, collaborative], present)
    assert joined.shape == (50, 11) and joined.dtype == np.float32
    lengths = [(joined[rows, columns] ** 2).sum(axis=1).mean() for rows, columns in
               ((present[0], slice(0, 8)), (present[1], slice(8, 11)))]  # fmt: skip
    assert np.allclose(lengths, 1, atol=1e-5)
    assert (joined[40:, 8:] == 0).all()
    later = Scaling.fit([text, collaborative], present).apply(
        [text[:2], collaborative[:2]], [np.array([True, False])] * 2
    )
    assert (later[0] == joined[0]).all() and (later[1] == 0).all(), (
        "items that come later get the same centre and scale"
    )
    assert tokenize_features(joined)[0].num_items == 50


@pytest.mark.parametrize(
    ("num_items", "size"), [(1, 2), (100, 8), (1682, 64), (12101, 256), (100_000, 256), (10_000_000, 512)]
)
def test_smaller_catalogues_get_smaller_codebooks(num_items, size):
    assert default_codebook_size(num_items) == size
    assert size**3 >= num_items


def test_a_report_of_four_items_by_hand():
    codebooks = [np.array([[0.0], [8.0]], np.float32), np.array([[0.0], [1.0]], np.float32)]
    features = np.array([[0.0], [0.0], [8.0], [9.0]], np.float32)
    nearest = nearest_codes(features, codebooks)
    codes = make_unique(features, nearest, codebooks)
    report = quality_report(features, nearest, codes, codebooks, seed=0)
    assert (report.colliding_items, report.moved_items, report.moved_prefixes) == (2, 1, 0)
    assert report.utilisation == (1.0, 1.0) and report.entropy_bits == (1.0, 1.0) and report.perplexity == (2.0, 2.0)
    assert report.chance_agreement == pytest.approx((4 / 12,))
    assert report.unexplained_nearest == 0
    assert report.unexplained == pytest.approx(1 / (2 * 4.25**2 + 3.75**2 + 4.75**2))


def test_features_and_sizes_that_cannot_work_are_refused():
    features = np.zeros((10, 3), np.float32)
    with pytest.raises(ConfigError, match="2 levels of 3 codes tell 9 items apart, but the catalog has 10"):
        tokenize_features(features, levels=2, codebook_size=3)
    with pytest.raises(ConfigError, match="levels is at least 1"):
        tokenize_features(features, levels=0)
    with pytest.raises(ConfigError, match="10 items have no use for 1000000 codes per level; 256 are the most"):
        tokenize_features(features, codebook_size=1_000_000)
    features[4, 1] = np.nan
    with pytest.raises(DataError, match=r"1 items have NaN or infinity \(the first is item 4\)"):
        tokenize_features(features)
    with pytest.raises(DataError, match="shape"):
        tokenize_features(np.zeros((0, 3)))
