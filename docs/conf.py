"""The site that `make docs` builds into build/docs: these pages, and the API reference of the public objects (api.md).

Nothing is fetched, neither while it is built nor while it is read: furo brings its own style and scripts, and no other project's
pages are asked for links.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from llmrec.version import __version__  # noqa: E402

project, author, release = "llmrec", "the llmrec authors", __version__
project_copyright = "the llmrec authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = f"llmrec {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
smartquotes = False  # "cpu" is code as often as words
highlight_language = "text"  # most blocks are commands and drawings

myst_heading_anchors = 4  # a link to a heading is checked against these
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
default_role = "code"  # docstrings write names in `single` backticks
nitpicky = True
# Types of other libraries have no pages here, nor have our own that no page is about; what a page points to has to be there.
nitpick_ignore_regex = [(r"py:.*", r".*")]


def as_restructured_text(app, what, name, obj, options, lines: list[str]) -> None:
    """A docstring of ours in place: its stars and bars are no markup, what is set off by four spaces, and tables, stay as they are."""
    found, block = [], []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
            continue
        if block:
            found += [*_block(block), ""]
            block = []
    lines[:] = found


def _block(block: list[str]) -> list[str]:
    if block[0].startswith(("    ", "|")):
        return ["::", "", *("    " + line for line in block)]
    # names in backticks stay, over ends of lines too
    parts = re.split(r"(``?[^`]+``?)", "\n".join(block))
    escaped = [part if part.startswith("`") else re.sub(r"([*|]|_\b)", r"\\\1", part) for part in parts]
    return re.sub(r"(?<=`)(`*)(?=s\b)", r"\1\\ ", "".join(escaped)).split("\n")  # `Filter`s


def setup(app) -> None:
    """Ahead of napoleon (priority 500), which reads the sections Args, Returns and Raises."""
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
