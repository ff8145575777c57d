"""Copies of a Gymnasium environment side by side, in this process or in one each.

They stand in for Gymnasium's own vector environments, which build one copy more to see its spaces, put together all
that copies say in `info`, whatever it is, and wait for ever for a copy that can't answer.

Of `info` nothing is read but the keys in `READ`; each becomes a list, a copy's value or None.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper, batch_space, concatenate, create_empty_array, iterate

from pgrun.envs.interface import flag, number
from pgrun.envs.wrapping import OwnReward, innermost
from pgrun.errors import EnvFailed, UserError, failing, told
from pgrun.system.signals import leave_to_leader

log = logging.getLogger("pgrun")
READ: tuple[str, ...] = ()  # the keys of `info` that are handed on
PATIENCE = 5.0  # seconds that a worker process has for closing its environment

Make = Callable[[], gym.Env]


class Copy:
    """One copy as the process that holds it sees it, with what it says boiled down to what is read.

    Its observations have to be its caller's own, as `Checked` gives them: the next step must not write into them.
    """

    def __init__(self, make: Make, index: int, same_step: bool) -> None:
        self.env, self.index, self.same_step = make(), index, same_step
        self.own: OwnReward | None = innermost(self.env)
        self.at = failing(f"environment {index}", "reset")

    def spaces(self) -> tuple[gym.Space, gym.Space]:
        """Of observations and actions."""
        return self.env.observation_space, self.env.action_space

    def reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; -> the observation, and what is read of `info`."""
        self.at.where = "reset"
        if self.own is not None:
            self.own.paid = 0.0
        with self.at:
            obs, info = self.env.reset() if seed is None else self.env.reset(seed=seed)
            return obs, kept(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step, and where it ends an episode the next one's start; -> as Gymnasium has it."""
        self.at.where = "step"
        with self.at:
            obs, reward, terminated, truncated, info = self.env.step(action)
            reward, terminated, truncated = number(reward), flag(terminated, "terminated"), flag(truncated, "truncated")
        self.at.begun = True
        said = {} if self.own is None else {"own_reward": self.own.take()}
        if self.same_step and (terminated or truncated):
            said["final_obs"] = obs
            obs, fresh = self.reset(None)
            if self.own is not None:
                said["goes_on"] = not self.own.fresh
            return obs, reward, terminated, truncated, {**fresh, **said}
        return obs, reward, terminated, truncated, {**kept(info), **said}

    def anew(self) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Start an episode in the place of a step."""
        obs, said = self.reset(None)
        return obs, 0.0, False, False, said

    def call(self, name: str, *args: Any) -> Any:
        """A method's result, or an attribute."""
        found = self.env.get_wrapper_attr(name)
        return found(*args) if callable(found) else found

    def close(self) -> str:
        """Free what it holds; -> what went wrong, "" where nothing did."""
        try:
            self.env.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return told(error)
        return ""


def kept(info: Any) -> dict[str, Any]:
    """Pick the keys of a copy's info that are read."""
    return {key: info[key] for key in READ if key in info} if READ and isinstance(info, dict) else {}


class Copies:
    """All copies in this process, one after the other.

    Args:
        makers: one for each copy.
        same_step: whether an ended episode's copy begins anew in the same step, else in the next one.
    """

    def __init__(self, makers: Sequence[Make], *, same_step: bool) -> None:
        self.num_envs, self.same_step = len(makers), same_step
        self.closed = False
        self.copies: list[Copy] = []
        self._steps = ["step"] * self.num_envs
        self._autoreset_envs = np.zeros(self.num_envs, dtype=bool)  # not same_step: who begins anew at the next step
        try:
            spaces = self.begin(makers)
        except BaseException:
            self.close()
            raise
        self.single_observation_space, self.single_action_space = spaces[0]
        for i, pair in enumerate(spaces):
            if pair != spaces[0]:
                raise UserError(f"environment {i} has other spaces than environment 0: {pair[0]}, {pair[1]}")
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def begin(self, makers: Sequence[Make]) -> list[tuple[gym.Space, gym.Space]]:
        """Make the copies; -> the spaces of each."""
        for i, make in enumerate(makers):
            self.copies.append(Copy(make, i, self.same_step))
        return [copy.spaces() for copy in self.copies]

    def all(self, methods: Sequence[str], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of each copy; -> the results."""
        each = zip(self.copies, methods, arguments, strict=True)
        return [getattr(copy, method)(*given) for copy, method, given in each]

    def reset(self, *, seed: Sequence[int] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every copy."""
        self._autoreset_envs[:] = False
        seeds = [None] * self.num_envs if seed is None else seed
        obs, said = zip(*self.all(["reset"] * self.num_envs, [(s,) for s in seeds]), strict=True)
        return self.batch(obs), listed(said)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step in every copy; one that is to begin anew ignores its action."""
        each = iterate(self.action_space, actions)
        if self._autoreset_envs.any():
            methods = ["anew" if begins else "step" for begins in self._autoreset_envs]
            answers = self.all(
                methods, [() if method == "anew" else (a,) for a, method in zip(each, methods, strict=True)]
            )
        else:
            answers = self.all(self._steps, [(a,) for a in each])
        obs, reward, terminated, truncated, said = zip(*answers, strict=True)
        ends, cuts = np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)
        if not self.same_step:
            self._autoreset_envs = ends | cuts
        return self.batch(obs), np.array(reward, dtype=np.float64), ends, cuts, listed(said)

    def batch(self, obs: Sequence[Any]) -> Any:
        """The copies' observations as Gymnasium batches them."""
        space = self.single_observation_space
        return concatenate(space, obs, create_empty_array(space, self.num_envs))  # type: ignore[arg-type]

    def call(self, name: str, *args: Any) -> tuple[Any, ...]:
        """A method's results, or an attribute's values."""
        return tuple(self.all(["call"] * self.num_envs, [(name, *args)] * self.num_envs))

    @property
    def envs(self) -> list[gym.Env]:
        """The copies' environments, those in this process."""
        return [copy.env for copy in self.copies]

    def render(self) -> tuple[Any, ...]:
        """The frames of all copies."""
        return self.call("render")

    def close(self) -> None:
        """Close all copies, once."""
        if not self.closed:
            self.closed = True
            if reasons := [why for why in self.end() if why]:
                log.warning("%d of %d environments failed in close (%s)", len(reasons), self.num_envs, reasons[0])

    def end(self) -> list[str]:
        """Close the copies that were made; -> what went wrong in each."""
        return [copy.close() for copy in self.copies]


def listed(said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{key: the copies' values}, None where a copy doesn't say."""
    keys = {key for each in said for key in each}
    return {key: [each.get(key) for each in said] for key in keys}


class Processes(Copies):
    """A process for each copy. One that dies or breaks is told of, and none outlives this."""

    def begin(self, makers: Sequence[Make]) -> list[tuple[gym.Space, gym.Space]]:
        context = multiprocessing.get_context()
        self.pipes: list[Any] = []
        self.workers: list[Any] = []
        for i, make in enumerate(makers):
            mine, its = context.Pipe()
            work = (i, CloudpickleWrapper(make), self.same_step, its, mine)
            worker = context.Process(target=serve, args=work, daemon=True, name=f"pgrun-environment-{i}")  # type: ignore[attr-defined]
            self.pipes.append(mine)
            self.workers.append(worker)
            worker.start()
            started = worker._popen  # type: ignore[attr-defined]
            started.terminate = started.kill  # SIGTERM is left to the run, which ends its workers itself
            its.close()
        return [self.answer(i, "making it") for i in range(len(makers))]

    def all(self, methods: Sequence[str], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        for i, (pipe, method, given) in enumerate(zip(self.pipes, methods, arguments, strict=True)):
            try:
                pipe.send((method, given))
            except OSError:
                self.died(i, method)
        return [self.answer(i, method) for i, method in enumerate(methods)]

    def answer(self, i: int, where: str) -> Any:
        """Wait for a copy's answer.

        Raises:
            EnvFailed: it failed or died.
            KeyboardInterrupt: it was interrupted.
        """
        try:
            kind, content = self.pipes[i].recv()
        except (EOFError, OSError):
            self.died(i, where)
        if kind == "answer":
            return content
        if kind == "interrupted":
            raise KeyboardInterrupt
        raise content

    def died(self, i: int, where: str) -> NoReturn:
        """Raise EnvFailed for a copy whose process is gone."""
        self.workers[i].join(PATIENCE)
        code = self.workers[i].exitcode
        how = "no exit code" if code is None else f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        name = {"anew": "reset", "call": "a call"}.get(where, where)
        raise EnvFailed(f"environment {i} failed in {name} (its process died: {how})")

    def end(self) -> list[str]:
        reasons: list[str] = []
        for pipe in self.pipes:
            with suppress(OSError):
                pipe.send(("close", ()))
        deadline = time.monotonic() + PATIENCE
        try:
            for worker in self.workers:
                worker.join(max(deadline - time.monotonic(), 0.0))
        finally:
            for worker, pipe in zip(self.workers, self.pipes, strict=True):
                worker.kill()
                worker.join()
                with suppress(EOFError, OSError):
                    while pipe.poll():
                        kind, content = pipe.recv()
                        reasons += [content] * (kind == "closed")
                pipe.close()
        return reasons


def serve(i: int, make: Any, same_step: bool, pipe: Any, parents: Any) -> None:
    """The process of one copy: do what it is told until it is told to close, or nobody is left to tell."""
    gc.freeze()  # a fork must not finalise what its parent left: threads that this needs are not here
    parents.close()
    leave_to_leader()
    copy: Copy | None = None
    try:
        copy = Copy(make, i, same_step)
        pipe.send(("answer", copy.spaces()))
        while (order := pipe.recv())[0] != "close":
            method, given = order
            with failing(f"environment {i}", method):
                pipe.send(("answer", getattr(copy, method)(*given)))
    except (EOFError, BrokenPipeError):
        pass
    except BaseException as error:
        with suppress(OSError):
            pipe.send(("interrupted", None) if isinstance(error, KeyboardInterrupt) else ("failed", portable(error)))
    if copy is not None:
        why = copy.close()
        with suppress(OSError):
            pipe.send(("closed", why))


def portable(error: BaseException) -> BaseException:
    """An exception that another process can read."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return EnvFailed(told(error), "".join(traceback.format_exception(error)))
