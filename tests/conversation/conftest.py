"""The tiny chat model of the tests of enrichment."""

from tests.enrich.conftest import tiny_chat_model  # noqa: F401
