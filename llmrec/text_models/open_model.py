"""The one way to a language model that writes: the model that settings name."""

from __future__ import annotations

from llmrec.backbones.load import resolve
from llmrec.errors import ConfigError
from llmrec.text_models.protocol import TextModel
from llmrec.text_models.settings import TextModelSettings


def open_text_model(settings: TextModelSettings) -> TextModel:
    """Loads the model, or the address of a server.

    Raises ConfigError for settings that contradict each other, ModelError where the name leads to no causal language model.
    """
    check_server(settings)
    if settings.provider == "openai":
        from llmrec.text_models.openai import OpenAIModel

        return OpenAIModel(
            settings.model,
            settings.base_url,
            api_key_variable=settings.api_key_variable,
            timeout=settings.timeout,
            concurrency=settings.batch_size or 8,
        )
    loading = {"weights": settings.weights, "revision": settings.revision, "dtype": settings.dtype}
    if settings.provider == "vllm":
        from llmrec.text_models.vllm import VllmModel

        return VllmModel(settings.model, **loading, batch_size=settings.batch_size or 256)
    from llmrec.text_models.transformers import TransformersModel

    return TransformersModel.load(
        settings.model, **loading, device=settings.device, batch_size=settings.batch_size or 64
    )


def check_text_model(settings: TextModelSettings) -> None:
    """Finds what is wrong with the settings, or a name that leads nowhere, before anything is loaded. Raises as `open_text_model`."""
    check_server(settings)
    if settings.provider == "openai":
        open_text_model(settings)  # which asks nobody
    else:
        resolve(settings.model, weights=settings.weights, revision=settings.revision)


def check_server(settings: TextModelSettings) -> None:
    """Raises ConfigError where a server is named and another provider is asked."""
    if settings.provider != "openai" and settings.base_url:
        raise ConfigError(
            "a server's URL was given, but the provider is not openai. Take --provider openai, or leave it out."
        )
