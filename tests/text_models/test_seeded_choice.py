"""The next token of a row: by hand, whatever stands next to it."""

import math

import torch

from llmrec.text_models.seeded_choice import Choice, SeededChoice

SCORES = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
PROMPT = torch.tensor([[3]])


def chosen(choice: Choice, ids: torch.Tensor = PROMPT, scores: torch.Tensor = SCORES) -> torch.Tensor:
    return SeededChoice([choice], 1)(ids, scores)[0]


def test_greedily_the_scores_stay_and_are_a_copy():
    found = chosen(Choice())
    assert torch.equal(found, SCORES[0]) and found.data_ptr() != SCORES.data_ptr()


def test_the_penalty_divides_what_speaks_for_a_word_said_and_multiplies_what_speaks_against_it():
    said = torch.tensor([[2, 0, 3, 0]])  # the prompt's own 2 is not the answer's
    assert chosen(Choice(repetition_penalty=2.0), said).tolist() == [1.0, 1.0, 0.0, -2.0]


def test_only_the_nucleus_can_be_sampled():
    # softmax: .644, .237, .087, .032; what stands before the third is .881
    found = [chosen(Choice(1.0, 0.85, seed=seed)) for seed in range(50)]
    assert all(torch.isinf(row).tolist() == [False, False, True, True] for row in found)
    assert {int(row.argmax()) for row in found} == {0, 1}
    assert math.isinf(chosen(Choice(1.0, 1e-6))[1]) and int(chosen(Choice(1.0, 1e-6)).argmax()) == 0


def test_a_draw_is_the_rows_own_and_goes_on_from_token_to_token():
    choices = [Choice(0.7, seed=1), Choice(), Choice(1.5, 0.9, 1.2, seed=2)]
    ids, scores = PROMPT.expand(3, 1), SCORES.expand(3, 4)
    together, alone = SeededChoice(choices, 1), [SeededChoice([choice], 1) for choice in choices]
    seen = []
    for _ in range(3):
        rows = together(ids, scores)
        assert torch.equal(rows, torch.cat([each(ids[:1], scores[:1]) for each in alone]))
        seen.append(rows[0].tolist())
    assert seen[0] != seen[1] != seen[2]
