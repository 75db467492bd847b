"""The tiny chat model of the tests of enrichment."""

from tests.enrich.conftest import film_folder, films, tiny_chat_model  # noqa: F401
