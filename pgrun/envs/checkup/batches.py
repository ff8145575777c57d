"""Examinations of environments whose copies are one batch: worlds of tensors, and several agents.

Shapes: B copies, N agents, *S one state, *O one observation, *A one action.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.config.near_methods import check_methods as check_near_methods
from pgrun.data.types import Obs, VectorEnv, action_mask, map_obs, to_blocks, width
from pgrun.envs.checkup.findings import Hopeless, Report, found
from pgrun.envs.pettingzoo import make_parallel
from pgrun.envs.reading import said
from pgrun.envs.tensor import TensorEnv, World, canonical
from pgrun.envs.world_answers import Fault, check_methods, initial_faults, name_of, observe_faults, step_faults
from pgrun.errors import EnvFailed, UserError, told
from pgrun.system.randomness import own_randomness

spaces = gym.spaces
B, STEPS = 3, 100  # copies, and steps of each walk that is compared
PATIENCE = 10.0  # seconds for the longest walk
LARGE_REWARD = 1e4


def check_world(
    report: Report, kind: type[World], kwargs: Mapping[str, Any], max_episode_steps: int | None, steps: int, seed: int
) -> None:
    """Examine a world of tensors.

    Raises:
        UserError: it can't be made with these arguments.
    """
    try:
        world = kind(**kwargs)
    except Exception as error:
        raise UserError(f"{report.name} can't be made ({told(error)})") from error
    for name in ("obs_space", "action_space"):
        if not isinstance(getattr(world, name, None), gym.Space):
            report.add(name, name, f"it is {getattr(world, name, None)!r}", "give it a gymnasium space")
            raise Hopeless
    report.observations, report.actions = said(world.obs_space), said(world.action_space)
    check_functions(report, world, seed)

    def make() -> VectorEnv:
        return TensorEnv(world=kind(**kwargs), num_envs=B, max_episode_steps=max_episode_steps, seed=seed)

    check_batches(report, make, steps, seed, limited=max_episode_steps is not None)


def check_functions(report: Report, world: World, seed: int) -> None:
    """Examine what a world's functions return, and that they leave their arguments alone."""
    rng = torch.Generator()
    rng.manual_seed(seed)
    with found(report, "methods", "its methods"):
        check_near_methods(type(world), name_of(world))
    with found(report, "world", "the world"):
        check_methods(world, World)
        seen, taken = canonical(world.action_space)
        action = taken(random_actions(seen, B, rng))
    stop_if_broken(report)
    with found(report, "initial raises", "initial()"):
        state = world.initial(B, rng)
        add_faults(report, initial_faults(state, B))
    stop_if_broken(report)
    before = state.clone()
    with found(report, "observe raises", "observe()"):
        add_faults(report, observe_faults(world.observe(state), world.obs_space, B))
    with found(report, "step raises", "step()"):
        add_faults(report, step_faults(world.step(state, action, rng), before))
    if not torch.equal(state, before):
        report.add("writes", "step() or observe()", "it writes into the state that it is given", "return a new tensor")
    stop_if_broken(report)


def add_faults(report: Report, faults: Iterable[Fault]) -> None:
    """Add what is wrong with what a world's method returned."""
    for fault in faults:
        where = f"{fault.part}{fault.method}()"
        report.add(where, where, f"it {fault.what}", fault.right)


def stop_if_broken(report: Report) -> None:
    """Raise Hopeless if something was found that breaks a run."""
    if report.breaks:
        raise Hopeless


def check_agents(
    report: Report, id: str, kwargs: Mapping[str, Any], max_episode_steps: int | None, steps: int, seed: int
) -> None:
    """Examine a parallel environment of PettingZoo's.

    Raises:
        UserError: it can't be made.
    """

    def make() -> Any:
        try:
            return make_parallel(
                id=id,
                num_envs=B,
                agents="joint",
                agent_index=False,
                max_episode_steps=max_episode_steps,
                kwargs=kwargs,
                seed=seed,
            )
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"env.id={id} can't be made ({told(error)})") from error

    with closing(make()) as env:
        agents = ", ".join(env.agents)
        report.observations, report.actions = f"agents {agents}", f"{width(env.action_space)} numbers, joint"
    check_batches(report, make, steps, seed, limited=max_episode_steps is not None)


def random_actions(space: gym.Space, b: int, rng: torch.Generator, mask: Tensor | None = None) -> Tensor:
    """Draw actions [B, *A] as a policy has them."""
    if isinstance(space, spaces.Dict):
        return torch.cat([to_blocks(random_actions(part, b, rng), part) for part in space.values()], -1)
    if isinstance(space, spaces.Discrete):
        weights = torch.ones(b, int(space.n)) if mask is None else mask.float()
        return torch.multinomial(weights, 1, generator=rng).squeeze(-1)
    if isinstance(space, spaces.MultiDiscrete):
        return torch.stack([torch.randint(int(n), (b,), generator=rng) for n in space.nvec.flatten()], -1)
    if isinstance(space, spaces.MultiBinary):
        return torch.randint(2, (b, *space.shape), generator=rng).float()
    return 2.0 * torch.rand((b, *(space.shape or ())), generator=rng) - 1.0


class BatchWalk:
    """Steps a batch of copies with random actions from a seed; what it returned is kept as rows."""

    def __init__(self, report: Report, env: VectorEnv, seed: int) -> None:
        self.report, self.env, self.rng = report, env, torch.Generator()
        self.rng.manual_seed(seed)
        self.ended = 0
        self.obs: Obs = None
        self.largest = 0.0
        self.call("reset()", lambda: env.reset(seed))

    def call(self, where: str, function: Callable[[], Any]) -> Any:
        """Call a method; an error that it raises is a finding."""
        try:
            result = function()
        except (EnvFailed, UserError) as error:
            self.report.add("raises", where, str(error))
            raise Hopeless from error
        except Exception as error:
            self.report.add("raises", where, f"it raises {told(error)}")
            raise Hopeless from error
        self.obs = result if where == "reset()" else result.obs
        return result

    def step(self, t: int) -> list[Tensor]:
        """Take a step, examine it, and return what came as tensors."""
        env, where = self.env, f"step() {t}"
        action = random_actions(env.action_space, env.num_envs, self.rng, action_mask(self.obs))
        step = self.call(where, lambda: env.step(action))
        parts = step.next_obs if isinstance(step.next_obs, dict) else {"": step.next_obs}
        for key, x in parts.items():
            space = env.obs_space[key] if isinstance(env.obs_space, spaces.Dict) else env.obs_space
            name = f"the observation of {where}" + (f", {key!r}" if key else "")
            if tuple(x.shape[1:]) != tuple(space.shape or ()):
                self.report.add("shape", name, f"its shape is {tuple(x.shape)}", f"it should be [B, *{space.shape}]")
            elif not bool(torch.isfinite(x).all()):
                self.report.add("finite", name, "it holds numbers that are not finite", "return finite numbers alone")
            elif isinstance(space, spaces.Box) and not inside(x, space):
                self.report.add(
                    "bounds",
                    name,
                    f"it is outside of its space, {said(space)}",
                    "make the space as wide as what is seen, or clip to it",
                    breaks=False,
                )
        if not bool(torch.isfinite(step.reward).all()):
            self.report.add("reward", f"the reward of {where}", "it is not finite", "pay a finite number")
        self.largest = max(self.largest, float(step.reward.abs().max()))
        self.ended += int(step.last.sum())
        return [*(x.clone() for x in parts.values()), step.reward.clone(), step.discount.clone(), step.last.clone()]


def inside(x: Tensor, space: spaces.Box) -> bool:
    """Return whether observations [B, *O] are within a space's bounds, up to rounding."""
    a, slack = x.double().numpy(), 1e-5
    return bool(((a >= space.low - slack) & (a <= space.high + slack)).all())


def check_batches(report: Report, make: Callable[[], VectorEnv], steps: int, seed: int, *, limited: bool) -> None:
    """Examine a vector environment: its numbers, its seed, its state, and whether episodes end."""
    with closing(make()) as env:
        report.action_space = env.action_space
        walk, until, t = BatchWalk(report, env, seed), time.monotonic() + PATIENCE, 0
        while t < steps and time.monotonic() < until:
            walk.step(t := t + 1)
            if report.breaks:
                raise Hopeless
        if not walk.ended and not limited:
            report.add(
                "endless",
                "step()",
                f"no episode ended within {t:,} random steps, and there is no time limit",
                "set env.max_episode_steps=N",
                breaks=False,
            )
        if walk.largest > LARGE_REWARD:
            report.add(
                "scale",
                "the reward",
                f"rewards are as large as {walk.largest:g}",
                "scale them, or use algo.normalize_reward=true",
                breaks=False,
            )
        first = rows(report, env, seed, 1)
        how = f"with reset(seed={seed}) and the same actions"
        for other, what, breaks in (
            (rows(report, env, seed, 1), f"{how} the second walk differs from the first", True),
            (rows(report, env, seed, 2), f"{how} the walk depends on the process's random generators", False),
        ):
            if not alike(first, other):
                report.add(
                    "repeats",
                    "reset(seed=…)",
                    what,
                    "draw all that is random from the generator that is given",
                    breaks=breaks,
                )
        with closing(make()) as fresh:
            if "repeats" not in report.known and not alike(first, rows(report, fresh, seed, 1)):
                report.add(
                    "repeats",
                    "reset(seed=…)",
                    f"{how} another environment walks otherwise",
                    "keep state in attributes of self, not of the class or the module",
                )
        check_state(report, env, seed)


def rows(report: Report, env: VectorEnv, seed: int, generators: int) -> list[list[Tensor]]:
    """Walk from a seed, with the global generators seeded by another."""
    with own_randomness(generators):
        walk = BatchWalk(report, env, seed)
        return [walk.step(t) for t in range(1, STEPS + 1)]


def alike(one: list[list[Tensor]], other: list[list[Tensor]]) -> bool:
    """Return whether two walks returned the same."""
    return all(np.array_equal(x, y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True))


def check_state(report: Report, env: VectorEnv, seed: int) -> None:
    """Check that a snapshot, restored, goes on as the environment did."""
    if "repeats" in report.known:
        return
    walk = BatchWalk(report, env, seed)
    for t in range(1, 6):
        walk.step(t)
    state, obs, actions = env.snapshot(), walk.obs, walk.rng.get_state()
    if state is None:
        report.add("state", "its state", "it can't be saved: a resumed run begins fresh episodes", breaks=False)
        return
    after = [walk.step(t) for t in range(6, 26)]
    env.restore(state)
    walk.obs = map_obs(lambda x: x, obs)
    walk.rng.set_state(actions)
    if not alike(after, [walk.step(t) for t in range(6, 26)]):
        report.add(
            "state",
            "its state",
            "restored from it, the environment goes on in another way: a resumed run differs",
            "keep all that decides what follows in the state",
            breaks=False,
        )
