"""What every test shares: one thread, generators that start from the same seed, and a record of runs of its own."""

import os
import tempfile

import pytest
import torch

torch.set_num_threads(1)
STATE = tempfile.TemporaryDirectory(prefix="pgrun-state-")  # removed at the end of the process
os.environ["XDG_STATE_HOME"] = STATE.name


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
