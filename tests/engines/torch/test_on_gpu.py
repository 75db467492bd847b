"""What the engines compute on an accelerator: the answers of `generate` there, and those of a CPU."""

import numpy as np
import pytest
import torch

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.serving import pack
from llmrec.data.interactions import Histories
from llmrec.engines.allowed_items import AllowedItems, ItemBitmap
from llmrec.engines.torch.beam_search import beam_search
from llmrec.engines.torch.likelihood import score_candidates
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.torch.retrieval import retrieve
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import ItemTokens
from tests.engines.tiny_models import (
    BASE,
    WINDOW,
    as_backbone,
    code_items,
    generate,
    plain_model,
    prompts_of,
    random_words,
)

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
LONG = 2 * WINDOW + 3  # tokens of a prompt that does not fit a window
SCOPES = ["vocabulary", "level", "trie"]
NUM_ITEMS = 60


@pytest.fixture
def items() -> ItemTokens:
    return code_items(NUM_ITEMS)


def on_both(name: str, items: ItemTokens) -> list[tuple[Backbone, TokenTrie]]:
    """The same model and catalogue on the CPU and on the device."""
    return [
        (as_backbone(plain_model(name), items).to(device).eval(), TokenTrie.from_item_tokens(items, device))
        for device in ("cpu", DEVICE)
    ]


def assert_same(found, expected, atol: float = 1e-3) -> None:
    """Scores are the same at every place, and so are the items where no other score is as close; both lie on the CPU."""
    (items, scores), (expected_items, expected_scores) = found, expected
    assert items.device.type == scores.device.type == "cpu"
    np.testing.assert_allclose(scores.numpy(), expected_scores.numpy(), atol=atol)
    is_clear = torch.ones_like(scores, dtype=torch.bool)
    near = (expected_scores.diff(dim=1).abs() < atol) & (expected_scores[:, 1:] > -torch.inf)
    is_clear[:, 1:] &= ~near
    is_clear[:, :-1] &= ~near
    assert is_clear.float().mean() > 0.5
    assert items[is_clear].tolist() == expected_items[is_clear].tolist()


@pytest.mark.parametrize("scope", ["vocabulary", "trie"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gemma3", "mistral", "gpt2"])
def test_beams_equal_those_of_generate_there(name, scope, items):
    model = plain_model(name, BASE + items.num_rows).to(DEVICE)
    backbone, trie = as_backbone(model), TokenTrie.from_item_tokens(items, DEVICE)
    found, scores = beam_search(backbone, trie, prompts_of(LONG, 5), 8, num_beams=8, softmax_scope=scope)
    for row, prompt in enumerate(prompts_of(LONG, 5)):
        expected = generate(model, items, prompt, num_beams=8, renormalize=scope == "trie")
        pairs = torch.tensor([[item for item, _ in expected]]), torch.tensor([[score for _, score in expected]])
        assert_same((found[row : row + 1], scores[row : row + 1]), pairs)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_beams_equal_those_of_the_processor(name, scope, items):
    expected, found = (
        beam_search(backbone, trie, prompts_of(LONG, 5, 11), 20, num_beams=20, softmax_scope=scope)
        for backbone, trie in on_both(name, items)
    )
    assert_same(found, expected)


@pytest.mark.parametrize("scope", ["vocabulary", "trie"])
def test_answers_of_any_length_equal_those_of_the_processor(scope):
    words = random_words(40)
    expected, found = (
        beam_search(
            as_backbone(plain_model("llama")).to(device).eval(),
            TokenTrie.from_item_tokens(words, device),
            prompts_of(9, 4),
            6,
            num_beams=6,
            softmax_scope=scope,
        )
        for device in ("cpu", DEVICE)
    )
    assert_same(found, expected)


def test_bfloat16_gives_the_scores_of_float32_to_its_own_precision(items):
    (exact, exact_trie), (backbone, trie) = on_both("llama", items)
    backbone.causal_lm.to(torch.bfloat16)
    prompts = prompts_of(LONG, 5)
    _, scores = beam_search(backbone, trie, prompts, NUM_ITEMS, num_beams=NUM_ITEMS)
    _, expected = beam_search(exact, exact_trie, prompts, NUM_ITEMS, num_beams=NUM_ITEMS)
    assert scores.dtype == torch.float32
    assert (scores - expected).abs().mean() < 0.02 * expected.abs().mean()


def test_packing_leaves_a_model_there_as_it_is(items):
    _, (backbone, trie) = on_both("llama", items)
    before = beam_search(backbone, trie, prompts_of(7), 8)
    assert_same(beam_search(pack(backbone), trie, prompts_of(7), 8), before)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_returning_user_gets_the_answer_of_one_who_was_never_seen(name, items):
    _, (backbone, trie) = on_both(name, items)
    cache = PromptCache(2**20)
    whole, other = prompts_of(40, 23)
    for length in (17, 33, 40):
        prompts = [whole[:length], other]
        assert_same(
            beam_search(backbone, trie, prompts, 20, prompt_cache=cache), beam_search(backbone, trie, prompts, 20)
        )
    assert len(cache) == 2


def test_what_prompts_begin_with_is_read_once_there_too(items):
    instruction, *rests = prompts_of(2 * WINDOW + 4, 5, 9, 1)
    prompts = [np.concatenate([instruction, rest]) for rest in rests]
    expected, found = (beam_search(backbone, trie, prompts, 8) for backbone, trie in on_both("gemma3", items))
    assert_same(found, expected)


@pytest.mark.parametrize("scope", SCOPES)
def test_open_items_are_those_of_the_processor(scope, items):
    allowed = np.random.default_rng(2).random((1, NUM_ITEMS)) < 0.4
    seen = np.flatnonzero(allowed[0])[:3]
    excluded = Histories(
        np.array([0, 0, 3]), seen.astype(np.int32)
    )  # nothing for the first request, three items for the second
    expected, found = (
        beam_search(
            backbone,
            trie,
            prompts_of(9, 6),
            30,
            num_beams=30,
            allowed_items=AllowedItems(trie, 2, ItemBitmap.of(trie, allowed), excluded),
            softmax_scope=scope,
        )
        for backbone, trie in on_both("llama", items)
    )
    assert_same(found, expected)
    for row, each in enumerate(([], seen.tolist())):
        wanted = set(np.flatnonzero(allowed[0]).tolist()) - set(each)
        assert set(found[0][row].tolist()) - {-1} == wanted


@pytest.mark.parametrize("scope", SCOPES)
def test_likelihoods_of_candidates_are_those_of_the_processor(scope, items):
    candidates = np.array([[5, 0, 39, 5], [1, 2, 3, 4]])
    (backbone, _), (there, trie) = on_both("gemma3", items)
    cache = PromptCache(2**20)
    expected = score_candidates(backbone, items, prompts_of(LONG, 3), candidates, softmax_scope=scope)
    for given in (None, trie):  # the scope `trie` builds its own where none is given
        scores = score_candidates(
            there, items, prompts_of(LONG, 3), candidates, softmax_scope=scope, trie=given, prompt_cache=cache
        )
        assert scores.device.type == "cpu"
        np.testing.assert_allclose(scores.numpy(), expected.numpy(), atol=1e-3)


@pytest.mark.parametrize("num_requests", [1, 12])
def test_retrieval_gives_the_items_of_the_processor(num_requests):
    rng = np.random.default_rng(0)
    hidden, matrix, bias = (
        torch.from_numpy(
            rng.integers(-4, 5, shape).astype(np.float32)
        )  # whole numbers: sums are exact, and many are equal
        for shape in ((num_requests, 16), (5000, 16), (5000,))
    )
    allowed = torch.from_numpy(rng.random(5000) < 0.7)
    excluded = torch.from_numpy(rng.integers(-1, 5000, (num_requests, 40)))
    expected, found = (
        retrieve(
            hidden.to(device),
            matrix.to(device),
            50,
            bias=bias.to(device),
            allowed=allowed.to(device),
            excluded=excluded.to(device),
            normalise=True,
        )
        for device in ("cpu", DEVICE)
    )
    assert found.items.device.type == torch.device(DEVICE).type
    assert found.items.cpu().equal(expected.items)
    torch.testing.assert_close(found.scores.cpu(), expected.scores, atol=1e-4, rtol=1e-5)
