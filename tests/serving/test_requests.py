"""What a server is asked, answered together: everyone receives what they would alone."""

from llmrec.errors import RequestError
from llmrec.explain.reasons import reasons
from llmrec.recommender import Recommender
from llmrec.recommenders.rules import Condition
from llmrec.recommenders.steering import Steering
from llmrec.serving.requests import ListRequest, ReasonsRequest, answers

WESTERN = Condition.parse("genres=Western")


def test_lists_of_users_with_different_steering_come_out_of_one_call(tiny_run):
    recommender = Recommender.from_pretrained(tiny_run)
    wishes = [
        None,
        Steering(prefer=(WESTERN,)),
        Steering(disliked=("unknown",)),
        Steering(disliked=("1",), surprise=True),
    ]
    requests = [ListRequest(("50", "181"), 5, steering=own) for own in wishes]
    assert len({request.sharing for request in requests}) == 1
    found = answers(recommender, requests)
    assert isinstance(found[2], RequestError) and str(found[2]).startswith("the catalog of")
    for row in (0, 1, 3):
        alone = recommender.recommend(["50", "181"], 5, steering=wishes[row])
        assert [one.item_id for one in found[row]] == [one.item_id for one in alone]
    assert len({tuple(one.item_id for one in found[row]) for row in (0, 1, 3)}) == 3


def test_reasons_for_a_list_are_a_request_of_their_own(tiny_run):
    recommender = Recommender.from_pretrained(tiny_run)
    steering = Steering(prefer=(WESTERN,))
    (asked,) = [ReasonsRequest(("50", "181"), ("172", "203"), steering)]
    (found,) = answers(recommender, [asked])
    assert found == reasons(recommender, ["50", "181"], ["172", "203"], steering=steering)
    assert asked.sharing != ReasonsRequest(("50", "181"), ("172", "203"), steering).sharing
    (wrong,) = answers(recommender, [ReasonsRequest(("50",), ("unknown",))])
    assert isinstance(wrong, RequestError) and "no item id 'unknown'" in str(wrong)
