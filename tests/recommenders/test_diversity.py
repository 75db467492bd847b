"""Diversity: MMR and SSD by hand and against their definitions, and how they join a recommender."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.baselines.popularity import Popularity
from llmrec.data.folder import load_data
from llmrec.errors import ConfigError, RequestError
from llmrec.metrics import intra_list_diversity
from llmrec.recommender import Recommender
from llmrec.recommenders import diversity as diversity_module
from llmrec.recommenders import reranking
from llmrec.recommenders.diversity import (
    MMR,
    SSD,
    diverse_places,
    mmr_order,
    parse_diversity,
    residual_norms,
    scaled_relevance,
    ssd_order,
    token_vectors,
)
from llmrec.recommenders.requests import Ranking

# Two directions: items 0 and 1 are the same, 2 stands across, 3 between.
VECTORS = np.array([[[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [1.0, 1.0]]])
LISTED = Ranking(np.array([[10, 11, 12, 13]], np.int32), np.array([[-1.0, -2.0, -3.0, -5.0]], np.float32))


def diversified(listed, vectors, method, k):
    return listed.at(diverse_places(listed, scaled_relevance(listed), vectors, method, k))


def test_mmr_by_hand():
    # Relevance is 1, 3/4, 1/2, 0. After item 10 at weight 1/2: 11 has 3/8 - 1/2, 12 has 1/4 - 0, 13 has 0 - sqrt(1/2) / 2.
    found = diversified(LISTED, VECTORS, MMR(0.5), 4)
    # Then 11: 3/8 - 1/2 = -.125; 13: -.354.
    assert found.items.tolist() == [[10, 12, 11, 13]]
    assert found.scores.tolist() == [[-1.0, -3.0, -2.0, -5.0]]  # the ranker's own
    # Weight 1 looks at likeness alone: 12 (0), then 13 (.707) before 11 (1).
    assert diversified(LISTED, VECTORS, MMR(1.0), 4).items.tolist() == [[10, 12, 13, 11]]


def test_ssd_by_hand():
    # Without the shared dimension, gamma 1: after item 0 the residuals are 0, 0, 1, sqrt(1/2) and relevance decides the rest.
    gram = _unit(VECTORS) @ _unit(VECTORS).swapaxes(1, 2)
    relevance, allowed = np.array([[1.0, 0.75, 0.5, 0.0]]), np.ones((1, 4), bool)
    # 2: .5 + 1; then nothing is new in a window that holds both directions: 1 by relevance, then 3.
    assert ssd_order(relevance, gram, allowed, 4, 1.0, 5).tolist() == [[0, 2, 1, 3]]
    # Window 2: after [0, 2] only 2 is inside, so 1 and 3 are held against 2 alone: 1 has .75 + 1, 3 has 0 + .707.
    assert ssd_order(relevance, gram, allowed, 3, 0.1, 2).tolist() == [[0, 1, 2]]


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_residuals_equal_least_squares_also_where_vectors_repeat(seed, width, num_inside):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(2, 8, width))
    vectors[:, 1], vectors[:, 2], vectors[:, 3] = vectors[:, 0], 0.0, vectors[:, 0] + vectors[:, 4]
    inside = rng.integers(-1, 8, (2, num_inside))
    found = residual_norms(vectors @ vectors.swapaxes(1, 2), inside)
    for row in range(2):
        basis = vectors[row, inside[row][inside[row] >= 0]].T  # (D, W)
        for place in range(8):
            target = vectors[row, place]
            closest = basis @ np.linalg.lstsq(basis, target, rcond=1e-9)[0] if basis.size else 0.0
            assert found[row, place] == pytest.approx(np.linalg.norm(target - closest), abs=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_ssd_takes_what_adds_most_to_the_last_window_at_every_step(seed, window, gamma):
    rng = np.random.default_rng(seed)
    vectors = _unit(rng.normal(size=(1, 9, 4)))
    relevance, allowed = rng.random((1, 9)), rng.random((1, 9)) < 0.9
    found = ssd_order(relevance, vectors @ vectors.swapaxes(1, 2), allowed, 9, gamma, window)[0]
    chosen: list[int] = []
    for place in found[found >= 0]:
        basis = vectors[0, chosen[max(0, len(chosen) - window + 1) :]].T
        gains = {}
        for other in set(np.flatnonzero(allowed[0])) - set(chosen):
            target = vectors[0, other]
            residual = target - basis @ np.linalg.lstsq(basis, target, rcond=None)[0] if chosen else target
            gains[other] = relevance[0, other] + gamma * np.linalg.norm(residual)
        assert gains[place] == pytest.approx(max(gains.values()), abs=1e-6)
        chosen.append(int(place))
    assert len(chosen) == allowed.sum()


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_mmr_takes_the_largest_marginal_relevance_at_every_step(seed, weight):
    rng = np.random.default_rng(seed)
    relevance, similarity = rng.random((1, 7)), rng.uniform(-1, 1, (1, 7, 7))
    found = mmr_order(relevance, similarity, np.ones((1, 7), bool), 7, weight)[0].tolist()
    for step in range(7):
        chosen = found[:step]
        gains = {
            other: (1 - weight) * relevance[0, other]
            - weight * max((similarity[0, before, other] for before in chosen), default=0.0)
            for other in set(range(7)) - set(chosen)
        }
        assert gains[found[step]] == pytest.approx(max(gains.values()))


@pytest.mark.parametrize("method", [MMR(0.4), SSD(0.7, 3)])
def test_a_batch_gives_what_single_lists_give_and_lists_may_be_short(method):
    rng = np.random.default_rng(0)
    items = np.array([rng.permutation(50)[:12] for _ in range(5)], np.int32)
    scores = -np.sort(rng.random((5, 12)), axis=1).astype(np.float32)
    items[3, 4:], scores[3, 4:] = -1, -np.inf
    items[4], scores[4] = -1, -np.inf
    vectors = rng.normal(size=(50, 6))[items]
    together = diversified(Ranking(items, scores), vectors, method, 8)
    for row in range(5):
        alone = diversified(Ranking(items[[row]], scores[[row]]), vectors[[row]], method, 8)
        assert alone.items.tolist() == together.items[[row]].tolist()
    assert sorted(together.items[3]) == sorted([*items[3, :4], -1, -1, -1, -1]) and (together.items[4] == -1).all()
    assert (together.items.dtype, together.scores.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("method", [MMR(0), SSD(0)])
def test_no_weight_leaves_the_ranking_as_it_is(method):
    found = diversified(LISTED, VECTORS, method, 3)
    assert found.items.tolist() == [[10, 11, 12]] and found.scores.tolist() == [[-1.0, -2.0, -3.0]]


def test_settings_are_read_and_refused_in_words():
    assert parse_diversity("mmr:0.4") == MMR(0.4) and parse_diversity("MMR") == MMR()
    assert parse_diversity("ssd:2:8") == SSD(2.0, 8) and parse_diversity("ssd:2") == SSD(2.0)
    assert parse_diversity(str(SSD(0.25, 3))) == SSD(0.25, 3)
    for text in ("dpp:1", "mmr:a", "ssd:1:2.5", "mmr:0.1:4", ""):
        with pytest.raises(ConfigError, match=r"should read like mmr:0\.3"):
            parse_diversity(text)
    for text, sentence in (
        ("mmr:2", "from 0"),
        ("mmr:nan", "from 0"),
        ("ssd:-1", "0 .* or more"),
        ("ssd:1:1", "2 or more"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            parse_diversity(text)


def test_lists_become_more_diverse_as_the_weight_grows(movielens):
    data = load_data(movielens)
    genres = sorted({genre for row in data.catalog.table["genres"].to_pylist() for genre in row})
    matrix = np.array([[genre in row for genre in genres] for row in data.catalog.table["genres"].to_pylist()], float)
    recommender = Recommender(Popularity().fit(data.interactions), data.catalog, item_vectors=matrix.__getitem__)
    for methods in ([MMR(0.0), MMR(0.4), MMR(0.9)], [SSD(0.0), SSD(0.5), SSD(5.0)]):
        values = []
        for method in methods:
            found = recommender.recommend([], k=10, diversity=method)
            items = recommender.catalog.index([item.item_id for item in found])
            values.append(intra_list_diversity(items[None], matrix)[0])
        assert values == sorted(values) and values[0] < values[-1]


@pytest.mark.parametrize("run", ["tiny_run", "tiny_code_run"])
def test_every_run_has_vectors_and_scores_stay_the_rankers_own(run, request):
    recommender = Recommender.from_pretrained(request.getfixturevalue(run), num_beams=50)
    plain = recommender.recommend(["50", "181"], k=50)
    found = recommender.recommend(["50", "181"], k=10, diversity=MMR(0.8))
    scores = {item.item_id: item.score for item in plain}
    assert found[0].item_id == plain[0].item_id and len({item.item_id for item in found}) == 10
    assert [item.score for item in found] == pytest.approx([scores[item.item_id] for item in found], abs=1e-4)
    assert [item.item_id for item in found] != [item.item_id for item in plain[:10]]
    both = recommender.recommend_batch([["50", "181"], []], k=10, diversity=MMR(0.8))
    assert [item.item_id for item in both[0]] == [item.item_id for item in found]


def test_many_lists_are_compared_a_few_at_a_time(tiny_run, monkeypatch):
    recommender = Recommender.from_pretrained(tiny_run)
    histories = [["50"], ["181"], [], ["7", "1"], ["2"]]
    whole = recommender.recommend_batch(histories, k=6, diversity=SSD(1.0))
    monkeypatch.setattr(reranking, "LISTS_A_CALL", 2)
    monkeypatch.setattr(diversity_module, "_ITEMS_AT_ONCE", 7)
    assert recommender.recommend_batch(histories, k=6, diversity=SSD(1.0)) == whole


def test_vectors_are_the_mean_of_the_token_rows(tiny_code_run):
    model = Recommender.from_pretrained(tiny_code_run).ranker.model
    vectors = token_vectors(model, np.array([[5, -1]]))
    rows = model.item_tokens[5] - model.item_tokens.base_vocab_size
    expected = model.backbone.item_table.weight[rows].mean(dim=0).numpy() * model.backbone.embedding_scale
    np.testing.assert_allclose(vectors[0, 0], expected, atol=1e-6)
    assert not vectors[0, 1].any()


def test_without_vectors_diversity_is_refused_in_words(few_users):
    data = load_data(few_users)
    with pytest.raises(RequestError, match="made in memory without any"):
        Recommender(Popularity().fit(data.interactions), data.catalog).recommend([], diversity=SSD())
