"""What is asked of vLLM: within its bounds, of one kind in a call, and no more tokens than have to be read."""

import numpy as np
import pytest

from llmrec.recommenders.requests import Requests
from tests.engines.vllm.conftest import histories
from tests.engines.vllm.test_parity import SCOPES, check_alike, rankers

pytestmark = [pytest.mark.slow, pytest.mark.vllm]


@pytest.fixture
def calls(served, monkeypatch):
    """The prompts and parameters of every call of vLLM's `generate`."""
    llm, seen = served.vllm.ranker.model.engine.token_scores._llm, []
    generate = llm.generate

    def recorded(prompts, parameters, **settings):
        seen.append((prompts, parameters))
        return generate(prompts, parameters, **settings)

    monkeypatch.setattr(llm, "generate", recorded)
    return seen


def test_no_request_passes_a_bound_of_vllm_and_a_call_has_one_kind(served, calls):
    """vLLM's GPU runner heeds 1,024 allowed tokens at most, and it gives wrong numbers where both kinds of request share a step."""
    for scope in SCOPES:
        if served.form == "text" and scope == "level":
            continue
        _, theirs = rankers(served, scope)
        requests = Requests(histories(theirs.num_items, 9).take(np.arange(6, 9)))
        theirs.rank(requests, 3, exclude_seen=True)
        theirs.score(requests, np.arange(5))
    assert calls
    for _, parameters in calls:
        assert len({each.logprob_token_ids is None for each in parameters}) == 1
        for each in parameters:
            assert each.max_tokens == 1 and (each.logprobs is None) == (each.logprob_token_ids is not None)
            assert each.allowed_token_ids is None or len(each.allowed_token_ids) <= 1024
            assert each.logprob_token_ids is None or len(each.logprob_token_ids) <= 128
            assert each.logprobs is None or each.logprobs == len(each.allowed_token_ids)


def test_a_prompt_that_ends_on_a_block_is_read_once_whatever_the_number_of_beams(served, calls):
    if served.form != "semantic_id":
        pytest.skip("answers of several tokens alone have beams, and titles rarely end on a block")
    ours, theirs = rankers(served, "level")
    engine, encoders = theirs.model.engine, [ours.model.encoder, theirs.model.encoder]
    history = histories(theirs.num_items, 40)[30]
    assert engine.block_size == 32 and len(history) > 8
    requests = Requests(histories(theirs.num_items, 40).take(np.array([30])))
    computed = {}
    for block in (1, engine.block_size):
        for encoder in encoders:
            encoder.block_tokens = block
        prompt = theirs.model.prompts(requests)[0]
        engine.token_scores._llm.reset_prefix_cache()
        calls.clear()
        before = engine.token_scores.num_computed
        found = theirs.rank(requests, 5, exclude_seen=True)
        computed[block] = (len(prompt), engine.token_scores.num_computed - before)
        check_alike(ours.rank(requests, 5, exclude_seen=True), found)
        beams = [len(each["prompt_token_ids"]) - len(prompt) for prompts, _ in calls for each in prompts]
        assert len(beams) > 8 and max(beams) == 2
        tail, first = len(prompt) % 32, sum(depth == 0 for depth in beams)
        # the prompt for each request of the first round that vLLM had not finished reading; then of every beam the tail and its own
        assert sum(beams) + len(prompt) <= computed[block][1]
        assert computed[block][1] <= first * len(prompt) + sum(depth + tail for depth in beams if depth)
    for encoder in encoders:
        encoder.block_tokens = 1
    length, aligned = computed[32]
    assert length % 32 == 0 and computed[1][0] - length > 0
    assert aligned < computed[1][1] / 2
