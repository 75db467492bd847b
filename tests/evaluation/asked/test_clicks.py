"""A model that was never trained here, asked about clicks: by the words of its own vocabulary, with and without examples."""

import numpy as np
import pytest
import torch

from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import PADDING, ClickExamples, ClickSplit
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError, ModelError
from llmrec.evaluation.asked.clicks import open_asked_clicks
from llmrec.evaluation.asked.local import title_encoder
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.evaluation.asked.shots import click_shots, shot_rows
from llmrec.evaluation.cost import measure_cost
from llmrec.prompting.templates import load_prompt

MODEL = "SmolLM2-135M-Instruct"
TITLES = ["Alien", "Brazil", "Casablanca", "Dune", "E.T.", "Fargo", "Gandhi", "Heat", "Insomnia", "Jaws"]
CATALOG = Catalog.from_rows([{"item_id": f"m{item}", "title": title} for item, title in enumerate(TITLES)])


def rows_of(examples):
    """(user, history, item, label) each."""
    histories = np.full((len(examples), 4), PADDING, np.int32)
    for row, (_, history, _, _) in enumerate(examples):
        histories[row, 4 - len(history) :] = history
    users, _, items, labels = (np.array(column, dtype=object) for column in zip(*examples, strict=True))
    zeros = np.zeros(len(examples), np.int32)
    return ClickExamples(
        users.astype(np.int32), items.astype(np.int32), labels.astype(bool), histories, zeros, zeros.copy(), None
    )


TRAIN = rows_of(
    [(user, [user % 10, (user + 3) % 10], (user + 5) % 10, user % 2 == 0) for user in range(20)]
    + [(30, [1, 2], 4, True), (31, [2], 5, False)]
)
VALID = rows_of([(31, [2, 5], 6, True), (31, [2, 5], 7, False)])
TEST = rows_of(
    [(30, [1, 2, 3], 7, True), (30, [1, 2, 3], 8, False), (40, [], 5, True), (40, [], 9, False), (41, [5], 1, True)]
)


def split_of(test=TEST, train=TRAIN):
    return ClickSplit(train, VALID, test, {}, Interactions(np.zeros(51, np.int64), np.zeros(0, np.int32), 10))


@pytest.fixture(scope="module")
def data():
    events = Interactions(np.zeros(51, np.int64), np.zeros(0, np.int32), 10)
    return Data(CATALOG, events, Features(10), [f"u{user}" for user in range(50)])


def settings(**changed):
    return AskedSettings(**{"model": MODEL, "dtype": "float32", "device": "cpu"} | changed)


@pytest.fixture(scope="module")
def zero_shot(data):
    return open_asked_clicks(settings(), data, split_of())


def plain_probability(scorer, row):
    """By transformers' own forward pass over the row's prompt alone."""
    model = scorer.model
    history = TEST.histories[row][TEST.histories[row] != PADDING]
    ids = model.encoder.encode(history, candidate=int(TEST.items[row])).astype(np.int64)
    with torch.no_grad():
        logits = model.backbone.causal_lm(torch.from_numpy(ids[None])).logits[0, -1]
    yes, no = (model.backbone.tokenizer.encode(word, add_special_tokens=False) for word in ("Yes", "No"))
    assert len(yes) == len(no) == 1
    return float(torch.softmax(logits[[yes[0], no[0]]], dim=0)[0])


@pytest.mark.parametrize("shots", [0, 4])
def test_the_score_is_the_softmax_of_the_two_words_after_the_prompt_of_each_row_alone(data, zero_shot, shots):
    scorer = open_asked_clicks(settings(shots=shots), data, split_of()) if shots else zero_shot
    scores = scorer.score_rows(TEST)
    assert scores.dtype == np.float32
    assert scores == pytest.approx([plain_probability(scorer, row) for row in range(5)], abs=2e-4)
    card = scorer.card
    assert (card["layers"], card["adaptation"]) == ("30 of 30 layers", "few-shot" if shots else "zero-shot")
    assert card["shots"] == shots and card["scored_by"] == "probability of the two answer words"
    text = scorer.model.backbone.tokenizer.decode(scorer.model.encoder.encode([1, 2], candidate=3))
    assert text.count("<|im_start|>system") == 1 and text.count("Candidate: ") == shots + 1
    assert (
        text.count("<|im_start|>assistant\nYes<|im_end|>")
        == text.count("<|im_start|>assistant\nNo<|im_end|>")
        == shots // 2
    )
    assert text.endswith("Candidate: Dune\nAnswer (Yes or No):<|im_end|>\n<|im_start|>assistant\n")


def test_what_a_row_costs_counts_the_tokens_of_its_prompt(zero_shot):
    cost = measure_cost(zero_shot, TEST, seconds=0.1, single=1)
    first_two = [zero_shot.model.encoder.encode([1, 2, 3], candidate=item) for item in (7, 8)]
    assert cost.tokens_per_prompt == np.mean([len(ids) for ids in first_two])


def test_examples_are_of_users_who_are_never_asked_and_depend_on_nothing_of_the_test_rows():
    chosen = shot_rows(split_of(), 4, seed=3)
    assert len(set(chosen.users.tolist())) == 4 and chosen.labels.sum() == 2
    assert not set(chosen.users.tolist()) & {30, 31, 40, 41}
    for test in (
        rows_of([(30, [9, 8], 1, False), (40, [7], 2, True), (41, [5], 1, True)]),
        TEST.take(np.arange(5)[::-1]),
    ):
        again = shot_rows(split_of(test), 4, seed=3)  # other targets, histories and labels of the same users
        assert again.users.tolist() == chosen.users.tolist() and again.items.tolist() == chosen.items.tolist()
    seeds = {tuple(shot_rows(split_of(), 4, seed=seed).users.tolist()) for seed in range(5)}
    assert len(seeds) > 1
    assert shot_rows(split_of(), 3, seed=0).labels.sum() == 2
    assert len(shot_rows(split_of(), 0, seed=0)) == 0


def test_a_split_whose_test_users_are_those_of_the_training_rows_has_no_examples():
    with pytest.raises(ConfigError, match=r"4 users who are not asked.*recbench/clicks"):
        shot_rows(split_of(test=TRAIN), 4, seed=0)


def test_a_question_in_one_text_has_its_examples_as_paragraphs(smollm2_tokenizer):
    prompt = load_prompt("click/recbench_plain")
    shots = click_shots(shot_rows(split_of(), 2, seed=0), prompt)
    encoder = title_encoder(smollm2_tokenizer, CATALOG, prompt, settings(), shots, max_positions=2048)
    text = smollm2_tokenizer.decode(encoder.encode([1, 2], candidate=3))
    first, second, question = text.split("\n\n")
    assert {first.rsplit(":", 1)[1], second.rsplit(":", 1)[1]} == {" Yes", " No"}
    assert question.endswith("1. Brazil\n2. Casablanca\nCandidate: Dune\nAnswer (Yes or No):")
    assert all(part.startswith("A recommender system") for part in (first, second, question))


def test_what_a_row_is_asked_alone_is_what_it_is_asked_among_others(zero_shot):
    scorer = zero_shot
    together = scorer.score_rows(TEST)
    alone = [scorer.score_rows(TEST.take(np.array([row])))[0] for row in range(len(TEST))]
    assert together == pytest.approx(alone, abs=1e-5)
    flipped = rows_of([(30, [1, 2, 3], 7, False), (30, [1, 2, 3], 8, True), (40, [], 5, False)])
    assert scorer.score_rows(flipped) == pytest.approx(together[:3], abs=1e-5)  # labels are never read


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"prompt": "next_item/chat"}, ConfigError, "belongs to the task next_item"),
        ({"model": "/no/such/folder"}, ModelError, "/no/such/folder"),
        ({"base_url": "http://localhost:1/v1"}, ConfigError, "the provider is not openai"),
        ({"max_tokens": 60}, ConfigError, "max_tokens must be at least"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(data, changed, error, says):
    with pytest.raises(error, match=says):
        open_asked_clicks(settings(**changed), data, split_of())
