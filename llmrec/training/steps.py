"""Trainings that follow one another in one run, each in a folder of its own: which parts one moves, and what it came to.

| schedule | its steps |
|---|---|
| two_step | words: everything but the semantic adapter, on prompts in words alone; then soft: the adapter alone (CoLLM) |
| curriculum, joint | joint: everything at once, with soft tokens from early on or from the start |
| words | words: there is no adapter |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llmrec.backbones.adapters import SEMANTIC_ADAPTER, TrainablePart, trained_state
from llmrec.backbones.causal_lm import Backbone
from llmrec.errors import ArtifactError
from llmrec.files import atomic_file
from llmrec.training.objectives import check_same_parts
from llmrec.training.settings import TrainingSettings

Schedule = Literal["two_step", "curriculum", "joint", "words"]
StepName = Literal["words", "soft", "joint"]
TRAINED = "trained.safetensors"  # stands in the folder of a step that has ended


@dataclass(frozen=True)
class Step:
    """One part of the training, with a folder of its own in the run."""

    name: StepName
    settings: TrainingSettings

    def trains(self, part: TrainablePart) -> bool:
        """Of two steps the first moves everything but the adapter, the second the adapter alone."""
        is_adapter = part.kind in SEMANTIC_ADAPTER
        return {"words": not is_adapter, "soft": is_adapter, "joint": True}[self.name]


def steps_of(schedule: Schedule, first: TrainingSettings, second: TrainingSettings) -> list[Step]:
    """What a schedule consists of. second: settings of the second of two steps."""
    words, soft, joint = Step("words", first), Step("soft", second), Step("joint", first)
    return {"two_step": [words, soft], "words": [words], "joint": [joint], "curriculum": [joint]}[schedule]


def move_only(parts: Sequence[TrainablePart], moves: Callable[[TrainablePart], bool]) -> None:
    """Of all trained parts those for which `moves` holds require a gradient, the others do not."""
    for part in parts:
        for parameter in part.parameters:
            parameter.requires_grad_(moves(part))


def read_finished(folder: Path, backbone: Backbone) -> bool:
    """Puts into the backbone what the step in `folder` came to; False where that has not ended.

    Raises:
        ArtifactError: the file cannot be read, or holds other parameters than those that require a gradient now, or of other shapes.
    """
    if not (folder / TRAINED).exists():
        return False
    try:
        found, trained = load_file(folder / TRAINED, device=str(backbone.device)), trained_state(backbone)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"expected the parameters that a step came to in '{folder / TRAINED}', but it cannot be read ({error}); put the "
            "original back, or start over with --fresh."
        ) from error
    check_same_parts(found, trained, f"'{folder / TRAINED}'")
    for name, tensor in found.items():
        if tensor.shape != trained[name].shape:
            raise ArtifactError(
                f"'{folder / TRAINED}' holds {name} of shape {tuple(tensor.shape)}, but the model's is {tuple(trained[name].shape)}; "
                "give the settings it was made with, or start over with --fresh."
            )
    backbone.load_state_dict(found, strict=False)  # the frozen parameters are not missing
    PartialState().print(f"the step '{folder.name}' is finished")
    return True


def write_finished(folder: Path, backbone: Backbone) -> None:
    """Keeps what the step moved. All processes call it together."""
    if PartialState().is_main_process:
        with atomic_file(folder / TRAINED) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in trained_state(backbone).items()}, temporary)
    PartialState().wait_for_everyone()
