"""Prompts are files: prompts/<task>/<name>.yaml, checked when they are read, rendered with item slots.

Three kinds:

| kind | what is in the file | what the model reads |
|---|---|---|
| bare | nothing more | a start token, then the items' tokens one after another |
| plain | `template` | the rendered text, as the tokenizer starts a text |
| chat | `messages` | the messages through the tokenizer's own chat template, up to the opening of the answer |

Templates are a small part of Jinja, and a prompt file may come from somebody else (artifacts carry theirs), so everything
outside that part is refused when the file is read, before anything runs: text, `{{ instruction }}`,
`{% for item in history %}` (not nested), `{{ item }}` (the item's tokens), `{{ item.field }}` (a column of the catalog),
`{{ loop.index }}` and its kind, `{% if %}`, comparisons, and the filters of FILTERS. That leaves no way to call, to repeat
without end or to grow a text by more than history x template.

A prompt of the task `enrich` is a chat about one item, `{{ item.field }}` outside of any loop, or about one user's history. Its last
message may be the assistant's: the beginning of the answer, which the model goes on from.
A prompt of the task `choose` lists some items besides, `{% for item in candidates %}`, and asks which of them comes next.
A prompt of the task `click` asks whether a user would like one item, `{{ candidate }}` or `{{ candidate.field }}`, and names its two
answers, the one for liked first.

What an expression writes is data. It is marked as such, and the encoder never reads markup or item tokens in it.
The answer of every other task is the tokens of the target item (of `align`: or a text), which start right after the prompt.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import jinja2
import yaml
from jinja2 import nodes
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from rapidfuzz import process

from llmrec.data.reading import shortened
from llmrec.errors import ConfigError
from llmrec.files import content_hash
from llmrec.resources import resource_path
from llmrec.yaml_text import parse_yaml, read_yaml, yaml_kind

VARIABLES = ("history", "instruction")
ENRICH = "enrich"  # the task whose prompts ask for texts about items and users
CLICK = "click"  # the task whose prompts ask whether a user would like an item
CHOOSE = "choose"  # the task whose prompts ask which of some numbered items comes next
_LOOPS = ("history", "candidates")  # what a text may go through, item by item
_SUBJECTS = {ENRICH: "item", CLICK: "candidate"}  # the item such a prompt is about, by what its text calls it
FILTERS = ("capitalize", "default", "first", "last", "length", "lower", "title", "trim", "truncate", "upper")
LOOP_ATTRIBUTES = ("first", "index", "index0", "last", "length", "revindex", "revindex0")
MAX_RENDERED_CHARACTERS = 2_000_000

# Unicode's own "not a character" code points: no text that is exchanged may hold them, so nothing can forge a mark.
VALUE_OPEN, VALUE_CLOSE, ITEM_SLOT = "\ufdd0", "\ufdd1", "\ufdd2"
_MARKS = {ord(mark): None for mark in (VALUE_OPEN, VALUE_CLOSE, ITEM_SLOT)}

_PLAIN_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.CondExpr, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Keyword, nodes.For, nodes.Getattr, nodes.Filter,
)  # fmt: skip


class Message(BaseModel):
    """One turn of a chat prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Prompt(BaseModel):
    """One prompt file. `variables` and `fields` declare what the templates use; too few and too many are both errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    task: str
    kind: Literal["bare", "plain", "chat"]
    description: str = ""
    variables: tuple[str, ...] = ("history",)
    fields: tuple[str, ...] = ()
    template: str | None = None
    messages: tuple[Message, ...] | None = None
    answers: tuple[str, str] | None = None  # of a click prompt: liked, not liked; as they would follow the prompt

    @model_validator(mode="after")
    def _check(self) -> Prompt:
        if (self.template is not None) != (self.kind == "plain") or bool(self.messages) != (self.kind == "chat"):
            raise ValueError("a plain prompt has a `template`, a chat prompt `messages`, a bare prompt neither")
        if self.kind == "bare":
            used, fields = {"history"}, set()
        else:
            if any(mark in source for source in self.sources for mark in (VALUE_OPEN, VALUE_CLOSE, ITEM_SLOT)):
                raise ValueError("the text holds characters that Unicode reserves as no characters")
            used, fields = _checked_names(self.sources, _SUBJECTS.get(self.task))
        if self.task == ENRICH:
            if self.kind != "chat" or len(used & {"history", "item"}) != 1:
                raise ValueError("a prompt of the task enrich is a chat about either {{ item.title }} or the history")
        elif "history" not in used:
            raise ValueError("the text does not use the history; it needs a loop {% for item in history %}")
        if (self.task == CLICK) != (self.answers is not None) or (self.task == CLICK and "candidate" not in used):
            raise ValueError(
                "a prompt of the task click asks about {{ candidate.title }} and names two `answers`; no other does"
            )
        if (self.task == CHOOSE) != ("candidates" in used):
            raise ValueError("a prompt of the task choose lists the items {% for item in candidates %}; no other does")
        for what, declared, found in (("variables", self.variables, used), ("fields", self.fields, fields)):
            if set(declared) != found:
                raise ValueError(f"it declares the {what} {sorted(declared)}, but the text uses {sorted(found)}")
        return self

    @property
    def sources(self) -> list[str]:
        """The Jinja texts of the file."""
        return [message.content for message in self.messages or ()] if self.template is None else [self.template]

    @property
    def hash(self) -> str:
        """16 hexadecimal characters that depend on everything the model reads (not on the description)."""
        left_out = {"description"} if self.answers is not None else {"description", "answers"}
        return content_hash(json.dumps(self.model_dump(exclude=left_out), sort_keys=True))

    def to_yaml(self) -> str:
        """The prompt as a file that `read_prompt` gives back with the same hash."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)

    @cached_property
    def _templates(self) -> list[jinja2.Template]:
        return [_ENVIRONMENT.from_string(source) for source in self.sources]

    def render(
        self,
        history: Sequence[PromptItem] | None,
        instruction: str | None = None,
        item: PromptItem | None = None,
        candidate: PromptItem | None = None,
        candidates: Sequence[PromptItem] | None = None,
    ) -> list[str]:
        """The texts of `sources` with values between VALUE_OPEN and VALUE_CLOSE and items as ITEM_SLOT position ITEM_SLOT.

        item: what a prompt about one item is about; its history is None. candidate: the item that a click prompt asks about;
        candidates: those that a prompt of the task choose lists.

        Raises ConfigError when a variable is missing, is given but not used, or the template fails on these values.
        """
        items = None if history is None else list(history)
        values = {"history": items, "instruction": instruction, "item": item, "candidate": candidate}
        values["candidates"] = None if candidates is None else list(candidates)
        values = {name: value for name, value in values.items() if value is not None}
        for missing in set(self.variables) - set(values):
            raise ConfigError(f"prompt '{self.task}/{self.name}' uses {{{{ {missing} }}}}, but none was given.")
        for stray in set(values) - set(self.variables):
            raise ConfigError(
                f"prompt '{self.task}/{self.name}' has no {{{{ {stray} }}}}, so the {stray} that was given would be lost. "
                "Leave it out or choose another prompt."
            )
        try:
            return [_bounded(template.generate(values)) for template in self._templates]
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise ConfigError(f"prompt '{self.task}/{self.name}' cannot be rendered: {error}") from error


class PromptItem:
    """An item of the history inside a template: {{ item }} is its slot, {{ item.field }} a text of the catalog."""

    def __init__(self, position: int, fields: dict[str, str]) -> None:
        self._position = position
        self._fields = fields

    def __getitem__(self, field: str) -> str:
        return self._fields[field]

    def __str__(self) -> str:
        raise TypeError("an item can only be written as {{ item }} or {{ item.field }}")


def list_prompts() -> list[str]:
    """The names of the shipped prompts, such as "next_item/bare"."""
    root = resource_path("prompts")
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.glob("*/*.yaml"))


def load_prompt(name: str | Path) -> Prompt:
    """A shipped prompt by name ("next_item/bare") or any prompt by the path of its .yaml file.

    Raises ConfigError for an unknown name, an unreadable file, and for everything `read_prompt` refuses.
    """
    shipped = list_prompts()
    if str(name) in shipped:
        path = resource_path("prompts") / f"{name}.yaml"
    elif Path(name).suffix in (".yaml", ".yml"):
        path = Path(name)
    else:
        nearest = process.extractOne(str(name)[:200], shipped)
        raise ConfigError(
            f"there is no prompt '{name}'; the nearest is '{nearest[0] if nearest else None}'. Shipped prompts: "
            f"{', '.join(shipped)}. A prompt of your own is named by the path of its .yaml file."
        )
    return _prompt_of(read_yaml(path, f"the prompt file '{path}'"), str(path))


def read_prompt(text: str, where: str) -> Prompt:
    """The prompt in a YAML text. `where` names it in errors.

    Raises ConfigError for YAML that is broken, too long, deep or aliased, for unknown or missing keys, and for templates
    that use anything outside the part of Jinja this module describes. Nothing of the text is executed.
    """
    return _prompt_of(parse_yaml(text, f"the prompt '{where}'"), where)


def _prompt_of(value: object, where: str) -> Prompt:
    if not isinstance(value, dict):
        raise ConfigError(
            f"the prompt '{where}' should hold keys such as name, task and kind, but is a {type(value).__name__}."
        )
    try:
        return Prompt.model_validate(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in problem["loc"])[:100]
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "string_type" and isinstance(problem["input"], bool | int | float | datetime.date):
            kind = yaml_kind(problem["input"])
            message = f'words should stand here, but what YAML reads without quotes is {kind}; quote them, such as ["Yes", "No"]'
        raise ConfigError(
            f"the prompt '{where}' cannot be used: {key + ': ' if key else ''}{shortened(message, 500)}."
        ) from error


def _checked_names(sources: Sequence[str], subject: str | None) -> tuple[set[str], set[str]]:
    """The variables and the item fields the texts use. ValueError for anything outside the allowed part of Jinja.

    subject: the variable that is an item, if there is one; it may be read outside of a loop.
    """
    variables, fields = set(), set()
    for source in sources:
        try:
            tree = _ENVIRONMENT.parse(source)
            _check_node(tree, None, variables, fields, subject)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"line {error.lineno} of a template is no Jinja: {error.message}") from error
        except RecursionError as error:
            raise ValueError("a template is nested too deeply") from error
    return variables, fields


def _check_node(node: nodes.Node, item: str | None, variables: set[str], fields: set[str], subject: str | None) -> None:
    """Checks one node and those below it. item: what the loop around it calls its item, None outside a loop."""
    if not isinstance(node, _PLAIN_NODES):
        raise ValueError(
            f"line {node.lineno} uses {type(node).__name__.lower()}, which prompts may not: only loops over the history, "
            "conditions, {{ item }}, {{ item.field }}, {{ instruction }} and simple filters"
        )
    if isinstance(node, nodes.For):
        simple = isinstance(node.iter, nodes.Name) and node.iter.name in _LOOPS and isinstance(node.target, nodes.Name)
        taken = (*VARIABLES, *_LOOPS, "candidate", "loop")
        if item is not None or not simple or node.recursive or node.target.name in taken:
            raise ValueError(
                f"line {node.lineno}: a loop has to read `for item in history` and may not stand in a loop"
            )
        variables.add(node.iter.name)
        for child in (*node.body, *node.else_, *([node.test] if node.test else [])):
            _check_node(child, node.target.name, variables, fields, subject)
        return
    if isinstance(node, nodes.Name) and node.name == subject and node.name != item:
        variables.add(node.name)
        return
    if isinstance(node, nodes.Getattr):
        owner = node.node.name if isinstance(node.node, nodes.Name) else None
        if owner is not None and owner == subject and owner != item:
            variables.add(owner)
            item = owner
        if item is not None and owner == "loop" and node.attr in LOOP_ATTRIBUTES:
            return
        if item is None or owner != item or node.attr.startswith("_"):
            raise ValueError(f"line {node.lineno} reads the attribute '{node.attr[:40]}', which prompts may not")
        fields.add(node.attr)
        return
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        raise ValueError(f"line {node.lineno} uses the filter '{node.name[:40]}'; prompts may use {', '.join(FILTERS)}")
    if isinstance(node, nodes.Name) and node.name != item:
        if node.name not in VARIABLES:
            raise ValueError(f"line {node.lineno} uses {{{{ {node.name[:40]} }}}}; prompts know {', '.join(VARIABLES)}")
        variables.add(node.name)
    for child in node.iter_child_nodes():
        _check_node(child, item, variables, fields, subject)


def _mark(value: object) -> str:
    """What an expression wrote, marked as an item slot or as data."""
    if isinstance(value, PromptItem):
        return f"{ITEM_SLOT}{value._position}{ITEM_SLOT}"
    if isinstance(value, jinja2.Undefined) or not isinstance(value, str | int):
        # StrictUndefined says itself which name is missing.
        raise TypeError(str(value) if isinstance(value, jinja2.Undefined) else f"it writes a {type(value).__name__}")
    return as_value(str(value))


def as_value(text: str) -> str:
    """A text between the marks of data, which it cannot forge."""
    return VALUE_OPEN + text.translate(_MARKS) + VALUE_CLOSE


def _bounded(parts: Iterator[str]) -> str:
    written, size = [], 0
    for part in parts:
        size += len(part)
        if size > MAX_RENDERED_CHARACTERS:
            raise ValueError(f"it writes more than {MAX_RENDERED_CHARACTERS} characters")
        written.append(part)
    return "".join(written)


_ENVIRONMENT = SandboxedEnvironment(
    undefined=jinja2.StrictUndefined, finalize=_mark, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)
# `range`, `lipsum` and the rest: no prompt needs them, and calls are refused anyway.
_ENVIRONMENT.globals.clear()
