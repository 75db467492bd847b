"""Which titles a written text names that it was not given: a text about some items must not recommend others."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.catalog import Catalog

MAX_TITLE_WORDS = 12  # of a longer title, the first that many have to be quoted to be noticed
_WORD = re.compile(r"\w[\w'’]*[!?.]?|&")
_CAPITAL_INSIDE = re.compile(r"(?<=[\w,;] )[^\W\da-z_][\w'’]{3,}")  # a word that no sentence begins with
_QUOTED = re.compile(r'"([^"\n]{2,120})"|“([^”\n]{2,120})”|«([^»\n]{2,120})»')
_ARTICLE_BEFORE, _ARTICLE_AFTER = r"^(The|A|An) ", r", (The|A|An)$"
_BRACKETS, _POINTS = r"(\s*\([^()]*\))+$", r"\s*[.!?]+$"  # a year, a title in another language


def hallucinated_titles(text: str, catalog: Catalog, given: Sequence[str], facts: str = "") -> list[str]:
    """The names in `text` that are titles of the catalogue but none of `given`, and quoted names that stand in no fact.

    A title counts as it is written in the catalogue, upper and lower case included, with or without its article and what stands in
    brackets. A title of one word ("Heat") counts in quotation marks, and with a capital inside a sentence where no fact has the word
    (genres, names). A quoted name counts where it has two words or more, begins with a capital and stands neither in `given` nor
    in `facts`.
    """
    forms = {form for title in given for form in _forms(title)}
    keys = {_forms(title)[-1] for title in given}
    quoted = [name.strip(" ,.;:!?") for match in _QUOTED.finditer(text) for name in match.groups() if name]
    known = facts.casefold()
    single = [word for word in _CAPITAL_INSIDE.findall(text) if word.casefold() not in known]
    named = _catalog_titles([*_word_runs(text), *quoted, *single], catalog)
    named += [name for name in quoted if " " in name and name[:1].isupper() and name.casefold() not in known]
    named = [name for name in dict.fromkeys(named) if _forms(name)[-1] not in keys and _stands_alone(name, text, forms)]
    return [name for name in named if not any(name != longer and name in longer for longer in named)]


def _stands_alone(name: str, text: str, forms: set[str]) -> bool:
    """Whether the text says the name anywhere but inside a longer title that was given ("First Contact" in a "Star Trek")."""
    for longer in sorted((form for form in forms if name in form), key=len, reverse=True):
        text = text.replace(longer, "")
    return name in text


def _word_runs(text: str) -> list[str]:
    """Every run of two words or more that begins with a capital or a figure, as it stands in the text."""
    runs = []
    for line in text.splitlines():
        words = list(_WORD.finditer(line))
        for start, first in enumerate(words):
            if not (first[0][0].isupper() or first[0][0].isdecimal()):
                continue
            for last in words[start + 1 : start + MAX_TITLE_WORDS]:
                runs.append(line[first.start() : last.end()].rstrip(".!?"))
    return runs


def _catalog_titles(names: list[str], catalog: Catalog) -> list[str]:
    """Those of `names` that are titles of the catalogue but for article, brackets and full stops."""
    if not names:
        return []
    wanted = {key: name for name in reversed(names) for key in _forms(name)[-1:]}
    keys = catalog.table["title"]
    for pattern in (_BRACKETS, _POINTS, _ARTICLE_AFTER, _ARTICLE_BEFORE):
        keys = pc.replace_substring_regex(keys, pattern, "")
    there = pc.filter(keys, pc.is_in(keys, value_set=pa.array(list(wanted), pa.string())))
    return [wanted[key] for key in dict.fromkeys(there.to_pylist())]


def _forms(title: str) -> list[str]:
    """The title, without what stands in brackets after it, with the article before it, bare; by the last, titles are compared."""
    short = re.sub(_POINTS, "", re.sub(_BRACKETS, "", title))
    bare = re.sub(_ARTICLE_BEFORE, "", re.sub(_ARTICLE_AFTER, "", short))
    after = re.search(_ARTICLE_AFTER, short)
    return [form for form in (title, short, f"{after[1]} {bare}" if after else short, bare) if form.strip()] or [title]
