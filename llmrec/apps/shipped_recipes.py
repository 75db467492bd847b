"""The recipes, configs and ways to launch them that come with llmrec, by name."""

from __future__ import annotations

from llmrec.resources import resource_path


def recipe_names() -> list[str]:
    """The shipped recipes, by name."""
    return sorted(path.stem for path in resource_path("recipes").glob("*.py"))


def config_names(recipe: str) -> list[str]:
    """The shipped configs of a recipe, by name."""
    return sorted(path.stem for path in (resource_path("recipes") / "configs" / recipe).glob("*.yaml"))


def launch_names() -> list[str]:
    """The shipped configurations of accelerate, by name."""
    return config_names("accelerate")


def nearest_sentence(name: str, known: list[str]) -> str:
    """What to say after "there is no ... NAME": what there is, and which of it comes nearest."""
    from rapidfuzz import process

    nearest = process.extractOne(name[:200], known)
    guess = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"(there are: {', '.join(known) or 'none'}).{guess}"
