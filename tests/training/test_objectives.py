"""Which items an answer competes with in training: by hand, by gradient, and beside the decoder's own score."""

import math

import numpy as np
import pytest
import torch

from llmrec.engines.torch.likelihood import score_candidates
from llmrec.errors import ConfigError
from llmrec.items.forms import unique_id_tokens
from llmrec.nn.item_table import ItemTable
from llmrec.training.objectives import ScopeSettings, seen_items_loss
from tests.tiny import tiny_backbone

SEEN = torch.tensor([True, False, True])


def three_items():
    """A backbone with an item table of three rows, whose logits of the hidden state (1, 0, 0, ...) are 1, 2 and 3."""
    backbone = tiny_backbone("llama")
    table = ItemTable(np.zeros(3, int), backbone.dim, norm=1.0)
    with torch.no_grad():
        table.weight.zero_()
        table.weight[:, 0] = torch.tensor([1.0, 2.0, 3.0])
        table.log_scale.zero_()
    backbone.add_item_table(table)
    return backbone.eval(), table


def asked(backbone, *items):
    """Hidden states (1, 0, 0, ...) and the tokens of the items that follow them."""
    hidden = torch.zeros(len(items), backbone.dim)
    hidden[:, 0] = 1.0
    return hidden, torch.tensor(items) + backbone.base_vocab_size


def test_an_item_without_training_events_is_not_in_the_denominator():
    backbone, _ = three_items()
    loss = seen_items_loss(backbone, *asked(backbone, 0, 2), SEEN)
    both = math.log(math.exp(1) + math.exp(3))
    assert float(loss.detach()) == pytest.approx((both - 1) + (both - 3), rel=1e-6)


def test_label_smoothing_is_uniform_over_the_items_that_compete():
    backbone, _ = three_items()
    loss = seen_items_loss(backbone, *asked(backbone, 0), SEEN, label_smoothing=0.2)
    both = math.log(math.exp(1) + math.exp(3))
    assert float(loss.detach()) == pytest.approx(0.8 * (both - 1) + 0.2 * (both - (1 + 3) / 2), rel=1e-6)


def test_an_unseen_item_gets_no_gradient_unless_it_is_the_answer():
    backbone, table = three_items()
    (gradient,) = torch.autograd.grad(seen_items_loss(backbone, *asked(backbone, 0, 2), SEEN), table.weight)
    assert gradient.any(dim=1).tolist() == [True, False, True]
    (gradient,) = torch.autograd.grad(seen_items_loss(backbone, *asked(backbone, 0, 1), SEEN), table.weight)
    assert gradient[1, 0] < 0, "an alignment example may ask for it: pulled up there, and left alone by the other row"
    alone = seen_items_loss(backbone, *asked(backbone, 1), SEEN)
    assert float(alone.detach()) == pytest.approx(math.log(math.exp(1) + math.exp(2) + math.exp(3)) - 2, rel=1e-6)


@torch.no_grad()
def test_the_decoder_scores_all_items_and_differs_from_the_loss_by_the_share_of_the_seen():
    backbone, _ = three_items()
    tokens, prompt = unique_id_tokens(3, backbone.base_vocab_size), np.arange(5, 9)
    scores = score_candidates(backbone, tokens, [prompt], np.arange(3)[None], softmax_scope="level")[0]
    assert float(scores.exp().sum()) == pytest.approx(1, rel=1e-5), "the whole catalogue may come out"
    hidden = backbone.hidden_states(torch.from_numpy(prompt)[None])[0, -1:]
    for item in (0, 2):
        loss = seen_items_loss(backbone, hidden, torch.tensor([item + backbone.base_vocab_size]), SEEN)
        assert float(scores[item]) == pytest.approx(-float(loss) + float(scores[[0, 2]].logsumexp(0)), abs=1e-5)


@pytest.mark.parametrize(
    ("form", "scope", "new", "resumed"),
    [
        ("unique_id", None, "seen", "all"),
        ("soft", "level", "seen", "all"),
        ("unique_id", "vocabulary", "all", "all"),
        ("semantic_id", "level", "all", "all"),
        ("semantic_id", "trie", "seen", "all"),
        ("text", "trie", "seen", "all"),
        ("text", None, "all", "all"),
    ],
)
def test_left_to_itself_a_new_run_leaves_them_out_where_it_can_and_an_older_one_goes_on_as_it_began(
    form, scope, new, resumed
):
    settings = ScopeSettings(softmax_scope=scope)
    assert settings.settled(form, goes_on=False).negatives == new
    assert settings.settled(form, goes_on=True).negatives == resumed
    chosen = settings.settled(form, goes_on=False)
    assert chosen.settled(form, goes_on=True) == chosen, "what was settled stays"


def test_a_scope_that_cannot_leave_items_out_says_which_can():
    with pytest.raises(ConfigError, match=r"level with items\.form=semantic_id .*Take loss\.softmax_scope=trie"):
        ScopeSettings(negatives="seen").settled("semantic_id", goes_on=False)
