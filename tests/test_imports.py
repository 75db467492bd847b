"""The shape of the imports, read from the source: no circle anywhere, and heavy libraries in their places alone."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted([*ROOT.glob("llmrec/**/*.py"), *ROOT.glob("recipes/*.py")])
}


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, inside functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in SOURCES else node.module for name in names}
    return found


IMPORTS = {name: imports_of(path) for name, path in SOURCES.items()}


def test_every_import_of_ours_is_a_module_that_is_there():
    missing = {(name, other) for name, others in IMPORTS.items() for other in others
               if other.split(".")[0] in ("llmrec", "recipes") and other not in SOURCES}  # fmt: skip
    assert not missing


def test_no_circle_of_imports_anywhere():
    left = {name: {other for other in others if other in SOURCES} for name, others in IMPORTS.items()}
    while leaves := {name for name, others in left.items() if not others}:
        left = {name: others - leaves for name, others in left.items() if name not in leaves}
    assert not left, f"these modules import one another, or what does: {sorted(left)}"


def test_vllm_is_imported_in_its_two_places_alone():
    users = {name for name, others in IMPORTS.items() if any(other.split(".")[0] == "vllm" for other in others)}
    allowed = ("llmrec.engines.vllm", "llmrec.text_models.vllm")
    assert users and all(name.startswith(allowed) for name in users)


def test_a_command_is_imported_by_the_command_line_alone():
    commands = {name for name, path in SOURCES.items() if name.startswith("llmrec.apps.")
                and path.stem.endswith(("_command", "_commands")) | (path.stem in ("chat", "demo"))}  # fmt: skip
    assert len(commands) > 10
    users = {name: others & commands for name, others in IMPORTS.items() if name != "llmrec.apps.cli"}
    assert {name: others for name, others in users.items() if others} == {}


def test_the_image_of_the_architecture_page_is_that_of_the_imports():
    checked = subprocess.run([sys.executable, ROOT / "docs" / "draw_imports.py", "--check"], check=False)
    assert checked.returncode == 0, "draw it anew: python docs/draw_imports.py"
