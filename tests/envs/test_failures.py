"""An environment that raises, exits or dies is one error that says which copy, in what, and why; `info` is nobody's."""

from __future__ import annotations

from typing import Any

import breaking
import gymnasium as gym
import numpy as np
import pytest
import torch
from transitions import adapter

from pgrun.envs.gymnasium import GymVectorEnv
from pgrun.envs.processes import Processes
from pgrun.envs.state import Stateful
from pgrun.envs.vector import Copies
from pgrun.errors import EnvFailed, UserError

PUSH = torch.zeros(2, dtype=torch.int64)


def play(env, steps: int = 12):
    """Reset and so many steps; -> the steps."""
    env.reset(0)
    return [env.step(PUSH) for _ in range(steps)]


@pytest.mark.parametrize("kind", breaking.KINDS)
def test_info_that_nobody_reads_breaks_nothing(kind):
    for backend in ("sync", "async"):
        for autoreset in ("same_step", "next_step"):
            env = adapter("Talks-v0", 2, backend, autoreset, kwargs={"kind": kind})
            steps = play(env)
            env.close()
            assert sum(int(step.last.sum()) for step in steps) >= 2
            for step in steps:  # the true successor, whatever `info` calls final_obs
                assert (step.next_obs[step.last][:, 0] >= 5).all()
                assert not step.streams


@pytest.mark.parametrize(
    ("how", "backend", "words"),
    [
        ("raise", "sync", "environment 1 failed in step (RuntimeError: the simulator lost its connection)"),
        ("raise", "async", "environment 1 failed in step (RuntimeError: the simulator lost its connection)"),
        ("reset", "sync", "environment 1 failed in reset (RuntimeError: the simulator lost its connection)"),
        ("reset", "async", "environment 1 failed in reset (RuntimeError: the simulator lost its connection)"),
        ("sysexit", "sync", "environment 1 failed in step (SystemExit: 5)"),
        ("sysexit", "async", "environment 1 failed in step (SystemExit: 5)"),
        ("exit", "async", "environment 1 failed in step (its process died: exit code 3)"),
        ("kill", "async", "environment 1 failed in step (its process died: SIGKILL)"),
    ],
)
def test_a_copy_that_breaks_is_one_line(how, backend, words):
    env = second_breaks(how, backend)
    with pytest.raises(EnvFailed) as caught:
        play(env)
    assert str(caught.value) == words
    assert caught.value.exit_code == 1
    if "died" not in words:
        assert "breaking.py" in caught.value.trace
    env.close()
    assert all(not worker.is_alive() for worker in getattr(env.env, "workers", []))


def second_breaks(how: str, backend: str) -> GymVectorEnv:
    """Two copies, the second of which breaks at its fifth step, an episode's last."""

    def copy(i: int):
        kwargs: dict[str, Any] = {"how": how, "at": 5} if i else {}
        return lambda: Stateful(gym.make("Breaks-v0", disable_env_checker=True, **kwargs), i)

    kind = Processes if backend == "async" else Copies
    return GymVectorEnv(kind([copy(0), copy(1)], same_step=True), num_envs=2, same_step=True, stateful="copies")


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_an_interrupt_in_an_environment_is_one(backend):
    env = adapter("Breaks-v0", backend=backend, kwargs={"how": "interrupt", "at": 3})
    with pytest.raises(KeyboardInterrupt):
        play(env)
    env.close()


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_an_environment_that_can_not_be_made(backend):
    with pytest.raises(UserError) as caught:
        adapter("Breaks-v0", backend=backend, kwargs={"how": "init"})
    assert str(caught.value) == "env.id=Breaks-v0 can't be made (RuntimeError: no licence for the simulator)"


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_failing_close_is_a_warning(backend, caplog):
    env = adapter("Breaks-v0", 3, backend, kwargs={"how": "close"})
    play_three = torch.zeros(3, dtype=torch.int64)
    env.reset(0)
    env.step(play_three)
    env.close()
    env.close()
    assert [r.getMessage() for r in caplog.records] == [
        "3 of 3 environments failed in close (RuntimeError: already closed)"
    ]


def test_worker_processes_have_no_copy_beside_them(monkeypatch):
    here, init = [], breaking.Breaks.__init__
    monkeypatch.setattr(breaking.Breaks, "__init__", lambda self: here.append(1) or init(self))
    env = adapter("Breaks-v0", backend="async")
    assert np.all(env.reset(0).numpy() == 0)
    env.close()
    assert here == []  # all were made in the workers


def test_an_observation_written_over_is_not_lost():
    class Reuses(breaking.Breaks):
        buffer = np.zeros(2, np.float32)  # of all copies

        def look(self):
            self.buffer[:] = self.t / 10
            return self.buffer

        def reset(self, **kwargs):
            super().reset(**kwargs)
            return self.look(), {}

        def step(self, action):
            _, *rest = super().step(action)
            return self.look(), *rest

    gym.register("Reuses-v0", entry_point=Reuses)
    steps = play(adapter("Reuses-v0"), 5)
    assert torch.allclose(steps[-1].next_obs, torch.tensor(0.5))
    assert (steps[-1].obs == 0).all()
