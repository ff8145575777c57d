"""A command line is rewritten before Hydra reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgrun.api.rewriting import rewritten
from pgrun.errors import UserError
from pgrun.sweep.folder import sweep_name
from pgrun.sweep.session import SweepSession


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("algo=ppo env=cartpole", "algo=ppo env=cartpole"),
        ("total_steps=1e6 --config-dir=x", "--config-dir=x total_steps=1000000"),
        ("env.kwargs.size=2e1 eval.env.id=X", "++env.kwargs.size=20 ++eval.env.id=X"),
        ("seed=3,4 -m algo=a2c --cfg=job", "--cfg=job seed=3 algo=a2c"),
        ("+sweep=joblib seed=1e1,2e1", "+sweep=joblib seed=10,20"),
    ],
)
def test_all_changes(given: str, becomes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert rewritten(given.split()) == becomes.split()


def test_a_sweep_goes_on_in_its_first_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = ["-m", "seed=1,2", "total_steps=100"]
    SweepSession(Path("multirun") / sweep_name(first)).begin(first).lock.free()
    assert rewritten(["total_steps=1e2", "seed=1,2", "-m"]) == first


def test_what_cannot_be_is_one_line() -> None:
    with pytest.raises(UserError, match=r"several files of the group sweep are given as '\+sweep=\[ppo,ray\]'"):
        rewritten(["+sweep=ppo,ray"])
    with pytest.raises(UserError, match="--cfg=job and --info=all can't be had at once"):
        rewritten(["--cfg=job", "--info=all"])
