"""The curriculum: how many rows are read in words at a step, which, and what is left of them."""

from types import SimpleNamespace

import numpy as np
import torch

from llmrec.items.forms import NO_TARGET
from llmrec.prompting.collators import Collator
from llmrec.training.curriculum import Curriculum, without_tokens

FIRST_SOFT = 100


def batch_of(*rows):
    """Rows whose last token is the target."""
    made = []
    for row in rows:
        labels = np.full(len(row), NO_TARGET, dtype=np.int64)
        labels[-1] = row[-1]
        made.append({"input_ids": np.array(row, np.int32), "labels": labels})
    return Collator(0)(made)


def at_step(step, num_steps=10, **settings):
    curriculum = Curriculum(range(FIRST_SOFT, 200), seed=settings.pop("seed", 0), **settings)
    curriculum.on_step_begin(None, SimpleNamespace(global_step=step, max_steps=num_steps), None)
    return curriculum


def test_the_share_of_rows_in_words_falls_from_one_to_nothing():
    curriculum = at_step(0)
    assert [curriculum.share_in_words(step) for step in (0, 2, 5, 9, 10)] == [1.0, 0.8, 0.5, 1 - 0.9, 0.0]
    earlier = at_step(0, until=0.5)
    assert [earlier.share_in_words(step) for step in (0, 1, 2, 5, 9)] == [1.0, 0.8, 0.6, 0.0, 0.0]


def test_a_row_in_words_is_the_row_without_its_soft_tokens():
    batch = batch_of([7, 101, 8, 102, 9], [5, 6], [101, 3])
    words = at_step(0)(batch)
    assert words["input_ids"].tolist() == [[7, 8, 9], [5, 6, 0], [3, 0, 0]]
    assert words["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert words["labels"].tolist() == [[NO_TARGET, NO_TARGET, 9], [NO_TARGET, 6, NO_TARGET], [3, NO_TARGET, NO_TARGET]]


def test_rows_are_as_they_are_before_training_and_at_its_end():
    batch = batch_of([7, 101, 8], [5, 6])
    for curriculum in (Curriculum(range(FIRST_SOFT, 200), seed=0), at_step(10)):
        for name, tensor in curriculum(batch).items():
            torch.testing.assert_close(tensor, batch[name])


def test_half_way_about_half_of_the_rows_are_in_words_others_at_another_step_and_seed():
    rows = [[place, 101, place + 1] for place in range(2, 90)]
    in_words = {
        name: at_step(step, seed=seed)(batch_of(*rows))["attention_mask"].sum(1) == 2
        for name, step, seed in (("once", 5, 0), ("again", 5, 0), ("step", 6, 0), ("seed", 5, 1))
    }
    assert 25 <= int(in_words["once"].sum()) <= 63
    assert (in_words["once"] == in_words["again"]).all()
    assert (in_words["once"] != in_words["step"]).any() and (in_words["once"] != in_words["seed"]).any()


def test_an_example_is_sampled_alike_alone_and_in_any_batch():
    rows = [[place, 101, place + 1] for place in range(2, 30)]
    curriculum = at_step(5)
    together = curriculum(batch_of(*rows))["attention_mask"].sum(1).tolist()
    alone = [int(curriculum(batch_of(row))["attention_mask"].sum()) for row in rows]
    assert together == alone


def test_no_tokens_out_leave_the_batch_as_it_was():
    batch = batch_of([7, 8, 9], [5, 6])
    for name, tensor in without_tokens(batch, torch.zeros(2, 3, dtype=torch.bool)).items():
        torch.testing.assert_close(tensor, batch[name])
