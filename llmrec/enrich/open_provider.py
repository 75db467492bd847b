"""The provider that the settings name."""

from __future__ import annotations

from llmrec.enrich.settings import EnrichSettings
from llmrec.errors import ConfigError
from llmrec.text_models.providers import Provider


def open_provider(settings: EnrichSettings) -> Provider:
    """Loads the model, or the address of a server. ConfigError for settings that contradict each other."""
    if settings.provider != "openai" and settings.base_url:
        raise ConfigError(
            "a server's URL was given, but the provider is not openai. Take --provider openai, or leave it out."
        )
    if settings.provider == "openai":
        from llmrec.text_models.openai import HttpProvider

        return HttpProvider(
            settings.model,
            settings.base_url,
            api_key_variable=settings.api_key_variable,
            timeout=settings.timeout,
            concurrency=settings.batch_size or 8,
        )
    loading = {"weights": settings.weights, "revision": settings.revision, "dtype": settings.dtype}
    if settings.provider == "vllm":
        from llmrec.text_models.vllm import VllmProvider

        return VllmProvider(settings.model, **loading, batch_size=settings.batch_size or 256)
    from llmrec.text_models.transformers import TransformersProvider

    return TransformersProvider(settings.model, **loading, device=settings.device, batch_size=settings.batch_size or 64)
