"""llmrec makes a (multimodal) language model into a recommender."""

__version__ = "0.1.0"
