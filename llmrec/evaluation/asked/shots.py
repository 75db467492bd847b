"""Few-shot: solved examples of users who are never asked, chosen once by seed and the same for every question.

Letters: N rows, k examples.
"""

from __future__ import annotations

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import PADDING, ClickExamples, ClickSplit
from llmrec.errors import ConfigError
from llmrec.evaluation.asked.local import FEW_SHOT, ZERO_SHOT
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.prompting.encoder import Shot
from llmrec.prompting.templates import Prompt


def shot_rows(split: ClickSplit, k: int, seed: int) -> ClickExamples:
    """k training rows, half of them liked (one more of an odd number), each of another user, none of a user who is asked.

    Users of the validation and the test rows count as asked; of the others, rows with a history are taken where there are enough.
    Raises ConfigError where there are too few.
    """
    train = split.train
    asked = np.union1d(split.valid.users, split.test.users)
    order = np.random.default_rng(seed).permutation(len(train))
    order = order[~np.isin(train.users[order], asked)]
    with_history = (train.histories[order] != PADDING).any(axis=1)
    order = np.concatenate([order[with_history], order[~with_history]])
    chosen: list[int] = []
    taken: set[int] = set()
    for label, wanted in ((True, k - k // 2), (False, k // 2)):
        for row in order[train.labels[order] == label].tolist():
            if wanted and (user := int(train.users[row])) not in taken:
                chosen.append(row)
                taken.add(user)
                wanted -= 1
        if wanted:
            raise ConfigError(
                f"{k} examples should be training rows of {k} users who are not asked, half of them liked, but this split has fewer. "
                "Take fewer shots, or a task whose test users are others than those it trains on, such as recbench/clicks."
            )
    return train.take(np.random.default_rng(seed).permutation(np.array(chosen, dtype=np.int64)))


def click_shots(rows: ClickExamples, prompt: Prompt) -> list[Shot]:
    """The rows as solved examples of a click prompt."""
    liked, disliked = prompt.answers
    return [
        Shot(history[history != PADDING], int(item), liked if label else disliked)
        for history, item, label in zip(rows.histories, rows.items, rows.labels, strict=True)
    ]


def shots_card(rows: ClickExamples, catalog: Catalog, seed: int) -> dict:
    """How many examples, by which seed, and which: for reports."""
    examples = [
        {"user": int(user), "item": catalog.item_id(int(item)), "liked": bool(label)}
        for user, item, label in zip(rows.users, rows.items, rows.labels, strict=True)
    ]
    return {"shots": len(rows), "shots_seed": seed, "examples": examples} if examples else {"shots": 0}


def click_question_card(settings: AskedSettings, prompt: Prompt, examples: ClickExamples, catalog: Catalog) -> dict:
    """How a model outside of llmrec's own engine is asked about clicks: for reports."""
    return {
        "adaptation": FEW_SHOT if settings.shots else ZERO_SHOT,
        "form": "text",
        "prompt": f"{prompt.task}/{prompt.name}",
        "prompt_hash": prompt.hash,
        "answers": prompt.answers,
        "max_history": settings.max_history,
        "max_title_tokens": settings.max_title_tokens,
        **shots_card(examples, catalog, settings.seed),
    }
