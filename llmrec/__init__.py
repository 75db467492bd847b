"""llmrec makes a (multimodal) language model into a recommender."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmrec.recommenders.recommender import Recommendation, Recommender

__version__ = "0.1.0"
__all__ = ["Recommendation", "Recommender", "__version__"]


def __getattr__(name: str) -> object:
    # `import llmrec` takes milliseconds and loads no torch; the first use of a class does.
    if name in ("Recommendation", "Recommender"):
        from llmrec.recommenders import recommender

        return getattr(recommender, name)
    raise AttributeError(f"module 'llmrec' has no attribute '{name}'")
