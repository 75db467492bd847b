"""llmrec makes a (multimodal) language model into a recommender."""

from typing import TYPE_CHECKING

from llmrec.version import __version__

if TYPE_CHECKING:
    from llmrec.recommender import Recommendation, Recommender

__all__ = ["Recommendation", "Recommender", "__version__"]


def __getattr__(name: str) -> object:
    # `import llmrec` takes milliseconds and loads no torch; the first use of a class does.
    if name in ("Recommendation", "Recommender"):
        from llmrec import recommender

        return getattr(recommender, name)
    raise AttributeError(f"module 'llmrec' has no attribute '{name}'")
