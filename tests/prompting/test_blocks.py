"""Histories cut so that their prompts fill whole blocks of a cache: the most items that do, and nothing lost where none do."""

import numpy as np
import pytest

from tests.prompting.test_history_step import (  # noqa: F401  (fixtures)
    NUM_ITEMS,
    PROMPTS,
    codes,
    encoder_of,
    titles,
)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("form", ["codes", "titles"])
def test_the_most_of_the_latest_items_that_fill_whole_blocks_are_shown(smollm2_tokenizer, request, form, prompt):
    encoder = encoder_of(smollm2_tokenizer, request.getfixturevalue(form), prompt, step=1)
    history, block = np.random.default_rng(0).integers(NUM_ITEMS, size=40), 8
    whole = {shown: encoder.encode_with_spans(history[40 - shown :]) for shown in range(1, 41)}
    filling = [shown for shown, found in whole.items() if len(found.input_ids) % block == 0]
    assert filling or form == "codes"  # four tokens an item and its comma never meet the end of a block of eight here
    most = max(filling, default=40)
    encoder.block_tokens = block
    found = encoder.encode_with_spans(history)
    assert len(found.item_spans) == most
    assert found.input_ids.tolist() == whole[most].input_ids.tolist()


def test_a_history_that_never_fills_a_block_is_shown_whole(smollm2_tokenizer, codes):  # noqa: F811
    encoder = encoder_of(smollm2_tokenizer, codes, step=1)
    expected = encoder.encode([1, 2, 3])  # 10 tokens
    encoder.block_tokens = 32
    assert encoder.encode([1, 2, 3]).tolist() == expected.tolist()
    assert len(encoder.encode(np.arange(30))) == 64  # of 91, which 21 items fill
