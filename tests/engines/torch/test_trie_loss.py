"""The loss of the scope `trie`: brute force over a small catalogue, and the decoder's own score."""

import numpy as np
import pytest
import torch

from llmrec.backbones.causal_lm import Backbone
from llmrec.engines.torch.likelihood import score_candidates
from llmrec.engines.torch.trie_loss import TrieLoss
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import NO_TARGET, ItemTokens, semantic_id_tokens, text_tokens, unique_id_tokens
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.nn.item_table import ItemTable
from llmrec.prompting.collators import Collator
from llmrec.prompting.packing import PackingCollator
from tests.tiny import random_item_tokens, tiny_backbone, tiny_tokenizer

TITLES = ["ab", "abc", "abd", "b", "ba", "c", "ab"]  # two of the same title


def items_of(form: str, backbone: Backbone) -> ItemTokens:
    base = backbone.base_vocab_size
    if form == "text":
        return text_tokens(TITLES, tiny_tokenizer(), base, item_ids=TITLES)
    if form == "unique_id":
        return unique_id_tokens(9, base)
    return random_item_tokens(9, levels=3, codebook_size=3, base_vocab_size=base)


def model_of(form: str, family: str = "llama") -> tuple[Backbone, ItemTokens]:
    backbone = tiny_backbone(family)
    tokens = items_of(form, backbone)
    if tokens.num_rows:
        backbone.add_item_table(ItemTable(tokens.row_levels, backbone.dim, norm=backbone.embedding_norm))
    return backbone.eval(), tokens


@torch.no_grad()
def by_hand(
    backbone: Backbone, hidden: torch.Tensor, tokens: ItemTokens, items: list[int], seen: np.ndarray | None = None
) -> float:
    """-log p, token by token, over the tokens that continue an item of the catalogue, or of those that are seen."""
    seen = np.ones(tokens.num_items, bool) if seen is None else seen
    sequences = [tokens[item].tolist() for item in np.flatnonzero(seen)]
    logits, total, place = backbone.logits(hidden), 0.0, 0
    for item in items:
        for depth, token in enumerate(tokens[item].tolist()):
            begun = tokens[item].tolist()[:depth]
            children = sorted({s[depth] for s in sequences if s[:depth] == begun and len(s) > depth} | {token})
            total -= float(logits[place, token] - logits[place, children].logsumexp(0))
            place += 1
    return total


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("form", ["text", "unique_id", "semantic_id"])
def test_the_loss_is_that_of_brute_force(form, family):
    backbone, tokens = model_of(form, family)
    items = [3, 0, 5, 6, 6, 1]
    targets = torch.tensor(np.concatenate([tokens[item] for item in items]).astype(np.int64))
    hidden = torch.randn(len(targets), backbone.dim)
    loss = TrieLoss(tokens, TokenTrie.from_item_tokens(tokens))(backbone, hidden, targets)
    assert float(loss.detach()) == pytest.approx(by_hand(backbone, hidden, tokens, items), rel=1e-5)


@pytest.mark.parametrize("form", ["text", "unique_id", "semantic_id"])
def test_children_that_lead_to_unseen_items_alone_are_left_out_unless_they_are_the_answer(form):
    backbone, tokens = model_of(form)
    seen = np.arange(tokens.num_items) % 3 != 1  # without items 1, 4 and 7
    items = [3, 0, 5, 6, 6, 1]  # the last one is unseen: an alignment example
    targets = torch.tensor(np.concatenate([tokens[item] for item in items]).astype(np.int64))
    hidden = torch.randn(len(targets), backbone.dim)
    trie = TokenTrie.from_item_tokens(tokens)
    loss = TrieLoss(tokens, trie, seen)(backbone, hidden, targets)
    assert float(loss.detach()) == pytest.approx(by_hand(backbone, hidden, tokens, items, seen), rel=1e-5)
    assert float(loss.detach()) < float(TrieLoss(tokens, trie)(backbone, hidden, targets).detach())


def test_a_code_that_only_unseen_items_have_gets_no_gradient():
    backbone = tiny_backbone("llama")
    codes = SemanticIDs(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32), (2, 2))
    tokens = semantic_id_tokens(codes, backbone.base_vocab_size)
    table = ItemTable(tokens.row_levels, backbone.dim, norm=1.0)
    backbone.add_item_table(table)
    targets = torch.tensor(np.concatenate([tokens[0], tokens[1]]).astype(np.int64))
    for seen, rows in (([1, 1, 0, 0], [False, False, True, True]), ([1, 1, 0, 1], [True, True, True, True])):
        loss = TrieLoss(tokens, TokenTrie.from_item_tokens(tokens), np.array(seen, bool))
        (gradient,) = torch.autograd.grad(loss(backbone, torch.randn(4, backbone.dim), targets), table.weight)
        assert gradient.any(dim=1).tolist() == rows, "the first code of items 2 and 3 competes if one of them is seen"


@pytest.mark.parametrize("collate", [Collator(0), PackingCollator(share_prefixes=True)])
@pytest.mark.parametrize("form", ["text", "unique_id", "semantic_id"])
def test_the_loss_of_a_batch_is_the_score_the_decoder_gives_its_answers(form, collate):
    backbone, tokens = model_of(form)
    trie = TokenTrie.from_item_tokens(tokens)
    prompts = [np.arange(5, 15), np.arange(5, 18), np.array([40, 41])]
    items = [4, 2, 6]
    rows = []
    for prompt, item in zip(prompts, items, strict=True):
        ids = np.concatenate([prompt, tokens[item]]).astype(np.int32)
        labels = np.where(np.arange(len(ids)) < len(prompt), NO_TARGET, ids).astype(np.int64)
        rows.append({"input_ids": ids, "labels": labels})
    with torch.no_grad():
        loss = TrieLoss(tokens, trie)(backbone, *backbone.labelled_states(collate(rows)))
    scores = score_candidates(backbone, tokens, prompts, np.array(items)[:, None], softmax_scope="trie", trie=trie)
    assert float(loss) == pytest.approx(-float(scores.sum()), rel=1e-4)


def test_unique_ids_have_the_loss_of_the_rule_level():
    backbone, tokens = model_of("unique_id")
    targets = torch.tensor(tokens.sequences[[2, 7, 7], 0].astype(np.int64))
    hidden = torch.randn(3, backbone.dim)
    trie = TrieLoss(tokens, TokenTrie.from_item_tokens(tokens))(backbone, hidden, targets, label_smoothing=0.1)
    level = backbone.loss(hidden, targets, scope="level", label_smoothing=0.1)
    torch.testing.assert_close(trie, level)


def test_a_catalogue_of_one_item_leaves_nothing_to_learn():
    backbone, _ = model_of("text")
    tokens = text_tokens(["ab"], tiny_tokenizer(), backbone.base_vocab_size, item_ids=["ab"])
    hidden = torch.randn(tokens.max_length, backbone.dim, requires_grad=True)
    targets = torch.tensor(tokens[0].astype(np.int64))
    assert float(TrieLoss(tokens, TokenTrie.from_item_tokens(tokens))(backbone, hidden, targets).detach()) == 0.0


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_logits_of_named_tokens_are_those_of_all_tokens(family):
    backbone, tokens = model_of("semantic_id", family)
    named = torch.tensor([0, 7, 299, *sorted(tokens[0].tolist())])
    hidden = torch.randn(4, backbone.dim)
    torch.testing.assert_close(backbone.token_logits(hidden, named), backbone.logits(hidden)[:, named])
