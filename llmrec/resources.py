"""Where the prompts, recipes and evaluation tasks lie: next to the package in a checkout, inside it in a wheel."""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
_WHEEL = Path(__file__).resolve().parent / "shipped"


def resource_path(name: str) -> Path:
    """The folder of shipped files called `name`: "prompts", "recipes" or "eval/tasks"."""
    packaged = _WHEEL / name
    return packaged if packaged.is_dir() else _CHECKOUT / name
