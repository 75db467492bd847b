"""Settings: YAML, overrides, and what is said when they do not fit."""

import pytest

from llmrec.config import Settings, load_config, save_config
from llmrec.errors import ConfigError


class Inner(Settings):
    rank: int = 8
    targets: tuple[str, ...] = ()


class Outer(Settings):
    data: str
    lora: Inner = Inner()


def test_overrides_stand_above_the_file_and_the_file_above_the_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data: here\nlora: {rank: 4, targets: [q_proj]}\n")
    config = load_config(Outer, path, ["lora.rank=2"])
    assert (config.data, config.lora.rank, config.lora.targets) == ("here", 2, ("q_proj",))


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
        (["data=[unclosed"], r"expected a YAML value"),
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
