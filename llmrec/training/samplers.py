"""In which order examples are trained on. The order depends on seed and epoch alone, so a resumed epoch repeats it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from llmrec.prompting.mixture import Mixture


class LengthSampler(Sampler[int]):
    """Examples in random order, those of a batch of like length: little padding.

    transformers' LengthGroupedSampler makes the batches; here they are shuffled, for it yields those of long examples before those of
    short ones again and again, and a model that has just seen only short examples is not the one that long ones need.
    """

    def __init__(self, batch_size: int, lengths: Sequence[int], seed: int):
        self.batch_size, self.lengths, self.seed = batch_size, list(lengths), seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = _generator(self.seed, self.epoch)
        order = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
        return iter(_shuffled_batches(torch.tensor(order), self.batch_size, generator))

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch, a resumed one too."""
        self.epoch = epoch


class BranchSampler(Sampler[int]):
    """Batches of examples of one user, as far as that goes, in random order: what they have in common is then read once per batch.

    A user's examples, oldest first, are cut into runs of `batch_size`; the run that is shorter than that comes at a random position
    among them. Short runs, in random order, fill batches together.
    """

    def __init__(self, batch_size: int, users: Sequence[int] | np.ndarray, seed: int):
        """users: int (num_rows,), ascending: the user of each example."""
        self.batch_size, self.seed = batch_size, seed
        starts = np.flatnonzero(np.diff(users, prepend=-1))
        self.bounds = [*starts.tolist(), len(users)]  # a user's examples are bounds[u] .. bounds[u + 1] - 1
        self.epoch = 0

    def __len__(self) -> int:
        return self.bounds[-1]

    def __iter__(self) -> Iterator[int]:
        generator = _generator(self.seed, self.epoch)
        full: list[int] = []
        short: list[range] = []
        for start, stop in zip(self.bounds, self.bounds[1:], strict=False):
            num_full, rest = divmod(stop - start, self.batch_size)
            before = int(torch.randint(num_full + 1, (), generator=generator)) * self.batch_size
            short.append(range(start + before, start + before + rest))
            full += [*range(start, start + before), *range(start + before + rest, stop)]
        for run in torch.randperm(len(short), generator=generator).tolist():
            full += short[run]
        return iter(_shuffled_batches(torch.tensor(full, dtype=torch.int64), self.batch_size, generator))

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch, a resumed one too."""
        self.epoch = epoch


class MixtureSampler(Sampler[int]):
    """The examples that a mixture samples for the epoch, in the order that a sampler made for them gives."""

    def __init__(self, mixture: Mixture, make: Callable[[], LengthSampler | BranchSampler]):
        """make: a sampler of the mixture's examples as they are."""
        self.mixture, self.make = mixture, make
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.mixture)

    def __iter__(self) -> Iterator[int]:
        sampler = self.make()
        sampler.set_epoch(self.epoch)
        return iter(sampler)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch, a resumed one too: samples its examples."""
        self.epoch = epoch
        self.mixture.draw(epoch)


EpochSampler = LengthSampler | BranchSampler | MixtureSampler


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def _shuffled_batches(order: torch.Tensor, batch_size: int, generator: torch.Generator) -> list[int]:
    """The batches of `order` in random order; a last one that is not full stays last."""
    num_full = len(order) // batch_size
    batches = order[: num_full * batch_size].view(num_full, batch_size)
    mixed = batches[torch.randperm(num_full, generator=generator)].flatten()
    return torch.cat([mixed, order[num_full * batch_size :]]).tolist()
