"""The stop at a plateau."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hooked import SMALL
from resumable import outcome
from running import compose, new_run, same

from pgrun.errors import UserError
from pgrun.hooks.plateau import Plateau
from pgrun.run import checkpoint
from pgrun.run.build import build


def stops_at(hook: Plateau, means: list[float]) -> int | None:
    """The number of the evaluation that makes a hook stop."""
    stopped: list[str] = []
    for i, mean in enumerate(means):
        view: Any = SimpleNamespace(evaluation=SimpleNamespace(mean=mean), stop=stopped.append)
        hook.evaluation(view)
        if stopped:
            return i
    return None


def test_it_counts_evaluations_without_a_rise():
    assert stops_at(Plateau(patience=2, min_delta=1.0), [1, 2.5, 1.5, 4, 4.5, 4.4, 9]) == 5
    assert stops_at(Plateau(patience=2, min_delta=0.0), [1, 2.5, 1.5, 4, 4.5, 4.4, 9]) is None
    assert stops_at(Plateau(patience=1, min_delta=0.0), [-5, -5]) == 1


@pytest.mark.slow
def test_a_run_ends_and_a_resumed_one_at_the_same_evaluation(tmp_path):
    overrides = (*SMALL, "env=cartpole", "+hook=plateau", "hooks.plateau.patience=3", "hooks.plateau.min_delta=1e6")
    whole = new_run(tmp_path / "whole", *overrides)
    result = whole.execute()
    assert result["stopped"]["by"] == "plateau"
    assert result["env_steps"] < 640
    steps = sorted(whole.checkpoints.glob("step_*.pt"))
    assert len(steps) >= 3
    want = outcome(checkpoint.load(whole.checkpoints / "latest.pt"))
    for path in steps[:2]:
        run = new_run(tmp_path / path.stem, *overrides, resume=checkpoint.load(path))
        assert run.execute()["stopped"] == result["stopped"]
        got = outcome(checkpoint.load(run.checkpoints / "latest.pt"))
        assert not [key for key in want if not same(want[key], got[key])]


@pytest.mark.slow
def test_without_evaluations_it_is_refused():
    with pytest.raises(UserError, match=r"^hooks\.plateau: it waits for evaluations, and eval\.every=null makes none"):
        build(compose(*SMALL, "+hook=plateau", "eval.every=null"))
