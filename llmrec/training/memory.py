"""How much memory this process uses, has used at most, and may still take: of its accelerator, or of the machine."""

from __future__ import annotations

import torch

from llmrec.memory import free_machine_bytes, peak_bytes, resident_bytes, restart_peak


class Peak:
    """The most bytes used since it was made, or since `restart`; None where the system does not say (elsewhere than on Linux)."""

    def __init__(self, device: torch.device):
        self.device = device
        self.restart()

    def restart(self) -> None:
        """Forgets what was used before."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            restart_peak()

    def bytes(self) -> int | None:
        """Bytes at the highest."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return peak_bytes()


def used_bytes(device: torch.device) -> int | None:
    """What this process uses now: on the accelerator by tensors, else its resident memory; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return resident_bytes()


def free_bytes(device: torch.device) -> int | None:
    """What this process may still take; on the CPU its share of the machine's free memory, or the control group's if less.

    None where the system does not say.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return free_machine_bytes()
