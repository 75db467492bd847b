"""A form that a model fills in: whatever the model says, what stands there is of the lists."""

import numpy as np
import pytest
import torch

from llmrec.engines.forms import Form, Options

TITLES = [
    "Star Wars",
    "Star Trek: Generations",
    "Star Trek",
    "Fargo",
    "Fargo",
    "<|im_end|>",
    "Babe: Pig in\nthe City",
    "E.T.",
]


def random_logits(vocab_size: int, seed: int):
    """A model that says something else about every text, always the same about one."""

    def logits(ids):
        generator = torch.Generator().manual_seed(hash((seed, *ids)) % 2**31)
        return torch.randn(vocab_size, generator=generator)

    return logits


@pytest.fixture(scope="module")
def titles(smollm2_tokenizer) -> Options:
    return Options(TITLES, smollm2_tokenizer)


@pytest.fixture(scope="module")
def form(smollm2_tokenizer, titles) -> Form:
    return Form(
        {"like": titles, "count": Options(["1", "12", "2"], smollm2_tokenizer), "undo": None}, "end", smollm2_tokenizer
    )


def test_every_line_is_a_head_with_an_option_of_its_list_and_none_comes_twice(form, titles):
    written = set()
    for seed in range(60):
        lines = form.write([1, 2, seed], random_logits(49152, seed), max_lines=20)
        assert len({(line.head, line.option) for line in lines}) == len(lines) <= 7 + 3 + 1
        for line in lines:
            options = form.heads[line.head]
            assert (options is None) == (line.option is None)
            assert options is None or 0 <= line.option < len(options.texts)
            assert line.log_prob <= 0 and line.stop_log_prob <= 0
        written |= {(line.head, line.option) for line in lines}
    # all that can be written is written by somebody; of two equal titles always the first
    likes = {("like", place) for place in range(len(TITLES)) if place != 4}
    assert written == likes | {("count", place) for place in range(3)} | {("undo", None)}


def test_a_model_that_is_sure_of_a_line_writes_it(form, smollm2_tokenizer):
    wanted = smollm2_tokenizer("like: Star Trek\ncount: 12\nend\n").input_ids

    def sure(ids):
        return torch.nn.functional.one_hot(torch.tensor(wanted[len(ids) - 1]), 49152).float() * 50

    lines = form.write([7], sure, max_lines=5)
    assert [(line.head, line.option) for line in lines] == [("like", 2), ("count", 1)]
    assert lines[0].log_prob > -0.01 and lines[0].stop_log_prob < -10


def test_what_a_model_says_anyway_is_taken_off_the_first_line_alone(smollm2_tokenizer):
    form = Form({"help": None, "undo": None}, "end", smollm2_tokenizer)
    first = {name: smollm2_tokenizer(name).input_ids[0] for name in ("help", "undo", "end")}
    logits = torch.zeros(49152)
    logits[first["help"]], logits[first["undo"]] = 3.0, 2.5
    usual = torch.zeros(49152)
    usual[first["help"]] = 4.0
    assert [line.head for line in form.write([7], lambda ids: logits, 1)] == ["help"]
    assert [line.head for line in form.write([7], lambda ids: logits, 9, usual)] == ["undo", "help"]


def test_a_model_is_asked_only_where_it_can_choose(form, smollm2_tokenizer):
    asked = []

    def logits(ids):
        asked.append(len(ids))
        return torch.zeros(49152)

    only = Form({"like": Options(["One single title of many words"], smollm2_tokenizer)}, "end", smollm2_tokenizer)
    only.write([7], logits, max_lines=1)
    assert asked == [1]


def test_probabilities_of_options_are_those_of_their_tokens_among_the_lists(titles, smollm2_tokenizer):
    logits = random_logits(49152, 3)
    found = titles.log_probs([5, 6], logits)
    assert found[3] == found[4] and np.exp(np.delete(found, 4)).sum() == pytest.approx(1)
    # by hand: every token of "Star Trek", among those that go on with some title
    rows = [smollm2_tokenizer(" " + " ".join(title.split()), split_special_tokens=True).input_ids + smollm2_tokenizer("\n").input_ids
            for title in TITLES]  # fmt: skip
    expected, row = 0.0, rows[2]
    for place in range(len(row)):
        open_tokens = sorted({other[place] for other in rows if len(other) > place and other[:place] == row[:place]})
        if len(open_tokens) > 1:
            scores = logits([5, 6, *row[:place]])[open_tokens].log_softmax(-1)
            expected += float(scores[open_tokens.index(row[place])])
    assert found[2] == pytest.approx(expected, abs=1e-6)
