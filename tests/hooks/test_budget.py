"""The budget of time."""

from __future__ import annotations

import pytest
from hooked import SMALL
from running import new_run

from pgrun.errors import UserError
from pgrun.hooks.budget import Budget
from pgrun.run import checkpoint


@pytest.mark.slow
def test_it_ends_a_run_and_counts_earlier_sessions(tmp_path):
    overrides = (*SMALL, "total_steps=1000000", "eval.every=null", "checkpoint.every=null", "+hook=budget")
    run = new_run(tmp_path, *overrides, "hooks.budget.seconds=1.0")
    result = run.execute()
    assert result["stopped"] == {"by": "budget", "why": "its budget of 1 seconds is spent"}
    assert 1.0 <= result["wall_seconds"] < 60.0
    assert 0 < result["env_steps"] < 1_000_000
    state = checkpoint.load(run.checkpoints / "latest.pt")
    spent = new_run(
        tmp_path, *overrides, "hooks.budget.seconds=1.1", resume={**state, "sessions": [], "wall_seconds": 1.2}
    )
    assert spent.execute()["env_steps"] == result["env_steps"]  # not one step more
    longer = 0.2 + result["wall_seconds"]
    more = new_run(tmp_path, *overrides, f"hooks.budget.seconds={longer}", resume=state)
    assert more.execute()["env_steps"] >= result["env_steps"]


def test_seconds_and_minutes_add_up():
    assert Budget(minutes=2.0, seconds=3.0).seconds == 123.0
    with pytest.raises(UserError, match="it needs a number of seconds or minutes"):
        Budget()
