"""Where the tokens of images stand: by hand, and in packed rows as in rows of their own."""

import numpy as np
import torch

from llmrec.nn.image_tokens import ImageTokens
from llmrec.prompting.packing import place_rows, seen_until

# item 0 has an image of 2 x 3 tokens, item 1 none, item 2 one of 3 x 1
GRIDS = np.array([[2, 3], [0, 0], [3, 1]])
OFFSETS = np.array([0, 6, 6, 9])
IMAGES = {0: list(range(6)), 2: [6, 7, 8]}
WORD = [-1]


def tokens(has_grid: bool = True) -> ImageTokens:
    vectors = torch.randn(9, 4)
    return ImageTokens(vectors, OFFSETS, GRIDS, deep=torch.stack([vectors + 1, vectors + 2]), has_grid=has_grid)


def positions(row: list[int]) -> torch.Tensor:
    return tokens().rotary_positions(torch.tensor([row]), torch.arange(len(row))[None])[:, 0]


def test_a_image_spreads_over_height_and_width_and_takes_the_larger_of_both():
    time, height, width = positions([*WORD, *WORD, *IMAGES[0], *WORD, *IMAGES[2], *WORD]).tolist()
    assert time == [0, 1] + [2] * 6 + [2 + 3] + [6] * 3 + [6 + 3]
    assert height == [0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7, 8, 9]
    assert width == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 6, 6, 9]


def test_words_stand_at_one_number_on_all_axes():
    assert positions(WORD * 4).tolist() == [[0, 1, 2, 3]] * 3


def test_a_prompt_read_in_two_parts_has_the_positions_of_one_even_where_the_cut_is_in_a_image():
    row = [*WORD, *IMAGES[0], *WORD, *WORD]
    module = tokens()
    for cut in range(1, len(row)):
        first, rest = torch.tensor([row[:cut]]), torch.tensor([row[cut:]])
        moved = int(module.moves(first))
        base = torch.arange(cut, len(row))[None] + moved
        assert torch.equal(module.rotary_positions(rest, base)[:, 0], positions(row)[:, cut:])


def test_packed_rows_have_the_positions_of_separate_ones():
    trunk = [-1, *IMAGES[0], -2, -3, -4, *IMAGES[2], -5]
    rows = [[*trunk, -6, *IMAGES[2], -7], [*trunk, -8, -9], [-9, *IMAGES[2], -3], [*trunk, *IMAGES[0], -1]]
    places, length = place_rows([np.array(row, np.int32) + 100 for row in rows], min_shared=8)
    assert length < sum(map(len, rows))  # the trunk stands once
    packed, depth = np.zeros(length, np.int64), np.zeros(length, np.int64)
    for row, at in zip(rows, places, strict=True):
        packed[at], depth[at] = row, np.arange(len(row))
    until = torch.from_numpy(seen_until(depth))[None]
    found = tokens().rotary_positions(torch.from_numpy(packed)[None], torch.from_numpy(depth)[None], until)[:, 0]
    for row, at in zip(rows, places, strict=True):
        assert torch.equal(found[:, torch.from_numpy(at)], positions(row))


def test_vectors_come_by_index_and_are_no_part_of_a_checkpoint():
    module = tokens()
    at = torch.tensor([3, 8])
    assert torch.equal(module.rows(at), module.vectors[at])
    assert torch.equal(torch.stack(module.deep_rows(at)), torch.stack([module.vectors[at] + 1, module.vectors[at] + 2]))
    assert not module.state_dict() and not list(module.parameters())
