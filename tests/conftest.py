"""Settings that every test shares: one thread, generators from the same seed, and a record of runs of its own."""

import os
import tempfile

import pytest
import torch

torch.set_num_threads(1)
STATE = tempfile.TemporaryDirectory(prefix="pgrun-state-")  # removed at the end of the process
os.environ["XDG_STATE_HOME"] = STATE.name
if "PGRUN_CACHE" not in os.environ:  # compiled code: one folder for all processes of these tests
    CACHE = tempfile.TemporaryDirectory(prefix="pgrun-cache-")
    os.environ["PGRUN_CACHE"] = CACHE.name


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run recorded functions operation by operation, without a compiler; return a list of the programs' texts."""
    made: list[str] = []

    def library(text, graph, forms):  # type: ignore[no-untyped-def]
        made.append(text)
        return lambda inputs: list(graph(*inputs))

    monkeypatch.setattr("pgrun.optim.program.library", library)
    return made


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
