"""What every test shares: one thread, generators that start from the same seed, and products in full."""

import pytest
import torch

from pgrun.nn.precision import set_matmul_precision

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    set_matmul_precision("highest")
