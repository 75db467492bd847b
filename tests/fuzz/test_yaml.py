"""YAML by anybody: configs of all recipes, prompts, tasks, and settings on the command line."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.config import load_config
from llmrec.enrich.settings import EnrichSettings
from llmrec.evaluation.tasks import CandidatesTask, ClicksTask, RankingTask, load_any_task
from llmrec.prompting.templates import load_prompt
from llmrec.resources import resource_path
from llmrec.setting_types import known_keys
from tests.fuzz.conftest import fuzzed
from tests.fuzz.outcome import loads_or_says_why
from tests.recipes.running import load_recipe

SETTINGS = {
    "next_item": load_recipe("next_item").NextItem,
    "soft_tokens": load_recipe("soft_tokens").SoftTokensRecipe,
    "ease": load_recipe("ease").Ease,
    "enrich": EnrichSettings,
    "task": RankingTask,
    "candidates": CandidatesTask,
    "clicks": ClicksTask,
}
FILES = {
    **{
        name: sorted((resource_path("recipes") / "configs" / name).glob("*.yaml"))
        for name in ("next_item", "soft_tokens", "ease")
    },
    "task": sorted(resource_path("eval/tasks").glob("*.yaml")),
    "prompt": sorted(resource_path("prompts").glob("*/*.yaml")),
}
TEXTS = [(kind, path.read_text(encoding="utf-8")) for kind, paths in FILES.items() for path in paths]
NASTY = [
    "", "null", "~", "yes", "no", "0", "-1", "1e999", ".nan", ".inf", "9" * 5000, "0x" + "f" * 3000, "2024-99-99", "2024-01-02",
    "!!int x", "!!bool x", "!!float x", "!!timestamp x", "!!binary x", "!!binary eA==", "!!set {a, b}", "!!omap [a: 1]", "!!str 5",
    "!!python/object/apply:os.system [ls]", "[", "]", "{", "}", "[" * 3000, "{a: " * 2000, "- " * 50, "&a [*a]", "*a", "<<: {data: x}",
    "? [a]\n: b", "|\n  x", ">\n  x", "'", '"', "\t", "\x00", "\ufeff", "\ufdd0", "\U0001f3ac", "\ud800", "1:1:1:1", "1_000", "0o17",
    "{{ item }}", "{% for x in history %}", "{% for item in history %}{{ item }}{% endfor %}", "{{ item.__class__ }}", "{{", "%}",
    "---", "...", "a: 1", "a: 1\na: 2", "- a\n- b", "#", ": ", "key: [a, {b: c}]", "=", "a=b", "data.x=1", "x" * 60_000,
]  # fmt: skip


@st.composite
def texts(draw) -> tuple[str, str]:
    """A shipped file with a few places changed, and which kind of file it is."""
    kind, text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        new = draw(st.sampled_from(NASTY) | st.text(max_size=20))
        how = draw(st.sampled_from(["insert", "delete", "value", "line", "indent"]))
        if how == "insert":
            text = text[:place] + new + text[place:]
        elif how == "delete":
            text = text[:place] + text[place + draw(st.integers(1, 40)) :]
        else:
            lines = text.split("\n")
            number = draw(st.integers(0, len(lines) - 1))
            key, colon, _ = lines[number].partition(": ")
            changed = {"value": f"{key}{colon}{new}", "line": f"{new}\n{lines[number]}", "indent": " " + lines[number]}
            lines[number] = changed[how]
            text = "\n".join(lines)
    return kind, text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("yaml")


@given(instance=texts(), model=st.sampled_from(sorted(SETTINGS)), own=st.booleans())
@fuzzed(0.15)
def test_a_yaml_file_of_anybody_is_read_or_refused_in_a_sentence(folder, instance, model, own):
    kind, text = instance
    path = folder / "file.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "prompt":
            loads_or_says_why(lambda: load_prompt(path))
        elif kind == "task" and own:
            loads_or_says_why(lambda: load_any_task(path))
        else:
            settings = SETTINGS[kind if own else model]
            loads_or_says_why(lambda: load_config(settings, path, ["data=d", "output=o"] if kind != "task" else []))


@st.composite
def overrides(draw) -> tuple[str, list[str]]:
    """Settings as they may be typed, most of them of keys that there are."""
    model = draw(st.sampled_from(sorted(SETTINGS)))
    known = st.sampled_from(known_keys(SETTINGS[model]))
    values = st.sampled_from(NASTY) | st.text(max_size=30) | st.integers().map(str) | st.floats().map(str)
    asked = []
    for _ in range(draw(st.integers(1, 3))):
        key = draw(known | st.tuples(known, st.text(max_size=5)).map(".".join) | st.text(max_size=12))
        asked.append(key + draw(st.sampled_from(["=", "=", "=", "=", "", "=="])) + draw(values))
    return model, asked


@given(instance=overrides(), complete=st.booleans())
@fuzzed(0.15)
def test_settings_as_anybody_types_them_are_taken_or_refused_in_a_sentence(instance, complete):
    model, asked = instance
    needed = {"enrich": ["model=m", "prompt=p"], "task": ["name=n", "version=1", "metrics=[recall]", "ks=[1]"]}
    given_anyway = needed.get(model, ["data=d", "output=o"]) if complete else []
    loads_or_says_why(lambda: load_config(SETTINGS[model], None, [*given_anyway, *asked]))
