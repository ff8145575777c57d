"""An examination of an environment: whether it keeps to Gymnasium's interface, and to what pgrun needs besides.

Single copies are examined here; `pgrun.envs.checkup.batches` examines environments whose copies are one batch.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np

from pgrun.envs.checkup.answers import examine_walk
from pgrun.envs.checkup.batches import check_agents, check_world
from pgrun.envs.checkup.compare import check_apart, check_repeats, gymnasiums_own
from pgrun.envs.checkup.findings import Hopeless, Report, found
from pgrun.envs.gymnasium import GymVectorEnv, action_codec, observation_codec
from pgrun.envs.interface import check_methods, check_spaces, layers_of
from pgrun.envs.make import given, log_mujoco_warnings, make, making, unknown
from pgrun.envs.masks import check_space
from pgrun.envs.reading import FAR, WIDE, said
from pgrun.envs.tensor import World
from pgrun.errors import EnvFailed, UserError

spaces = gym.spaces


def check_environment(
    id: str, kwargs: Mapping[str, Any], *, max_episode_steps: int | None = None, steps: int = 2000, seed: int = 0
) -> Report:
    """Examine an environment.

    Args:
        id: as `env.id` names it: a registered one, module:Id-v0, a PettingZoo module, or module:Class of a World.
        kwargs: arguments of the environment itself.
        max_episode_steps: as `env.max_episode_steps`.
        steps: random steps of the longest walk.
        seed: of the walks.

    Returns:
        The report; findings that break a run first.

    Raises:
        UserError: there is no such environment, or it can't be made.
    """
    report = Report(id)
    with silence():
        target = None
        if id not in gym.registry:
            target = named(id)
            if isinstance(target, type) and issubclass(target, gym.Env):
                raise UserError(unknown(id))
        try:
            if isinstance(target, type) and issubclass(target, World):
                check_world(report, target, kwargs, max_episode_steps, steps, seed)
            elif target is not None:
                check_agents(report, id, kwargs, max_episode_steps, steps, seed)
            else:
                check_single(report, id, dict(kwargs), max_episode_steps, steps, seed)
        except Hopeless:
            pass
    report.findings.sort(key=lambda finding: not finding.breaks)
    return report


def named(id: str) -> Any:
    """Return the World or the maker of a PettingZoo environment that an id names; None if it names another kind.

    Raises:
        UserError: its module raised an error when it was imported.
    """
    module, colon, name = id.partition(":")
    if not colon and ("/" in id or "-v" in id or "." not in id):
        return None
    with making(id, None):
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            raise UserError(f"env.id={id}: there is no module {error.name}") from error
        except SystemExit as error:
            raise UserError(f"env.id={id}: {module} ends the process as it is imported") from error
    return None if name in gym.registry else getattr(found, name or "parallel_env", None)


@contextmanager
def silence() -> Iterator[None]:
    """Keep pgrun's own warnings of environments back: they are findings here."""
    log = logging.getLogger("pgrun")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def check_single(
    report: Report, id: str, kwargs: dict[str, Any], max_episode_steps: int | None, steps: int, seed: int
) -> None:
    """Examine an environment of Gymnasium's."""
    limit = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}

    def copy_of_it() -> gym.Env:
        with making(id, None):
            log_mujoco_warnings()
            spec = gym.spec(id.rpartition(":")[2] if ":" in id else id)
            arguments = given(id, spec.entry_point, spec, {**kwargs, **limit})
            return arguments.call(functools.partial(gym.make, id, disable_env_checker=True), "can't be made")

    env = copy_of_it()
    try:
        examine_spaces(report, env)
        for layer, called in layers_of(env, id):
            with found(report, "methods", called):
                check_methods(layer, called)
        if report.breaks:
            raise Hopeless
        walk = examine_walk(report, env, steps, seed)
        if walk.ended == 0 and not walk.limited:
            report.add(
                "endless",
                "step()",
                f"no episode ended within {walk.taken:,} random steps, and there is no time limit",
                "set env.max_episode_steps=N, or max_episode_steps in gymnasium.register",
                breaks=False,
            )
        check_repeats(report, env, copy_of_it, seed)
        check_apart(report, copy_of_it, seed)
        if not walk.masked:
            gymnasiums_own(report, copy_of_it())
    finally:
        with found(report, "close", "close()", breaks=False):
            env.close()
    if not report.breaks:
        examine_as_pgrun_runs_it(report, id, {**kwargs}, max_episode_steps, seed)


def examine_spaces(report: Report, env: gym.Env) -> None:
    """Examine the spaces; raise Hopeless where they are none."""
    with found(report, "spaces", "spaces"):
        check_spaces(env, report.name)
    if report.breaks:
        raise Hopeless
    given, actions = env.observation_space, env.action_space
    report.observations, report.actions = said(given), said(actions)
    with found(report, "observation_space", "observation_space"):
        observation_codec(given)
    with found(report, "action_space", "action_space"):
        report.action_space = action_codec(actions)[0]
    with found(report, "mask", "observation_space"):
        if hint := check_space(given, actions, f"the observation of {report.name}"):
            report.add("mask's name", "observation_space", hint, breaks=False)
    for where, part in action_parts(actions):
        examine_bounds(report, part, where)
    if report.breaks:
        raise Hopeless


def action_parts(space: gym.Space, where: str = "action_space") -> Iterator[tuple[str, gym.Space]]:
    """Yield the parts of a space of actions, each with its place; the space itself if it has none."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for key, part in space.items() if isinstance(space, spaces.Dict) else enumerate(space):
            yield from action_parts(part, f"{where}[{key!r}]")
    else:
        yield where, space


def examine_bounds(report: Report, actions: gym.Space, where: str) -> None:
    """Examine the bounds of one part of the actions."""
    if not isinstance(actions, spaces.Box):
        return
    low, high = actions.low.astype(np.float64), actions.high.astype(np.float64)
    if (np.abs(low) >= FAR).any() or (np.abs(high) >= FAR).any():
        report.add(
            "no bounds",
            where,
            f"{said(actions)} has coordinates without finite bounds: a policy's numbers arrive there as they are",
            "give each coordinate a finite low and high; policies then act in [-1, 1], which is scaled to them",
            breaks=False,
        )
    elif actions.dtype.kind == "f" and ((high - low) / 2.0).max(initial=0.0) > WIDE:
        report.add(
            "wide",
            where,
            f"{said(actions)}: a policy's first actions are spread over all of that",
            "give bounds that are meant, or env.wrappers=[ClipAction]",
            breaks=False,
        )
    if (high == low).any():
        report.add(
            "point",
            where,
            f"{said(actions)} leaves nothing to choose where low is high",
            "leave that coordinate out",
            breaks=False,
        )


def examine_as_pgrun_runs_it(
    report: Report, id: str, kwargs: dict[str, Any], max_episode_steps: int | None, seed: int
) -> None:
    """Make the copies that a run would have, with every check that a run makes; and one in a process of its own."""
    common: dict[str, Any] = {"id": id, "kwargs": kwargs, "max_episode_steps": max_episode_steps, "seed": seed}
    common |= {"autoreset": "same_step", "extra": None, "wrappers": []}
    with found(report, "as pgrun runs it", "two copies side by side"):
        env = make(num_envs=2, backend="auto", **common)
        env.reset(seed)
        if env.snapshot() is None and isinstance(env, GymVectorEnv):
            report.add(
                "state",
                "its attributes",
                f"its state can't be saved ({env.why_stateless}): a resumed run begins fresh episodes",
                "keep numbers, arrays and generators alone in its attributes, or offer snapshot() and restore(state)",
                breaks=False,
            )
        env.close()
    try:
        env = make(num_envs=1, backend="async", **common)
        env.reset(seed)
        env.close()
    except (UserError, EnvFailed) as error:
        report.add("async", "env.backend=async", str(error), "use env.backend=sync, which is the default", breaks=False)
