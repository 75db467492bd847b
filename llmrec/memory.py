"""How much memory this process has used at most, and how much of the machine's it may still take. No torch."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MACHINE = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")
PROCESS = Path("/proc/self")


def restart_peak() -> None:
    """Forgets what this process used before. Where the kernel forbids it, the mark stays that of the whole process."""
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")  # sets it to what is used now


def peak_bytes() -> int | None:
    """The most resident memory since the process began, or since `restart_peak`; None where the system does not say (elsewhere than
    on Linux)."""
    return kilobytes(PROCESS / "status", "VmHWM")


def resident_bytes() -> int | None:
    """What this process uses now; None where the system does not say."""
    return kilobytes(PROCESS / "status", "VmRSS")


def free_machine_bytes() -> int | None:
    """This process's share of the memory that is available, or of the room in its control group where that is less.

    None where the system does not say.
    """
    known = [free for free in (kilobytes(MACHINE, "MemAvailable"), _group_free()) if free is not None]
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


def kilobytes(path: Path, field: str) -> int | None:
    """A line such as "VmRSS:  1234 kB", in bytes."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        return None
