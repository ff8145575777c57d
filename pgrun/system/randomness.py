"""The global random generators of this process: torch's, NumPy's and Python's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
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
    with generators_kept():
        seed_generators(seed)
        yield


@contextmanager
def generators_kept() -> Iterator[None]:
    """Restore every global generator after the block, which may seed them and draw from them."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    numpy, python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(numpy)
        random.setstate(python)


class Randomness:
    """Global generators of its own, which take the place of the process's for the length of a block.

    Args:
        seed: of all of them.
    """

    def __init__(self, seed: int) -> None:
        with generators_kept():
            seed_generators(seed)
            self.state = self.now()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Draw from these generators in the block, and go on where they stand in the next one."""
        before = self.now()
        self.put(self.state)
        try:
            yield
        finally:
            self.state = self.now()
            self.put(before)

    @staticmethod
    def now() -> tuple[Any, ...]:
        """Return the states of the process's generators."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()

    @staticmethod
    def put(state: tuple[Any, ...]) -> None:
        """Put the process's generators into these states."""
        cpu, cuda, numpy, python = state
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        np.random.set_state(numpy)
        random.setstate(python)
