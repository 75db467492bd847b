"""Steering: what each wish does by hand, on real films, through beam search, and together with what else shapes a list."""

import numpy as np
import pytest

from llmrec.baselines.ease_r import EaseR
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.errors import RequestError
from llmrec.recommender import Recommender
from llmrec.recommenders import reranking
from llmrec.recommenders.diversity import MMR
from llmrec.recommenders.filters import Filter
from llmrec.recommenders.requests import DenseRecommender
from llmrec.recommenders.rules import Condition
from llmrec.recommenders.steering import DISLIKED, LEAN, LEAST, SURPRISE, Steering, likeness

COMEDY, WESTERN, DRAMA = (Condition.parse(f"genres={name}") for name in ("Comedy", "Western", "Drama"))


class Falling(DenseRecommender):
    """Scores fall by 1 from item to item, whoever asks."""

    name = "falling"

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items

    def scores(self, requests):
        return np.repeat(-np.arange(self.num_items, dtype=np.float32)[None], len(requests), axis=0)


def falling(kinds: str, vectors: np.ndarray | None = None) -> Recommender:
    """A recommender of one item a letter, which is its kind."""
    catalog = Catalog.from_rows(
        [{"item_id": f"i{n}", "title": f"Film {n}", "kind": kind} for n, kind in enumerate(kinds)]
    )
    return Recommender(Falling(len(kinds)), catalog, item_vectors=None if vectors is None else vectors.__getitem__)


def listed(recommender: Recommender, k: int, steering: Steering | None = None, **more) -> list[int]:
    return [int(found.item_id[1:]) for found in recommender.recommend([], k, steering=steering, **more)]


@pytest.fixture(scope="module")
def films(movielens):
    data = load_data(movielens)
    genres = sorted({genre for row in data.catalog.table["genres"].to_pylist() for genre in row})
    matrix = np.array([[genre in row for genre in genres] for row in data.catalog.table["genres"].to_pylist()], float)
    recommender = Recommender(EaseR().fit(data.interactions), data.catalog, item_vectors=matrix.__getitem__)
    events = data.interactions
    histories = [
        [data.catalog.item_id(item) for item in events.items[events.indptr[user] : events.indptr[user + 1]][:20]]
        for user in range(0, 600, 30)
    ]
    return recommender, histories, matrix


def share(recommender: Recommender, lists: list, genre: str) -> float:
    items = [recommender.catalog.index([found.item_id for found in row]) for row in lists]
    genres = recommender.catalog.table["genres"].to_pylist()
    return float(np.mean([[genre in genres[item] for item in row] for row in items]))


def test_preferred_and_avoided_values_by_hand():
    recommender = falling("aabbc")  # one k = 5, so all 5 are the longer list: relevance 1, .75, .5, .25, 0
    assert LEAN == 0.5
    c, b = Condition.parse("kind=c"), Condition.parse("kind=b")
    assert listed(recommender, 5, Steering(prefer=(c,))) == [
        0,
        1,
        2,
        4,
        3,
    ]  # c: .5, and of equals the ranker's own order
    assert listed(recommender, 5, Steering(prefer=(b,))) == [0, 2, 1, 3, 4]  # 1, 1, .75, .75, 0
    assert listed(recommender, 5, Steering(avoid=(Condition.parse("kind=a"),))) == [
        0,
        2,
        1,
        3,
        4,
    ]  # .5, .5, .25, .25, 0
    assert listed(recommender, 5, Steering(prefer=(b, c))) == [0, 2, 1, 3, 4]  # 1, 1, .75, .75, .5
    found = recommender.recommend([], 3, steering=Steering(prefer=(b,)))
    assert [one.score for one in found] == [0, -2, -1]  # the ranker's own


def test_likeness_to_a_disliked_item_by_hand():
    vectors = np.array([[2.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    recommender = falling("abcdef", vectors)
    assert DISLIKED == 1
    # Without item 0 relevance is 1, .75, .5, .25, 0; the cosines with it are 1, .71, 0, -1 (which does not help), 0.
    assert listed(recommender, 6, Steering(disliked=("i0",))) == [3, 4, 2, 1, 5]
    # The larger of two likenesses counts: item 2 is as like 3 as 0, 1 is like 0 alone.
    assert listed(recommender, 6, Steering(disliked=("i0", "i3"))) == [4, 2, 1, 5]
    assert likeness(vectors, vectors[:0]).tolist() == [0] * 6


def test_surprise_leaves_the_usual_list_for_last_and_keeps_away_from_it():
    vectors = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.2, 1.0], [-1.0, 0.0]])
    recommender = falling("abcdef", vectors)
    assert SURPRISE == 1
    # k = 2: the usual list is 0, 1. Relevance of 2 to 5 is .6, .4, .2, 0; like the usual ones are 2 (1), 3 (.1), 4 (.29).
    assert listed(recommender, 2, Steering(surprise=True)) == [3, 5]
    assert listed(recommender, 6, Steering(surprise=True)) == listed(recommender, 6)  # where all are the usual list
    assert listed(recommender, 2, Steering(surprise=True), exclude=["i2", "i3", "i4"]) == [5, 0]


def test_a_disliked_item_never_comes_and_what_is_like_it_less(films):
    recommender, histories, matrix = films
    disliked = [found[0].item_id for found in recommender.recommend_batch(histories, 1)]
    steering = [Steering(disliked=(item_id,)) for item_id in disliked]
    usual = [row[1:] for row in recommender.recommend_batch(histories, 11)]
    steered = recommender.recommend_batch(histories, 10, steering=steering)
    cosines = []
    for rows in (usual, steered):
        vectors = [matrix[recommender.catalog.index([found.item_id for found in row])] for row in rows]
        assert all(item_id not in {found.item_id for found in row} for item_id, row in zip(disliked, rows, strict=True))
        away_from = matrix[recommender.catalog.index(disliked)]
        cosines.append([likeness(own, away[None]).mean() for own, away in zip(vectors, away_from, strict=True)])
    assert (np.array(cosines[1]) <= np.array(cosines[0])).all() and np.mean(cosines[1]) < np.mean(cosines[0]) - 0.1
    kept = recommender.recommend_batch(
        histories, 10, steering=steering, filters=[Filter(exclude=["1"])] * len(histories)
    )
    assert not {"1", *disliked[:1]} & {found.item_id for found in kept[0]}


def test_a_preferred_value_has_a_quarter_of_the_list_however_rare_and_whatever_else_is_preferred(films):
    recommender, histories, _ = films
    assert LEAST == 0.25
    for prefer in ((WESTERN,), (COMEDY, WESTERN)):
        lists = recommender.recommend_batch(histories, 10, steering=[Steering(prefer=prefer)] * len(histories))
        for row in lists:
            assert all(share(recommender, [row], condition.values[0]) >= 0.3 for condition in prefer)
    # By hand, k = 4: of relevance 1 to 0 over the first 20, item 22 has less than 0 and LEAN does not do.
    rare = falling("a" * 22 + "bb")
    assert listed(rare, 4, Steering(prefer=(Condition.parse("kind=b"),))) == [0, 1, 2, 22]


def test_a_list_leans_towards_a_value_also_a_rare_one_and_away_from_one(films):
    recommender, histories, _ = films
    usual = recommender.recommend_batch(histories, 10)
    for condition in (COMEDY, WESTERN):
        (genre,) = condition.values
        leaning = recommender.recommend_batch(histories, 10, steering=[Steering(prefer=(condition,))] * len(histories))
        assert share(recommender, usual, genre) + 0.15 < share(recommender, leaning, genre) < 1
    away = recommender.recommend_batch(histories, 10, steering=[Steering(avoid=(DRAMA,))] * len(histories))
    assert share(recommender, away, "Drama") < share(recommender, usual, "Drama") - 0.15


@pytest.mark.parametrize("run", ["tiny_run", "tiny_code_run"])
def test_each_user_of_a_batch_receives_what_they_would_alone_and_no_wish_changes_nothing(run, request):
    recommender = Recommender.from_pretrained(request.getfixturevalue(run))
    steering = [None, Steering(prefer=(WESTERN,)), Steering(), Steering(disliked=("1",)), Steering(surprise=True)]
    histories = [["50", "181"], ["50", "181"], ["7"], [], ["2"]]
    filters = [None, None, Filter("year>=1990"), Filter("genres=Drama"), None]
    together = recommender.recommend_batch(histories, 5, steering=steering, filters=filters)
    usual = recommender.recommend_batch(histories, 5, filters=filters)
    for row, (history, own, filter_) in enumerate(zip(histories, steering, filters, strict=True)):
        alone = recommender.recommend(history, 5, steering=own, **({} if filter_ is None else {"where": filter_.where}))
        assert [found.item_id for found in alone] == [found.item_id for found in together[row]]
        if not own:
            assert [found.item_id for found in together[row]] == [found.item_id for found in usual[row]]
    assert [found.item_id for found in together[1]] != [found.item_id for found in together[0]]


def test_beam_search_is_asked_for_the_preferred_value_itself(tiny_code_run):
    recommender = Recommender.from_pretrained(tiny_code_run, num_beams=2000)
    history = ["50", "181"]
    steered = recommender.recommend(history, 5, steering=Steering(prefer=(WESTERN,)))
    best = recommender.recommend(history, 5, where="genres=Western")
    # The best of all is relevant by 1, the best Western by LEAN or more.
    assert best[0].item_id in [found.item_id for found in steered]
    scores = recommender.score(history, [found.item_id for found in steered])
    assert [found.score for found in steered] == pytest.approx(scores, abs=1e-4)
    # A value that a filter keeps out leans on nothing.
    assert recommender.recommend(history, 3, where="genres!=Western", steering=Steering(prefer=(WESTERN,))) == (
        recommender.recommend(history, 3, where="genres!=Western")
    )


def test_dense_and_searched_lists_agree(films, monkeypatch):
    recommender, histories, _ = films
    steering = [Steering(prefer=(WESTERN, COMEDY))] * len(histories)
    dense = recommender.recommend_batch(histories, 10, steering=steering)
    monkeypatch.setattr(reranking, "DenseRecommender", ())
    assert recommender.recommend_batch(histories, 10, steering=steering) == dense


def test_diversity_works_on_what_steering_made_of_the_list(films):
    recommender, histories, _ = films
    for steering in (Steering(prefer=(COMEDY,)), Steering(disliked=("172",)), Steering(surprise=True)):
        alone = recommender.recommend(histories[0], 10, steering=steering)
        assert recommender.recommend(histories[0], 10, steering=steering, diversity=MMR(0)) == alone
        both = recommender.recommend(histories[0], 10, steering=steering, diversity=MMR(0.6))
        assert both[0] == alone[0] and both != alone


def test_likeness_needs_vectors_and_values_do_not():
    recommender = falling("aab")
    for steering, what in (
        (Steering(disliked=("i1",)), "likeness to disliked items"),
        (Steering(surprise=True), "surprise"),
    ):
        with pytest.raises(RequestError, match=f"^{what} needs vectors of the items.*made in memory without any"):
            recommender.recommend([], steering=steering)
    assert listed(recommender, 2, Steering(prefer=(Condition.parse("kind=b"),))) == [0, 2]


@pytest.mark.parametrize(
    ("steering", "sentence"),
    [
        ({"disliked": ("i9",)}, "no item id 'i9'"),
        ({"disliked": "i1"}, "disliked items should come as a list of ids"),
        ({"disliked": (1,)}, "Write '1' if that is the id"),
        ({"prefer": (Condition.parse("genre=a"),)}, "no column 'genre'"),
        ({"avoid": (Condition.parse("kind=x"),)}, "no item has 'x' as its kind. The nearest values are: "),
        ({"prefer": (Condition.parse("kind!=a"),)}, "conditions with '='.*goes into where"),
        ({"avoid": "kind=a"}, "avoid should be a tuple of conditions"),
        ({"surprise": "no"}, "surprise should be True or False"),
    ],
)
def test_what_cannot_steer_is_one_sentence(steering, sentence):
    recommender = falling("aab", np.eye(3))
    with pytest.raises(RequestError, match=sentence):
        recommender.recommend([], steering=Steering(**steering))


def test_of_several_users_the_sentence_names_whose_steering_it_is():
    recommender = falling("aab", np.eye(3))
    with pytest.raises(RequestError, match=r"the steering of history 1 \(counted from 0\): .*no item id 'i9'"):
        recommender.recommend_batch([[], []], steering=[None, Steering(disliked=("i9",))])
    with pytest.raises(RequestError, match="one entry for each of the 2 histories, not 1"):
        recommender.recommend_batch([[], []], steering=[None])
    with pytest.raises(RequestError, match="should be Steering"):
        recommender.recommend([], steering={"disliked": ["i1"]})
