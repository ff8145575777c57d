"""The global random generators of this process: torch's, NumPy's and Python's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from pgrun.data.plain import decode, encode


def seed_generators(seed: int) -> None:
    """Seed every global generator."""
    torch.manual_seed(seed)  # the GPU's too
    np.random.seed(seed % 2**32)
    random.seed(seed)


def generators() -> dict[str, Any]:
    """Return the state of every global random generator."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": encode(np.random.get_state()),
        "python": encode(random.getstate()),
    }


def restore_generators(state: dict[str, Any]) -> None:
    """Restore the state of every global generator."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(decode(state["numpy"]))
    random.setstate(decode(state["python"]))


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed every global generator within the block, and restore each after it."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    numpy, python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=devices):
            seed_generators(seed)
            yield
    finally:
        np.random.set_state(numpy)
        random.setstate(python)


class PausedRandomness:
    """Global generators of its own for work that pauses: seeded at first, kept from block to block.

    Between the blocks the caller's generators are as they would be without them.

    Args:
        seed: of every generator, as the first block begins.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.block = seed, ExitStack()
        self.kept: tuple[torch.Tensor, Any, Any] | None = None

    def __enter__(self) -> None:
        self.block.enter_context(own_randomness(self.seed))
        if self.kept is not None:
            torch.set_rng_state(self.kept[0])
            np.random.set_state(self.kept[1])
            random.setstate(self.kept[2])

    def __exit__(self, *_: object) -> None:
        self.kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
        self.block.close()
