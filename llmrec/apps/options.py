"""Options that several commands take, and how a run is opened by them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.recommender import Recommender
    from llmrec.text_models.settings import TextModelSettings

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or the model folder in it.")]
History = Annotated[
    list[str] | None, typer.Option("--history", help="An item id; repeat it, oldest first. None: a new user.")
]
Instruction = Annotated[str | None, typer.Option(help="A wish in words, where the run's prompt takes one.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default the accelerator where there is one.")
]
Rule = Annotated[
    str | None,
    typer.Option(
        "--softmax-scope",
        help="The tokens that the softmax is over: vocabulary (all tokens), level (the item tokens of the level), trie (the "
        "tokens that continue an item). Default: as trained.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine", help="Who reads the model: torch, or vllm (see docs/serving.md for when to choose which)."
    ),
]
TextModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|FOLDER",
        help="Who writes: a model folder, a wheel's or hub's name; of a server, what it calls the model. Default: what the run was "
        "trained from, all layers, untuned.",
    ),
]
Wishes = Annotated[
    str,
    typer.Option(
        help="Who reads messages: rules; both (rules, and a language model for words they do not know); or model."
    ),
]
Provider = Annotated[str, typer.Option(help="transformers, vllm, or openai: any compatible server.")]
BaseUrl = Annotated[
    str | None, typer.Option(help="Of the server, such as http://localhost:8000/v1; its key: $OPENAI_API_KEY.")
]


def _refuse_language_model(value: str | None) -> None:
    if value is not None:
        raise ConfigError("--language-model is called --model now.")


OldTextModelName = Annotated[str | None, typer.Option("--language-model", hidden=True, callback=_refuse_language_model)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True)
class Decoder:
    """How the model of a run is opened; the options of a command by `grouped`."""

    num_beams: Annotated[
        int | None,
        typer.Option(
            help="Beams of the search; more are slower and closer to exact. Default: 20, and 4 for grounding.", min=1
        ),
    ] = None
    decoding: Annotated[
        str, typer.Option(help="For runs of the text form: trie, or grounding (free text, then the nearest titles).")
    ] = "trie"
    softmax_scope: Rule = None
    engine: Engine = "torch"
    device: Device = None

    def open(self, run: Path, *, wishes: str = "rules") -> Recommender:
        """The recommender of a run, on the accelerator where there is one and no device is named."""
        from llmrec.serving.asked import Source

        recommender = Source(
            run, self.device, self.num_beams, self.decoding, self.softmax_scope, engine=self.engine
        ).open()
        recommender.wishes = wishes
        return recommender


def check_wishes(wishes: str, language_model: TextModelSettings | None) -> None:
    """Raises ConfigError where nobody reads messages in that way, or not with this language model."""
    from llmrec.conversation.model_readers import checked_wishes

    if checked_wishes(wishes) != "rules" and language_model is not None and language_model.provider != "transformers":
        raise ConfigError(
            f"--wishes {wishes} has a language model choose among the catalogue's own values, which only --provider transformers can; "
            f"--provider {language_model.provider} was given. Leave out --wishes, and the rules read messages."
        )


def as_overrides(given: dict[str, str | int | None]) -> list[str]:
    """Options that were given as overrides of settings, so that a model called 'null' or 'a: b' stays a name."""
    quoted = {key: "'" + str(value).replace("'", "''") + "'" if isinstance(value, str) else value
              for key, value in given.items() if value is not None}  # fmt: skip
    return [f"{key}={value}" for key, value in quoted.items()]


def text_model_settings(model: str | None, provider: str, base_url: str | None) -> TextModelSettings | None:
    """Which language model writes; None for the run's own.

    Raises ConfigError for a provider or a server without the model's name, or a provider that is none.
    """
    from llmrec.config import load_config
    from llmrec.text_models.settings import TextModelSettings

    if model is not None:
        given = {"model": model, "provider": provider, "base_url": base_url}
        return load_config(TextModelSettings, None, as_overrides(given))
    if provider != "transformers" or base_url is not None:
        raise ConfigError("--provider and --base-url say who runs a model; name the model, too: --model NAME.")
    return None
