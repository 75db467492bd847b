"""Every baseline by its name, and those that every run is compared with. No torch, until one that is trained is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llmrec.baselines.baseline import Baseline, DoesNotFit
from llmrec.baselines.ease_r import EaseR, LowRankEaseR
from llmrec.baselines.ials import Ials
from llmrec.baselines.item_knn import ItemKnn
from llmrec.baselines.markov import Markov
from llmrec.baselines.popularity import Popularity
from llmrec.baselines.text_neighbours import TextNeighbours
from llmrec.config import load_config
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError

# Those without a training loop, which a table compares with a run.
STANDARD: tuple[type[Baseline], ...] = (Popularity, Markov, EaseR, LowRankEaseR)
WITHOUT_TORCH: tuple[type[Baseline], ...] = (*STANDARD, ItemKnn, Ials, TextNeighbours)
TRAINED = ("sasrec", "gru4rec", "bert4rec")
NAMES = (*(kind.name for kind in WITHOUT_TORCH), *TRAINED)


def baseline_type(name: str) -> type[Baseline]:
    """The baseline of this name. Raises ConfigError where there is none."""
    if name == "sasrec":
        from llmrec.baselines.sasrec import SasRecRecommender  # these three bring torch with them

        return SasRecRecommender
    if name == "gru4rec":
        from llmrec.baselines.gru4rec import Gru4RecRecommender

        return Gru4RecRecommender
    if name == "bert4rec":
        from llmrec.baselines.bert4rec import Bert4RecRecommender

        return Bert4RecRecommender
    for kind in WITHOUT_TORCH:
        if kind.name == name:
            return kind
    raise ConfigError(
        f"there is no baseline '{name}' of the next item (there are: {', '.join(NAMES)}; tasks of clicks, such as `--task clicks`, "
        "have others)."
    )


def make_baseline(name: str, overrides: Sequence[str] = (), catalog: Catalog | None = None) -> Baseline:
    """A baseline by its name, with settings such as "dim=64" in place of defaults, not yet fitted.

    catalog: what a baseline that compares the items' words reads; it cannot be fitted without.

    Raises ConfigError for a name that there is not, and for a setting that it does not have or that does not fit.
    """
    kind = baseline_type(name)
    made = kind.from_settings(load_config(kind.Settings, None, overrides))
    if isinstance(made, TextNeighbours) and catalog is not None:
        made.read(catalog)
    return made


def fit_baselines(interactions: Interactions) -> list[Baseline]:
    """STANDARD with default settings, in its order. One that does not fit into memory is left out, with a line on standard error."""
    fitted = []
    for kind in STANDARD:
        try:
            fitted.append(kind().fitted(interactions))
        except DoesNotFit as problem:
            print(f"{kind.name} is left out: {problem}", file=sys.stderr)
    return fitted
