"""Users with different filters in one batch: each receives what it would alone, whatever ranks, and a filter is compiled once."""

import numpy as np
import pytest

from llmrec.baselines.ease_r import EaseR
from llmrec.baselines.popularity import Popularity
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import RequestError
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import load_prompt
from llmrec.recommender import Recommender
from llmrec.recommenders import generative, rules
from llmrec.recommenders.diversity import MMR, SSD
from llmrec.recommenders.filters import Filter
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.grounding import GroundedRecommender
from llmrec.recommenders.hybrid import Hybrid
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.requests import Requests
from llmrec.recommenders.rules import Condition
from tests.recommenders.test_language_model import NUM_ITEMS, language_model_of

CATALOG = Catalog.from_rows(
    [{"item_id": f"i{n}", "title": f"Item {n}", "kind": "abc"[n % 3], "year": 1980 + n} for n in range(NUM_ITEMS)]
)
EVENTS = Interactions(
    np.arange(0, 241, 12), np.random.default_rng(0).integers(0, NUM_ITEMS, 240).astype(np.int32), NUM_ITEMS
)
# A history, and the filter that comes with it: none, columns, stock, exclusions, short and long lists, all together.
ASKED = [
    (["i1", "i2"], None),
    ([], Filter(where="kind=a")),
    (["i7"], Filter(where=["kind=a|b", Condition("year", "<", ("2010",))])),
    (["i3", "i9"], Filter(candidates=["i4", "i9", "i30"])),
    (["i3"], Filter(exclude=[f"i{n}" for n in range(0, 40, 2)])),
    ([], Filter(in_stock=tuple(f"i{n}" for n in range(5, 25)))),
    (["i8"], Filter(where="kind!=c", exclude=["i0", "i1"], candidates=[f"i{n}" for n in range(30)])),
    (["i8"], Filter(candidates=["i8"])),  # the only one was seen
    (["i20"], Filter(where="kind=a")),
]
HISTORIES, FILTERS = [history for history, _ in ASKED], [own for _, own in ASKED]


def grounded() -> GroundedRecommender:
    return GroundedRecommender(language_model_of("text", "vocabulary"))


def pointwise():
    model = language_model_of("text")
    encoder = PromptEncoder(
        load_prompt("click/instruction"),
        model.backbone.tokenizer,
        model.item_tokens,
        CATALOG,
        max_history=2,
        max_tokens=250,
    )
    return recommender_of(LanguageModel(model.backbone, model.item_tokens, encoder, CATALOG, "vocabulary"))


RANKERS = {
    "unique_id": lambda: recommender_of(language_model_of("unique_id")),
    "unique_id, full softmax": lambda: recommender_of(language_model_of("unique_id", "vocabulary")),
    "semantic_id": lambda: recommender_of(language_model_of("semantic_id")),
    "semantic_id, few beams": lambda: recommender_of(language_model_of("semantic_id"), num_beams=3),
    "text": lambda: recommender_of(language_model_of("text", "trie")),
    "grounded text": grounded,
    "pointwise": pointwise,
    "popularity": lambda: Popularity().fit(EVENTS),
    "hybrid": lambda: Hybrid(recommender_of(language_model_of("semantic_id")), EaseR().fit(EVENTS)),
}


def alone(recommender, history, own, k, **settings):
    return recommender.recommend(history, k, **(vars(own) if own else {}), **settings)


def assert_same(together, singly):
    assert [[item.item_id for item in found] for found in together] == [
        [item.item_id for item in found] for found in singly
    ]
    for found, other in zip(together, singly, strict=True):
        assert [item.score for item in found] == pytest.approx([item.score for item in other], abs=1e-4)


@pytest.fixture(params=RANKERS)
def recommender(request, tmp_path, monkeypatch) -> Recommender:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path))
    return Recommender(RANKERS[request.param](), CATALOG)


@pytest.mark.parametrize("short", [0, 10, 4096])  # lists longer than this become filters over the catalogue
def test_a_mixed_batch_gives_each_user_what_it_receives_alone(recommender, short, monkeypatch):
    monkeypatch.setattr(rules, "SHORT_LIST", short)
    monkeypatch.setattr(generative, "SHORT_LIST", short)
    singly = [alone(recommender, history, own, 12) for history, own in ASKED]
    assert_same(recommender.recommend_batch(HISTORIES, 12, filters=FILTERS), singly)
    assert [len(found) for found in singly[1:]] == [12, 12, 2, 12, 12, 12, 0, 12]


@pytest.mark.parametrize("run", ["tiny_run", "tiny_code_run", "poster_run"])
def test_runs_answer_mixed_batches_as_they_answer_each_user(run, request):
    recommender = Recommender.from_pretrained(request.getfixturevalue(run))
    ids = recommender.catalog.item_ids
    histories = [ids[:3], [], ids[5:9], ids[10:30], ids[1:2]]
    filters = [None, Filter(where="genres=Drama"), Filter(candidates=ids[::2]), Filter(exclude=ids[:50]),
               Filter(where=["genres=Comedy", "year>=1990"])]  # fmt: skip
    for settings in ({}, {"diversity": MMR(0.5)}, {"diversity": SSD(0.5), "exclude_seen": False}):
        together = recommender.recommend_batch(histories, 7, filters=filters, **settings)
        assert_same(
            together, [alone(recommender, *asked, 7, **settings) for asked in zip(histories, filters, strict=True)]
        )
    rows = {row["item_id"]: row for row in recommender.catalog.table.to_pylist()}
    assert all("Drama" in rows[item.item_id]["genres"] for item in together[1]) and len(together[1]) == 7


def test_a_filter_of_ones_own_holds_with_the_rules_for_all():
    recommender = Recommender(Popularity().fit(EVENTS), CATALOG)
    mixed = recommender.recommend_batch([[], []], 40, where="kind=a", exclude=["i0"],
                                        filters=[None, Filter(where="year>=2000", exclude=["i39"])])  # fmt: skip
    assert {item.item_id for item in mixed[0]} == {f"i{n}" for n in range(3, 40, 3)}
    assert {item.item_id for item in mixed[1]} == {f"i{n}" for n in range(21, 39, 3)}
    assert recommender.recommend_batch([], filters=[]) == []


def test_a_filter_that_recurs_is_compiled_once(monkeypatch):
    recommender = Recommender(RANKERS["semantic_id"](), CATALOG)
    monkeypatch.setattr(generative, "SHORT_LIST", 2)
    compiled, bitmaps = [], []
    holds, of = recommender.rules._holds, generative.ItemBitmap.of
    monkeypatch.setattr(
        recommender.rules, "_holds", lambda condition: compiled.append(str(condition)) or holds(condition)
    )
    monkeypatch.setattr(generative.ItemBitmap, "of", lambda *asked: bitmaps.append(1) or of(*asked))
    kinds = [Filter(where=f"kind={'abc'[user % 3]}") for user in range(9)]
    first = recommender.recommend_batch([[]] * 9, 5, filters=kinds)
    assert (sorted(compiled), len(bitmaps)) == (["kind=a", "kind=b", "kind=c"], 3)
    assert_same(recommender.recommend_batch([[]] * 9, 5, filters=[Filter(where=[own.where]) for own in kinds]), first)
    assert (len(compiled), len(bitmaps)) == (3, 3)


def test_requests_keep_their_rules_when_some_are_taken():
    lists = [np.array([1, 2]), None, np.array([3])]
    taken = Requests(Histories.from_lists([[], [1], []]), candidates=lists).take([2, 1])
    assert taken.candidates[0] is lists[2] and taken.candidates[1] is None
    assert [choice is None for choice in taken.choices()] == [False, True]
    with pytest.raises(RequestError, match="candidates should have one entry for each of the 2 histories, not 1"):
        Requests(Histories.from_lists([[], []]), candidates=[None])


@pytest.mark.parametrize(
    ("filters", "common", "sentence"),
    [
        ([None], {}, "filters should have one entry for each of the 2 histories, not 1"),
        ([None, "kind=a"], {}, "should hold a Filter or None for each history, but entry 1 is 'kind=a'"),
        (Filter(where="kind=a"), {}, "the filters should come as a list, one entry per user"),
        (
            [None, Filter(where="kind=z")],
            {},
            r"the filter of history 1 \(counted from 0\): no item has 'z' as its kind",
        ),
        (
            [Filter(where="year>3000"), None],
            {},
            r"the filter of history 0 .*none of the 40 items is left by: year>3000",
        ),
        (
            [None, Filter(candidates=["i1"])],
            {"candidates": ["i2"]},
            "history 1 .*candidates is given for this user and for",
        ),
        (
            [None, Filter(in_stock=["i1"])],
            {"in_stock": "kind"},
            "history 0 .*none of the 40 items is left by: in stock",
        ),
        ([Filter(exclude="i1"), None], {}, r"history 0 .*one text came. Write \['i1'\]"),
        ([Filter(where=3), None], {}, "history 0 .*a filter should be a text such as 'genres=Comedy'"),
    ],
)
def test_a_filter_that_cannot_be_used_is_said_of_its_user(filters, common, sentence):
    recommender = Recommender(Popularity().fit(EVENTS), CATALOG)
    with pytest.raises(RequestError, match=sentence):
        recommender.recommend_batch([[], []], filters=filters, **common)
