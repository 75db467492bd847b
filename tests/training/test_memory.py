"""What the system says of memory, read from files laid out as Linux lays them out."""

import gc
import mmap

import pytest
import torch

from llmrec import memory as machine_memory
from llmrec.training.memory import Peak, free_bytes, used_bytes

PROCESSOR = torch.device("cpu")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """8 GB available, no control group."""
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemFree: 1000 kB\nMemAvailable: 8000000 kB\n")
    (tmp_path / "groups").mkdir()
    monkeypatch.setattr(machine_memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(machine_memory, "CONTROL_GROUP", tmp_path / "groups")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    return tmp_path


def test_without_a_control_group_all_that_is_available_is_free(machine):
    assert free_bytes(PROCESSOR) == 8_000_000 * 1024


@pytest.mark.parametrize("version", [1, 2])
def test_the_control_groups_room_counts_where_it_is_less(machine, version):
    folder = machine / "groups"
    names = ("memory.max", "memory.current", "memory.stat")
    if version == 1:
        folder = folder / "memory"
        folder.mkdir()
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    for name, text in zip(names, ("2000000000\n", "1500000000\n", "anon 7\ninactive_file 300000000\n"), strict=True):
        (folder / name).write_text(text)
    assert free_bytes(PROCESSOR) == 800_000_000, "files kept in memory make room"


def test_a_control_group_without_a_limit_leaves_the_machines_memory(machine):
    (machine / "groups" / "memory.max").write_text("max\n")
    assert free_bytes(PROCESSOR) == 8_000_000 * 1024


def test_processes_of_a_machine_share_its_memory(machine, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_bytes(PROCESSOR) == 2_000_000 * 1024


def test_a_system_that_does_not_say_is_no_error(tmp_path, monkeypatch):
    for name in ("PROCESS", "MACHINE", "CONTROL_GROUP"):
        monkeypatch.setattr(machine_memory, name, tmp_path / "none")
    assert free_bytes(PROCESSOR) is used_bytes(PROCESSOR) is Peak(PROCESSOR).bytes() is None


def test_the_peak_is_that_since_it_was_asked_to_monitor():
    gc.collect()  # models of earlier tests, freed in between, would hide the block
    before = used_bytes(PROCESSOR)
    if before is None:
        pytest.skip("this system does not say what a process uses")
    peak = Peak(PROCESSOR)
    block = mmap.mmap(-1, 200_000_000)  # from the system itself: an allocator may have room that earlier tests left
    for place in range(0, len(block), mmap.PAGESIZE):
        block[place] = 1
    block.close()
    assert peak.bytes() > before + 150_000_000
    peak.restart()
    assert peak.bytes() < before + 150_000_000
