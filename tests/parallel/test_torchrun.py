"""torchrun's variables and command line, as its first process and the others take them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from shell import free_port

from pgrun.errors import UserError
from pgrun.loop import launched
from pgrun.shell import torchrun


@pytest.mark.parametrize("sweep", ["-m", "--multirun", "+sweep=ppo", "hydra.mode=MULTIRUN"])
def test_a_sweep_is_refused_however_it_is_asked_for(sweep: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="a sweep starts its own processes"):
        torchrun.completed([sweep, "seed=1,2"])


CLUSTER = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29517"}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the variables as a cluster does, changed by what is given; None: not at all."""

    def set_them(**changed: str | None) -> None:
        monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
        for name, value in {**CLUSTER, **changed}.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    return set_them


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"RANK": "3", "WORLD_SIZE": "2"},
        {"RANK": "", "WORLD_SIZE": "2"},
        {"RANK": "node-1", "WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "MASTER_PORT": None},
        {"WORLD_SIZE": "2", "MASTER_ADDR": ""},
        {"RANK": None, "WORLD_SIZE": "2"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
    ],
)
def test_variables_that_a_cluster_sets_for_itself_start_nothing(changed, variables) -> None:
    variables(**changed)
    assert not launched.here()
    assert torchrun.entry(lambda argv: 7 if argv == ["algo=ppo"] else 0, ["algo=ppo"]) == 7


def test_torchrun_alone_may_start_one_process(variables, monkeypatch: pytest.MonkeyPatch) -> None:
    variables(TORCHELASTIC_RUN_ID="x")
    assert launched.here()
    assert torchrun.completed(["algo=ppo"]) == ["algo=ppo", "parallel=ddp", "workers=1"]


@pytest.mark.parametrize(
    "argv", [["-m", "seed=0,1"], ["+sweep=ppo"], ["parallel=async", "workers=2"], ["parallel=none"]]
)
@pytest.mark.parametrize("rank", ["0", "1"])
def test_what_is_not_for_all_processes_runs_as_if_there_were_no_variables(argv, rank, variables) -> None:
    variables(RANK=rank, WORLD_SIZE="2")
    seen: list[bool] = []
    assert torchrun.entry(lambda given: seen.append(launched.here()) or 0, argv) == 0  # type: ignore[func-returns-value]
    assert seen == [False]
    variables(RANK=rank, WORLD_SIZE="2", TORCHELASTIC_RUN_ID="x")
    assert torchrun.meant(argv)


def test_a_refusal_does_not_wait_long_for_processes_that_never_come(variables, monkeypatch, capsys) -> None:
    variables(WORLD_SIZE="2", MASTER_PORT=str(free_port()))
    monkeypatch.setattr(launched, "BRIEF", timedelta(seconds=0.2))
    launched.store.cache_clear()
    assert torchrun.entry(lambda argv: 2, ["algo=pp0"]) == 2
    launched.store.cache_clear()
