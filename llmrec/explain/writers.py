"""Who writes about a recommender's titles: its own language model or another one, loaded when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from llmrec.data.catalog import Catalog
from llmrec.errors import RequestError
from llmrec.explain.evidence import Evidence
from llmrec.explain.words import (
    NOT_SUITING,
    Explanation,
    explain,
    measured_alone,
    own_language_model,
    without_language_model,
)
from llmrec.text_models.open_model import check_text_model, open_text_model
from llmrec.text_models.protocol import TextModel
from llmrec.text_models.settings import TextModelSettings

Writer = str | TextModelSettings | TextModel | None  # a name, settings, or a model that is loaded; None: the run's own


class Writers:
    """The language models of one recommender. folder: the model folder of its run, None where it has none; device: of the models."""

    def __init__(self, folder: Path | None, device: str | None) -> None:
        self.folder, self.device = folder, device
        self._loaded: dict[TextModelSettings, TextModel] = {}  # the latest one asked for

    def model(self, named: str | TextModelSettings | None, on_load: Callable[[], None]) -> TextModel:
        """See `Recommender.text_model`."""
        settings = _settings(named) or own_language_model(self.folder)
        if settings not in self._loaded:
            on_load()
            device = settings.device or self.device
            self._loaded = {settings: open_text_model(settings.model_copy(update={"device": device}))}
        return self._loaded[settings]

    def explain(self, catalog: Catalog, history: Sequence[str], evidence: Evidence, writer: Writer) -> Explanation:
        """See `Recommender.explain_evidence`."""
        if not isinstance(writer, TextModel):
            settings = _settings(writer)
            if settings is not None:
                check_text_model(settings)  # a wrong name is said whether or not the model is asked
        if not evidence.suits:
            return measured_alone(evidence, NOT_SUITING)
        if writer is None and (why := without_language_model(self.folder)):
            return measured_alone(evidence, why[0].upper() + why[1:])
        model = writer if isinstance(writer, TextModel) else self.model(writer, lambda: None)
        return explain(catalog, history, evidence, model)


def _settings(named: object) -> TextModelSettings | None:
    """Of a name or settings; None for the run's own model."""
    if named is None or isinstance(named, TextModelSettings):
        return named
    if not isinstance(named, str):
        raise RequestError(f"a language model is named by a text, or None for the run's own, but it is {named!r:.60}.")
    return TextModelSettings(model=named)
