from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from llmrec.apps.grouped import given_options, grouped


@dataclass(frozen=True)
class _Lamp:
    """Two options."""

    colour: Annotated[str, typer.Option(help="Of the light.")] = "white"
    num_bulbs: Annotated[int, typer.Option(min=1)] = 1


def _asked(*arguments: str) -> tuple[str, _Lamp, bool]:
    app, seen = typer.Typer(add_completion=False), []

    @app.command()
    @grouped
    def light(room: str, *, lamp: _Lamp, dim: bool = False) -> None:
        seen.append((room, lamp, dim))

    app(list(arguments), standalone_mode=False)
    return seen[0]


def test_options_of_a_group_come_as_one_value_beside_the_others():
    assert _asked("hall", "--num-bulbs", "3", "--dim") == ("hall", _Lamp("white", 3), True)
    assert _asked("hall") == ("hall", _Lamp(), False)
    with pytest.raises(typer._click.exceptions.BadParameter):  # checked as any option is
        _asked("hall", "--num-bulbs", "0")


def test_given_options_are_those_that_differ_from_their_defaults_as_they_are_typed():
    assert given_options(_Lamp()) == []
    assert given_options(_Lamp("red", 3)) == ["--colour", "--num-bulbs"]
