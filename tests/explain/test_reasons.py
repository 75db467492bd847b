"""Every sentence agrees with the measurement: with EASE-R's sums by hand, on real films, and for rankers that speak against it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.baselines.ease_r import EaseR
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.errors import RequestError
from llmrec.explain.reasons import LEFT_OUT, reasons
from llmrec.recommender import Recommender
from llmrec.recommenders.requests import DenseRecommender
from llmrec.recommenders.rules import Condition
from llmrec.recommenders.steering import Steering

CATALOG = Catalog.from_rows(
    [{"item_id": f"i{item}", "title": f"Film {item}", "kind": ["Even", "Odd"][item % 2], "year": 1990 + item // 4} for item in range(8)]
)  # fmt: skip
COMEDY = Condition.parse("genres=Comedy")


class Weighed(DenseRecommender):
    """A score is a start and what each history item adds to it."""

    name = "weighed"

    def __init__(self, added: dict[int, float], start: float = -1.0) -> None:
        self.added, self.start, self.num_items = added, start, CATALOG.num_items

    def scores(self, requests):
        rows = [self.start + sum(self.added.get(int(item), 0.0) for item in row) for row in _rows(requests)]
        return np.repeat(np.array(rows)[:, None], self.num_items, axis=1)


def _rows(requests):
    return [requests.histories[row] for row in range(len(requests))]


def reason(added: dict[int, float], history: list[str], item_id: str = "i4", **more):
    (found,) = reasons(Recommender(Weighed(added), CATALOG), history, [item_id], **more)
    return found


def test_the_title_whose_loss_costs_most_is_the_reason():
    found = reason({1: 0.2, 2: 0.5, 3: -0.3}, ["i1", "i2", "i3"])
    assert found.influence.item_id == "i2" and found.influence.drop == pytest.approx(0.5, abs=1e-6)
    assert found.text == "Because you liked Film 2, with kind Even in common."
    assert [(one.column, one.value) for one in found.shared] == [("kind", "Even")]
    assert reason({6: 0.5}, ["i6"]).text == "Because you liked Film 6, with kind Even and year 1991 in common."
    assert reason({1: 0.5}, ["i1"]).text == "Because you liked Film 1."


def test_where_the_score_does_not_fall_nothing_is_because_of_a_title():
    against = reason({1: -0.2, 2: -0.5}, ["i1", "i2"])
    assert against.influence is None
    assert against.text == "Its score is no lower without what you liked; it has kind Even in common with Film 2."
    # One title speaks for it, all of the history against it.
    assert reason({1: -0.9, 2: 0.5}, ["i1", "i2"]).influence is None
    nothing = reason({}, ["i1", "i3"])
    assert nothing.influence is None and nothing.text == "Its score is no lower without what you liked."
    # A fall within rounding is none.
    assert reason({2: 1e-6}, ["i2"]).influence is None


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=6), st.floats(-5, 5))
@settings(max_examples=60, deadline=None)
def test_a_ranker_that_scores_higher_without_the_history_is_never_said_to_like_it(added, start):
    history = [f"i{item}" for item in range(len(added))]
    recommender = Recommender(Weighed(dict(enumerate(added)), start), CATALOG)
    for found in reasons(recommender, history, ["i6", "i7"]):
        if sum(added) <= 0 or max(added) <= 0:
            assert found.influence is None and "ecause you liked" not in found.text
        elif found.influence is not None:
            named = added[int(found.influence.item_id[1:])]
            assert named == pytest.approx(max(added), abs=1e-5)
            assert found.influence.drop == pytest.approx(named, abs=1e-5)


def test_what_only_the_whole_history_does_is_said_of_all_of_it():
    class AnyOf(Weighed):
        def scores(self, requests):
            return np.repeat(np.array([[1.0 if len(row) else 0.0] for row in _rows(requests)]), self.num_items, axis=1)

    (found,) = reasons(Recommender(AnyOf({}), CATALOG), ["i1", "i3"], ["i5"])
    assert found.influence is None
    assert found.text == (
        "What you liked speaks for it together, no title alone; it has kind Odd in common with Film 1."
    )


def test_a_new_user_and_a_wish():
    assert reason({}, []).text == "Nothing you like is known yet."
    steering = Steering(
        prefer=(Condition.parse("kind=even"), Condition.parse("kind=Odd"), Condition.parse("year=1991"))
    )
    found = reason({2: 1.0}, ["i2"], steering=steering)
    assert found.text == "Even and year 1991, as you asked; because you liked Film 2, with kind Even in common."
    assert [str(one) for one in found.wished] == ["kind=even", "year=1991"]
    assert reason({}, [], steering=steering).text == "Even and year 1991, as you asked."


def test_an_item_of_the_history_is_no_reason_for_itself():
    assert reason({4: 0.9, 2: 0.1}, ["i4", "i2"]).influence.item_id == "i2"
    assert reason({4: 0.9}, ["i4"]).influence is None


def test_titles_are_data():
    rows = [
        {"item_id": "a", "title": "\x1b[31mRed\nline\u202e", "tag": "x\x07y"},
        {"item_id": "b", "title": "", "tag": "x\x07y"},
    ]
    recommender = Recommender(Weighed({0: 1.0}), Catalog.from_rows(rows))
    recommender.ranker.num_items = 2
    (found,) = reasons(recommender, ["a"], ["b"])
    assert found.text == "Because you liked Red line, with tag xy in common."


def check(recommender: Recommender, history: list[str], item_ids: list[str]) -> int:
    """Asserts that each sentence agrees with scores that are asked for one by one; how many say "because"."""
    found = reasons(recommender, history, item_ids)
    for one in found:
        assert one.text.startswith("Because you liked") is (one.influence is not None)
        named = one.influence.item_id if one.influence else None
        histories = [history, [], [other for other in history if other != named]]
        (score,), (empty,), (without,) = recommender.score_batch(histories, [[one.item_id]] * 3)
        if one.influence:
            assert recommender.catalog.title(recommender.catalog.index([one.influence.item_id])[0]) in one.text
            assert one.influence.drop > 0 and score > without and score > empty
        elif "together" in one.text:
            assert score > empty
        else:
            assert score <= empty + 1e-3 * abs(empty)
    return sum(one.influence is not None for one in found)


def test_every_because_is_a_measured_fall_for_dozens_of_users(movielens):
    data = load_data(movielens)
    recommender = Recommender(EaseR().fit(data.interactions), data.catalog)
    events, because = data.interactions, 0
    for user in range(0, 900, 30):
        first = int(events.indptr[user])
        history = [data.catalog.item_id(item) for item in events.items[first : first + 1 + user % 15]]
        item_ids = [found.item_id for found in recommender.recommend(history, 5)]
        because += check(recommender, history, item_ids)
        # the last of the list, which little speaks for
        check(recommender, history, [found.item_id for found in recommender.recommend(history, 1600)[-3:]])
    assert because > 100


@pytest.mark.parametrize("run", ["tiny_run", "tiny_code_run"])
def test_a_language_models_reasons_agree_with_its_scores(run, request):
    recommender = Recommender.from_pretrained(request.getfixturevalue(run))
    for history in (["50", "181", "1"], ["7", "100"], ["98"]):
        check(recommender, history, ["172", "56", "423"])


def test_one_batch_of_scores_measures_a_whole_list_of_a_long_history(movielens):
    calls: list[int] = []

    class Counting(Recommender):
        def score_batch(self, histories, candidates, *, instructions=None):
            calls.append(len(histories))
            return super().score_batch(histories, candidates, instructions=instructions)

    data = load_data(movielens)
    recommender = Counting(EaseR().fit(data.interactions), data.catalog)
    found = reasons(recommender, [str(number) for number in range(1, 61)], ["172", "300"])
    assert calls == [LEFT_OUT + 2] and len(found) == 2
    assert all(one.influence is None or int(one.influence.item_id) > 60 - LEFT_OUT for one in found)
    assert reasons(recommender, ["1"], []) == []


@pytest.mark.parametrize(
    ("history", "item_ids", "steering", "sentence"),
    [
        (["i1"], ["i99"], None, "no item id 'i99'"),
        (["i99"], ["i1"], None, "no item id 'i99'"),
        ("i1", ["i2"], None, "should come as a list of ids"),
        (["i1"], "i2", None, "the titles should come as a list"),
        (["i1"], ["i2"], {"prefer": ()}, "should be Steering"),
    ],
)
def test_what_has_no_reason_is_one_sentence(history, item_ids, steering, sentence):
    with pytest.raises(RequestError, match=sentence):
        reasons(Recommender(Weighed({}), CATALOG), history, item_ids, steering=steering)
