"""What is measured is what happens: known answers from EASE-R, whose scores are sums over the history."""

import numpy as np
import pytest

from llmrec.baselines.ease_r import EaseR
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.data.interactions import Interactions
from llmrec.errors import RequestError
from llmrec.explain.evidence import LEFT_OUT, RANKS, measure
from llmrec.recommender import Recommender

CATALOG = Catalog.from_rows(
    [
        {"item_id": f"i{item}", "title": f"Film {item}", "genres": ["Even" if item % 2 == 0 else "Odd", "Film"],
         "year": 1990 + item // 4, "plot": "The same long text in every item, which is a description and no property."}
        for item in range(10)
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def checkerboard() -> Recommender:
    """Even users chose even items, odd users odd ones, a different one left out by each."""
    rows = [[item for item in range(user % 2, 10, 2) if item != (user // 2 * 2 + user % 2) % 10] for user in range(20)]
    events = Interactions(np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int32), 10)
    return Recommender(EaseR(regularisation=1.0, recency=1.0).fit(events), CATALOG)


def test_the_item_that_supports_the_target_matters_most(checkerboard):
    evidence = measure(checkerboard, ["i1", "i2", "i3"], "i4")
    assert evidence.influences[0].item_id == "i2"
    assert evidence.influences[0].drop > 10 * abs(evidence.influences[1].drop)
    assert evidence.rank == 1 + [r.item_id for r in checkerboard.recommend(["i1", "i2", "i3"], 7)].index("i4")


def test_what_a_score_loses_is_what_the_item_put_into_it(checkerboard):
    evidence = measure(checkerboard, ["i1", "i2", "i6"], "i4")
    alone = {item_id: checkerboard.score([item_id], ["i4"])[0] for item_id in ("i1", "i2", "i6")}
    assert {i.item_id: i.drop for i in evidence.influences} == pytest.approx(alone, abs=1e-6)
    assert evidence.score == pytest.approx(sum(alone.values()), abs=1e-6)
    drops = [influence.drop for influence in evidence.influences]
    assert drops == sorted(drops, reverse=True)


def test_common_values_say_with_whom_and_how_common_they_are(checkerboard):
    shared = measure(checkerboard, ["i1", "i5", "i6"], "i4").shared
    assert [(s.column, s.value, s.titles, s.share) for s in shared] == [
        ("genres", "Film", ("Film 1", "Film 5", "Film 6"), 1.0),
        ("year", "1991", ("Film 5", "Film 6"), 0.4),
        ("genres", "Even", ("Film 6",), 0.5),
    ]


def test_the_sentences_say_the_measured_facts(checkerboard):
    evidence = measure(checkerboard, ["i1", "i6"], "i4")
    assert evidence.sentences.startswith(
        f'"Film 4" has rank {evidence.rank} of 10 for this history. Its score falls most without'
    )
    assert evidence.reasons.endswith(
        'It shares genres (Film) with "Film 1" and "Film 6". It shares year (1991) with "Film 6".'
    )
    against = measure(checkerboard, ["i1"], "i4")
    assert against.influences[0].drop <= 0 and "does not fall without any one" in against.reasons


def test_an_item_that_was_chosen_twice_is_left_out_altogether(checkerboard):
    evidence = measure(checkerboard, ["i2", "i1", "i2"], "i4")
    assert evidence.num_history == 3 and len(evidence.influences) == 2
    without = checkerboard.score(["i1"], ["i4"])[0]
    assert evidence.influences[0].drop == pytest.approx(evidence.score - without, abs=1e-6)


def test_places_far_down_and_long_histories_are_bounded_and_say_so(movielens):
    data = load_data(movielens)
    recommender = Recommender(EaseR().fit(data.interactions), data.catalog)
    history = [str(number) for number in range(1, 81)]
    last = recommender.recommend(history, 1602)[-1].item_id
    evidence = measure(recommender, history, last)
    assert evidence.rank is None and evidence.place == f"beyond rank {RANKS} of 1,682"
    assert {i.item_id for i in evidence.influences} == set(history[-LEFT_OUT:]) and evidence.num_history == 80


def test_a_language_models_history_is_left_out_one_by_one(tiny_code_run):
    recommender = Recommender.from_pretrained(tiny_code_run)
    evidence = measure(recommender, ["50", "181", "1"], "172")
    full, without = recommender.score_batch([["50", "181", "1"], ["50", "1"]], [["172"], ["172"]])
    drops = {influence.item_id: influence.drop for influence in evidence.influences}
    assert evidence.score == pytest.approx(full[0], abs=1e-4)
    assert drops["181"] == pytest.approx(full[0] - without[0], abs=1e-4) and set(drops) == {"50", "181", "1"}


@pytest.mark.parametrize(
    ("history", "item", "sentence"),
    [
        ([], "i1", "needs a history of one item or more"),
        (["i1", "i2"], "i1", "'i1' is in the history itself"),
        (["i1"], "nothing", "no item id 'nothing'"),
        (["nothing"], "i1", "no item id 'nothing'"),
        ("i1", "i2", "should come as a list of ids"),
    ],
)
def test_what_cannot_be_explained_is_one_sentence(checkerboard, history, item, sentence):
    with pytest.raises(RequestError, match=sentence):
        measure(checkerboard, history, item)
