"""Why a server does not answer: none of these is a mistake in the request."""

from __future__ import annotations

from llmrec.errors import LlmrecError


class BusyError(LlmrecError):
    """Too much waits already. retry_after: seconds until it is worth asking again."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotReadyError(LlmrecError):
    """No model answers at the moment: it is being loaded, or has failed and is being loaded again."""
