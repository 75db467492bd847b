"""What columns of items hold: words, addresses, vectors, several values in one text, markup of web pages.

Columns are those of a `Catalog`: string or list<string>.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

# RE2, which pyarrow uses. Addresses and the names of image files; a number as programs print it.
_ADDRESS = r"(?i)(?:https?|ftp)://[^\s\"'<>|]+|data:[a-z]+/[^\s\"'<>]+|^\s*(?:www\.|//)\S+$"
_IMAGE_FILE = r"(?i)^\s*[^\s\"']+\.(?:jpe?g|png|gif|webp|bmp|tiff?|avif|svg)\s*$"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_VECTOR = rf"^\s*[\[(]?\s*{_NUMBER}(?:[,;\s]+{_NUMBER}){{3,}}[,;\s]*[\])]?\s*$"
_FEWEST_NUMBERS = 4  # of a vector: three numbers may be a size or a date
_TAGS = ("a|abbr|b|big|blockquote|body|br|center|code|div|em|font|h[1-6]|head|hr|html|i|iframe|img|li|ol|p|pre|s|script|small|span|"
         "strike|strong|style|sub|sup|table|tbody|td|th|thead|tr|tt|u|ul")  # fmt: skip
# `&amp;`, `&#39;`, `<b>`, `</span>`, `<br/>`, `<span id="t">`; not "<3", "a < b" or "List<T>".
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
# Columns that name an item's groups; others are split only where their parts recur.
_GROUPS = re.compile(r"genres?|categor(?:y|ies)|tags?|keywords?|topics?|styles?|moods?")
_NO_GENRES = "(no genres listed)"  # MovieLens's word for none
_LONGEST_PART = 40


def no_words(column: pa.ChunkedArray) -> str | None:
    """ "addresses", "file names" or "vectors" where a column holds such and no words, else None."""
    texts = pc.drop_null(pc.list_flatten(column) if types.is_list(column.type) else column)
    texts = texts.filter(pc.not_equal(pc.utf8_trim_whitespace(texts), ""))
    if not len(texts):
        return None
    if _holds_vectors(column, texts):
        return "vectors"
    # Objects of addresses have names of members and some words in them: {"large": "https://...", "variant": "MAIN"}.
    texts = pc.replace_substring_regex(texts, r'"[^"\\]*":\s*', "")
    rest = pc.replace_substring_regex(texts, _ADDRESS, "")
    of_addresses = pc.less(pc.multiply(pc.utf8_length(rest), 2), pc.utf8_length(texts))
    if pc.mean(of_addresses).as_py() > 0.5:
        return "addresses"
    return "file names" if pc.all(pc.match_substring_regex(texts, _IMAGE_FILE)).as_py() else None


def _holds_vectors(column: pa.ChunkedArray, texts: pa.ChunkedArray) -> bool:
    if not types.is_list(column.type):
        return pc.all(pc.match_substring_regex(texts, _VECTOR)).as_py()
    lengths = [length for length in pc.unique(pc.list_value_length(column)).to_pylist() if length]
    if len(lengths) != 1 or lengths[0] < _FEWEST_NUMBERS:
        return False
    return pc.all(pc.match_substring_regex(texts, rf"^{_NUMBER}$")).as_py()


def image_file(root: Path, name: str) -> Path | None:
    """The file inside `root`, a resolved folder, that an item's image names.

    None where there is none, and where a name can be no file's: an address, a null character in it, too many characters.
    """
    try:
        path = (root / name).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a loop of links
        return None


def split_groups(table: pa.Table) -> pa.Table:
    """The items with columns such as genres = "Action|Comedy" as lists, which a filter can ask for each of."""
    for position, name in enumerate(table.column_names):
        column = table[name]
        if name in ("item_id", "title", "image") or not is_text(column.type):
            continue
        column = column.cast(pa.string())
        if _is_joined(name, column):
            parts = pc.split_pattern(pc.utf8_trim_whitespace(column), "|").to_pylist()
            lists = [
                None if row is None else [p.strip() for p in row if p.strip() not in ("", _NO_GENRES)] for row in parts
            ]
            table = table.set_column(position, name, pa.array(lists, pa.list_(pa.string())))
    return table


def _is_joined(name: str, column: pa.ChunkedArray) -> bool:
    """Whether "|" stands between an item's values: short ones, in a column named like groups, or ones that recur."""
    texts = pc.drop_null(column)
    if not pc.any(pc.match_substring(texts, "|")).as_py():
        return False
    parts = pc.utf8_trim_whitespace(pc.list_flatten(pc.split_pattern(texts, "|")))
    if pc.max(pc.utf8_length(parts)).as_py() > _LONGEST_PART:
        return False
    return _GROUPS.search(name.lower()) is not None or 2 * pc.count_distinct(parts).as_py() <= len(parts)


def without_markup(table: pa.Table) -> pa.Table:
    """The items with `&amp;` as & and without tags such as <b>, in all texts but ids and images."""
    for position, name in enumerate(table.column_names):
        column = table[name]
        if name in ("item_id", "image"):
            continue
        if is_text(column.type):
            texts = [text and plain_of_markup(text) for text in column.to_pylist()]
        elif types.is_list(column.type) and is_text(column.type.value_type):
            texts = [row and [text and plain_of_markup(text) for text in row] for row in column.to_pylist()]
        else:
            continue
        table = table.set_column(position, name, pa.array(texts, column.type))
    return table


def plain_of_markup(text: str) -> str:
    """`Tom &amp; Jerry <b>Soap</b>` -> `Tom & Jerry Soap`. A text that is markup alone stays as it is."""
    if ("<" not in text and "&" not in text) or not (_TAG.search(text) or _ENTITY.search(text)):
        return text
    # Twice: `&amp;amp;` and `&lt;b&gt;` are what pages make of pages.
    return " ".join(_TAG.sub(" ", html.unescape(html.unescape(text))).split()) or text


def is_text(kind: pa.DataType) -> bool:
    """Whether values are texts, in any of Arrow's ways to keep them."""
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
