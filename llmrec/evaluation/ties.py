"""The same data with events of one moment in another order: what a published order gives away can be seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmrec.data.folder import Data
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError


def with_shuffled_ties(data: Data, seed: int = 0) -> Data:
    """`data`, in memory, with each user's events of one moment in a random order by `seed`; all else stays.

    Raises ConfigError for data without times, or whose file order is gone already.
    """
    events = data.interactions
    if events.times is None:
        raise ConfigError(
            f"'{data.folder}' has no times, so there are no ties in time to order. Prepare it from a file with a timestamp column."
        )
    if (data.card.get("ties") or {}).get("policy") != "file":
        raise ConfigError(
            f"'{data.folder}' was prepared with shuffled ties and lacks the file's order. Prepare it with --ties file."
        )
    users = np.repeat(np.arange(events.num_users), events.lengths)
    sampled = np.random.default_rng(seed).permutation(events.num_events)
    positions = np.lexsort((sampled, events.times, users))
    ratings = None if events.ratings is None else events.ratings[positions]
    shuffled = Interactions(events.indptr, events.items[positions], events.num_items, events.times, ratings)
    result = replace(data, interactions=shuffled, card={**data.card, "ties": {"policy": "shuffle", "seed": seed}})
    result.card["content_hash"] = result.content_hash()
    return result
