"""What torchrun's first process makes of its command line."""

from __future__ import annotations

import pytest

from pgrun.errors import UserError
from pgrun.parallel import torchrun


@pytest.mark.parametrize("sweep", ["-m", "--multirun", "+sweep=ppo", "hydra.mode=MULTIRUN"])
def test_a_sweep_is_refused_however_it_is_asked_for(sweep: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="a sweep starts its own processes"):
        torchrun.completed([sweep, "seed=1,2"])
