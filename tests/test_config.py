"""Settings: YAML, overrides, and what is said when they do not fit."""

import resource
from typing import Annotated, Literal

import pytest
from pydantic import Field

from llmrec.config import Settings, load_config, save_config
from llmrec.errors import ConfigError
from llmrec.resources import resource_path
from llmrec.yaml_text import parse_yaml


class Inner(Settings):
    rank: int = 8
    targets: tuple[str, ...] = ()


class Left(Settings):
    side: Literal["left"] = "left"
    size: float = Field(1.0, gt=0)


class Right(Settings):
    side: Literal["right"]
    seed: int = 0


class Outer(Settings):
    data: str
    lora: Inner = Inner()
    text: str | None = None
    names: Literal["all"] | list[str] = "all"
    extra: Inner | None = None
    split: Annotated[Left | Right, Field(discriminator="side")] = Left()
    words: dict[str, str] = Field({})


def test_overrides_stand_above_the_file_and_the_file_above_the_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data: here\nlora: {rank: 4, targets: [q_proj]}\n")
    config = load_config(Outer, path, ["lora.rank=2"])
    assert (config.data, config.lora.rank, config.lora.targets) == ("here", 2, ("q_proj",))


def test_a_block_given_in_part_keeps_the_defaults_of_the_model_around_it(tmp_path):
    class Middle(Settings):
        inner: Inner = Inner()
        width: int = 1

    class Around(Settings):
        middle: Middle = Middle(inner=Inner(rank=64), width=3)
        side: Annotated[Left | Right, Field(discriminator="side")] = Left(size=2.0)

    config = load_config(Around, None, ["middle.inner.targets=[q_proj]", "side.side=right"])
    assert (config.middle.inner.rank, config.middle.inner.targets, config.middle.width) == (64, ("q_proj",), 3)
    assert config.side == Right(side="right"), "another member of a union has defaults of its own"
    assert load_config(Around, None, ["middle.inner.rank=2"]).middle.inner.rank == 2
    (tmp_path / "c.yaml").write_text("middle: {width: 5}")
    assert load_config(Around, tmp_path / "c.yaml").middle == Middle(inner=Inner(rank=64), width=5)


def test_saved_settings_load_to_the_same(tmp_path):
    config = load_config(Outer, None, ["data=x", "lora.targets=[a, b]"])
    save_config(config, tmp_path / "c.yaml")
    assert load_config(Outer, tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data=x", "lora.rnak=2"], r"unknown setting 'lora.rnak'.*Did you mean 'lora.rank'"),
        (["data=x", "lora.rank=many"], r"'lora.rank'.*does not fit"),
        ([], r"'data' has no default and is missing"),
        (["data"], r"expected an override like lora.rank=16, got 'data'"),
        (["data=x", "data.y=1"], r"'data' is a value"),
        (["data=x", "lora.targets=[unclosed"], r"the argument 'lora.targets=\[unclosed' cannot be read.*valid YAML"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_config(Outer, None, overrides)


@pytest.mark.parametrize(("text", "sentence"), [("- a\n- b\n", "got a list"), ("a: [", "cannot be read")])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, sentence):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        load_config(Outer, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="there is none"):
        load_config(Outer, tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("Films a user liked:", "Films a user liked:"),
        ("2024-99-99", "2024-99-99"),
        ("2024-01-02", "2024-01-02"),
        ("123", "123"),
        ("no", "no"),
        ("!!int x", "!!int x"),
        ("[a, b", "[a, b"),
        ("{{ title }}: #1", "{{ title }}: #1"),
        ("'null'", "null"),
        ('"a: b"', "a: b"),
        ("'Alien' or 'Heat'", "'Alien' or 'Heat'"),
        ("null", None),
        ("", None),
    ],
)
def test_a_setting_that_is_a_text_stays_as_it_was_typed(typed, read):
    assert load_config(Outer, None, ["data=x", f"text={typed}"]).text == read


def test_texts_are_told_by_the_type_of_the_setting_and_all_others_are_yaml():
    asked = [
        "data=2024-99-99",
        "words.a=yes: no",
        "names=[a, b]",
        "split.side=right",
        "split.seed=0x10",
        "extra.rank=3",
    ]
    config = load_config(Outer, None, asked)
    assert (config.data, config.words, config.names) == ("2024-99-99", {"a": "yes: no"}, ["a", "b"])
    assert (config.split, config.extra) == (Right(side="right", seed=16), Inner(rank=3))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["lora.rnak=2"], r"unknown setting 'lora.rnak' in the argument 'lora.rnak=2'. Did you mean 'lora.rank'"),
        (["lroa.rank=2"], r"unknown setting 'lroa' in the argument 'lroa.rank=2'. Did you mean 'lora'"),
        (["extra.rnak=2"], r"in the argument 'extra.rnak=2'. Did you mean 'extra.rank'"),
        (["lora.rank=many"], r"'lora.rank' in the argument 'lora.rank=many' does not fit"),
        (["lora={rank: 2.5}"], r"'lora.rank' in the argument 'lora=\{rank: 2.5\}' does not fit"),
        (["names=[a, 2]"], r"'names.1?' in the argument 'names=\[a, 2\]'|'names' in the argument"),
        (["split.side=left", "split.sise=2"], r"unknown setting 'split.sise' in the argument.*'split.si[dz]e'"),
        (["split.side=left", "split.size=.nan"], r"'split.size' in the argument 'split.size=.nan' does not fit"),
        (["split.side=left", "split.size=.inf"], r"finite number"),
    ],
)
def test_a_mistake_on_the_command_line_is_blamed_on_the_argument(tmp_path, overrides, sentence):
    path = tmp_path / "c.yaml"
    path.write_text("data: here\n")
    with pytest.raises(ConfigError, match=sentence):
        load_config(Outer, path, overrides)


def test_a_mistake_in_the_file_is_blamed_on_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data: here\nlora: {rank: many}\n")
    with pytest.raises(ConfigError, match=r"'lora.rank' in '.*c.yaml' does not fit"):
        load_config(Outer, path, ["text=x"])
    path.write_text("data: 2024-01-02\n")
    with pytest.raises(ConfigError, match="it should be words, but YAML reads a date there; put it in quotes"):
        load_config(Outer, path)


BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(12))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: !!int x", "valid YAML"),
        ("a: !!bool x", "what its tag says"),
        ("a: !!timestamp x", "what its tag says"),
        ("a: 2024-99-99", "month must be"),
        ("a: " + "9" * 5000, "digits"),
        ("a: 0x" + "f" * 5000, "too many digits"),
        ("[" * 3000, "more than 10 deep"),
        ("[" * 3000 + "]" * 3000, "more than 10 deep"),
        ("- " * 3000, "more than 10 deep"),
        ("a: &x 1\nb: *x", "alias"),
        (BOMB, "alias"),
        ("a: &a [*a]", "alias"),
        ("? [a]\n: b", "unhashable"),
        ("a: 1\nb: 2\na: 3", "the key 'a' stands twice .line 3"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: \x00", "special characters"),
        ("a" * 50_001, "longer than 50000 characters"),
    ],
)
def test_yaml_of_a_stranger_is_refused_in_a_sentence_before_it_costs_anything(text, sentence):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=sentence) as error:
        parse_yaml(text, "the text")
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_every_shipped_yaml_file_reads_as_pyyaml_itself_reads_it():
    import yaml

    roots = [resource_path(name) for name in ("prompts", "recipes", "eval/tasks")]
    files = [path for root in roots for path in root.rglob("*.yaml")]
    assert len(files) > 10
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert parse_yaml(text, str(path)) == yaml.safe_load(text), path


def test_an_override_below_a_value_is_one_line_whatever_its_name():
    with pytest.raises(ConfigError, match=r"^'text\.\\n' cannot be set: 'text' is a value, not a block of settings\.$"):
        load_config(Outer, None, ["data=d", "text=yes", "text.\n=1"])
    with pytest.raises(ConfigError, match=r"^unknown setting '\\n' in the argument '\\n='\. Did you mean"):
        load_config(Outer, None, ["data=d", "\n="])


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("training.row_lr=0.1", "training.embedding_lr"),
        ("prompt.rows=dense", "prompt.targets"),
        ("items.mention=[text]", "items.prompt_form"),
        ("loss.rule=full", "loss.softmax_scope"),
        ("pictures.max_tokens=64", "images"),
        ("alignment.knowledge=mine", "alignment.generated_texts"),
    ],
)
def test_a_setting_by_its_old_name_is_told_its_new_one(override, name):
    from recipes.next_item import NextItem

    with pytest.raises(ConfigError, match=f"is called '{name}' now"):
        load_config(NextItem, None, ["data=d", "output=o", override])


def test_the_numbers_of_examples_by_their_old_names_are_told_the_new_ones():
    from llmrec.evaluation.click_rows import ClickSettings

    for part in ("train", "valid", "test"):
        with pytest.raises(ConfigError, match=f"is called 'max_{part}_examples' now"):
            load_config(ClickSettings, None, [f"max_{part}_rows=10"])
