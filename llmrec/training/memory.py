"""How much memory this process uses, has used at most, and may still take: of its accelerator, or of the machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import torch

PROCESS = Path("/proc/self")
MACHINE = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")


class Peak:
    """The most bytes used since it was made, or since `restart`; None where the system does not say (elsewhere than on Linux)."""

    def __init__(self, device: torch.device):
        self.device = device
        self.restart()

    def restart(self) -> None:
        """Forgets what was used before."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        with contextlib.suppress(OSError):  # where the kernel forbids it, the mark stays that of the whole process
            (PROCESS / "clear_refs").write_text("5")  # sets it to what is used now

    def bytes(self) -> int | None:
        """Bytes at the highest."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return _kilobytes(PROCESS / "status", "VmHWM")


def used_bytes(device: torch.device) -> int | None:
    """What this process uses now: on the accelerator by tensors, else its resident memory; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _kilobytes(PROCESS / "status", "VmRSS")


def free_bytes(device: torch.device) -> int | None:
    """What this process may still take; on the processor its share of the machine's free memory, or the control group's if less.

    None where the system does not say.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    known = [free for free in (_kilobytes(MACHINE, "MemAvailable"), _group_free()) if free is not None]
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by accelerate launch
    return min(known) // processes if known else None


def _group_free() -> int | None:
    """Room under the control group's limit (version 2, or 1); files it keeps in memory only because there is room count as free."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            most = (CONTROL_GROUP / limit).read_text().strip()
            if most == "max":
                return None
            fields = dict(line.split() for line in (CONTROL_GROUP / cached).read_text().splitlines())
            files = fields.get("total_inactive_file", fields.get("inactive_file", "0"))
            return int(most) - int((CONTROL_GROUP / used).read_text()) + int(files)
        except (OSError, ValueError):
            continue
    return None


def _kilobytes(path: Path, field: str) -> int | None:
    """A line such as "VmRSS:  1234 kB", in bytes."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        return None
