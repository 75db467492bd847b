"""Prompt files: strict both ways, and nothing that somebody else writes into one is executed."""

import time

import pytest

from llmrec.errors import ConfigError
from llmrec.prompting.templates import PromptItem, list_prompts, load_prompt, read_prompt


def prompt_text(template: str, *, variables="[history]", fields="[]") -> str:
    body = "".join(f"  {line}\n" for line in template.split("\n"))
    return f"name: x\ntask: next_item\nkind: plain\nvariables: {variables}\nfields: {fields}\ntemplate: |\n{body}"


@pytest.mark.parametrize("name", list_prompts())
def test_shipped_prompts_come_back_from_their_own_yaml_with_the_same_hash(name):
    prompt = load_prompt(name)
    assert f"{prompt.task}/{prompt.name}" == name
    assert read_prompt(prompt.to_yaml(), "again").hash == prompt.hash


def test_the_hash_follows_what_the_model_reads_and_not_the_description():
    text = prompt_text("{% for item in history %}{{ item }}{% endfor %}")
    prompt = read_prompt(text, "x")
    assert read_prompt(text + "description: more\n", "x").hash == prompt.hash
    assert read_prompt(text.replace("{{ item }}", "{{ item }}."), "x").hash != prompt.hash


@pytest.mark.parametrize(
    ("template", "attack"),
    [
        ("{{ ''.__class__.__mro__ }}", "attribute '__mro__'"),
        ("{% for item in history %}{{ item.__class__ }}{% endfor %}", "attribute '__class__'"),
        ("{% for item in history %}{{ item._fields }}{% endfor %}", "attribute '_fields'"),
        ("{% for item in history %}{{ item['title'] }}{% endfor %}", "getitem"),
        ("{% for i in range(10**9) %}x{% endfor %}", "for item in history"),
        ("{% for a in history %}{% for b in history %}{{ b }}{% endfor %}{% endfor %}", "may not stand in a loop"),
        ("{% for item in history recursive %}{{ item }}{% endfor %}", "for item in history"),
        ("{{ range(10**9) }}", "call"),
        ("{{ history.append(1) }}", "call"),
        ("{{ 10**10**10 }}", "pow"),
        ("{{ 'a' * 10**10 }}", "mul"),
        ("{{ instruction ~ instruction }}", "concat"),
        ("{% set x = history %}{{ x }}", "assign"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "macro"),
        ("{% include '/etc/passwd' %}", "include"),
        ("{% import 'os' as os %}", "import"),
        ("{{ instruction | attr('__class__') }}", "filter 'attr'"),
        ("{{ instruction | center(10000000000) }}", "filter 'center'"),
        ("{{ history | map(attribute='__class__') }}", "filter 'map'"),
        ("{{ lipsum }}", "lipsum"),
        ("{{ config }}", "config"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested too deeply|no Jinja"),
        ("{{ " + "9" * 5000 + " }}", "cannot be used"),
        ("{% for item in history %}", "no Jinja"),
        ("\ufdd20\ufdd2", "reserves as no characters"),
    ],
)
def test_hostile_templates_are_refused_in_words_before_anything_runs(template, attack):
    began = time.process_time()
    with pytest.raises(ConfigError, match=attack) as error:
        read_prompt(prompt_text(template), "hostile.yaml")
    assert "hostile.yaml" in str(error.value) and len(str(error.value)) < 500
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n- b", "is a list"),
        ("name: [", "not valid YAML"),
        ("[" * 20_000, "more than 10 deep"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("x" * 60_000, "longer than"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        (prompt_text("x", variables="[]") + "temperature: 1\n", "temperature: Extra inputs"),
        (prompt_text("x", variables="[]"), "does not use the history"),
        ("name: x\ntask: t\nkind: chat\ntemplate: x\n", "a chat prompt `messages`"),
        ("name: x\ntask: t\nkind: other\n", "kind: "),
    ],
)
def test_files_that_are_no_prompts_are_refused_in_words(text, sentence):
    began = time.process_time()
    with pytest.raises(ConfigError, match=sentence) as error:
        read_prompt(text, "broken.yaml")
    assert len(str(error.value)) < 500
    assert time.process_time() - began < 5


def test_declared_and_used_names_must_be_the_same():
    loop = "{% for item in history %}{{ item.brand }}{% endfor %}"
    assert read_prompt(prompt_text(loop, fields="[brand]"), "x").fields == ("brand",)
    with pytest.raises(ConfigError, match=r"declares the fields \[\], but the text uses \['brand'\]"):
        read_prompt(prompt_text(loop), "x")
    with pytest.raises(ConfigError, match=r"declares the variables \['history', 'instruction'\]"):
        read_prompt(prompt_text(loop, variables="[history, instruction]", fields="[brand]"), "x")


def test_a_missing_variable_and_a_stray_one_both_fail():
    with_it = read_prompt(
        prompt_text("{{ instruction }}{% if history %}{% endif %}", variables="[history, instruction]"), "x"
    )
    without = read_prompt(prompt_text("{% for item in history %}{{ item }}{% endfor %}"), "x")
    with pytest.raises(ConfigError, match=r"uses \{\{ instruction \}\}, but none was given"):
        with_it.render([])
    with pytest.raises(ConfigError, match=r"has no \{\{ instruction \}\}"):
        without.render([], instruction="cheap ones")


def test_items_can_only_be_written_as_slots_or_fields():
    prompt = read_prompt(prompt_text("{% for item in history %}{{ item | upper }}{% endfor %}"), "x")
    with pytest.raises(ConfigError, match="cannot be rendered: an item can only be written as"):
        prompt.render([PromptItem(0, {})])
    prompt = read_prompt(prompt_text("{{ history }}"), "x")
    with pytest.raises(ConfigError, match="it writes a list"):
        prompt.render([])


def test_a_rendering_that_grows_too_long_is_stopped():
    prompt = read_prompt(prompt_text("{% for item in history %}" + "x" * 40_000 + "{% endfor %}"), "x")
    with pytest.raises(ConfigError, match="writes more than"):
        prompt.render([PromptItem(0, {})] * 1000)


def test_an_unknown_prompt_names_the_nearest():
    with pytest.raises(ConfigError, match="the nearest is 'next_item/bare'"):
        load_prompt("next_item/bear")
    with pytest.raises(ConfigError, match="cannot read the prompt file"):
        load_prompt("nowhere.yaml")


LOOP = "{% for item in history %}{{ item }}{% endfor %}{{ candidate }}"
CLICK = f"name: n\ntask: click\nkind: plain\nvariables: [history, candidate]\ntemplate: '{LOOP}'\nanswers: "


@pytest.mark.parametrize(
    ("answers", "kind"),
    [("[Yes, No]", "boolean"), ('["Yes", No]', "boolean"), ("[1, 0]", "number"), ("[1.5, x]", "number"),
     ("[2020-01-01, x]", "date")],
)  # fmt: skip
def test_answers_without_quotes_that_yaml_takes_for_something_else_are_to_be_quoted(answers, kind):
    with pytest.raises(
        ConfigError, match=rf"answers\.[01]: words .* is a {kind}.*; quote them, such as \[\"Yes\", \"No\"\]\.$"
    ):
        read_prompt(CLICK + answers, "mine.yaml")


def test_answers_in_quotes_are_words():
    assert read_prompt(CLICK + '["Yes", "No"]', "mine.yaml").answers == ("Yes", "No")
    assert read_prompt(CLICK + "[likes it, hates it]", "mine.yaml").answers == ("likes it", "hates it")
    with pytest.raises(ConfigError, match=r"answers\.1: Field required\.$"):
        read_prompt(CLICK + "['Yes']", "mine.yaml")


def test_a_sentence_about_a_long_prompt_is_short():
    text = f"name: long\ntask: align\nkind: plain\ndescription: d\nvariables: [{'9' * 5000}]\ntext: x\n"
    with pytest.raises(ConfigError) as refused:
        read_prompt(text, "long.yaml")
    assert len(str(refused.value)) < 1000
