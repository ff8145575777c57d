"""Evaluation: whole episodes of the policy, deterministic where it is a distribution, on environments of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.acting import Bound, ask, never
from pgrun.collect.finite import check_step
from pgrun.collect.recorder import begun_anew
from pgrun.data.types import WRAPPED, Obs, Step, VectorEnv, stepped
from pgrun.system.randomness import own_randomness


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted returns and lengths of the episodes, raw rewards; and the returns of other streams, by name."""

    returns: list[float]
    lengths: list[int]
    streams: dict[str, list[float]] = field(default_factory=dict)
    cut: int = 0  # how many episodes were cut
    max_steps: int | None = None  # where
    unended: bool = False  # whether episodes were left out, as none ended

    @property
    def note(self) -> str:
        """Say in a line how many episodes were cut; empty where none was."""
        if not self.cut:
            return ""
        return (
            f"{self.cut} of {len(self.returns)} evaluation episodes were cut at eval.max_steps={self.max_steps}: their "
            f"returns are of the steps so far{', and no more were begun, as none ended' * self.unended}"
        )

    @property
    def mean(self) -> float:
        """The mean return."""
        return sum(self.returns) / len(self.returns)

    @property
    def std(self) -> float:
        """The standard deviation over episodes (not over seeds)."""
        mean = self.mean
        return math.sqrt(sum((r - mean) ** 2 for r in self.returns) / len(self.returns))

    @property
    def stream_means(self) -> dict[str, float]:
        """The mean return of each other stream of rewards."""
        return {name: sum(returns) / len(returns) for name, returns in self.streams.items()}


class Interrupted(Exception):
    """An evaluation that was stopped between two steps."""


@torch.no_grad()
def evaluate(
    algorithm: Algorithm,
    env: VectorEnv,
    episodes: int,
    *,
    seed: int,
    explore: bool = False,
    max_steps: int | None = None,
    interrupted: Callable[[], bool] = never,
    record: Callable[[Obs, Tensor, dict[str, Tensor], Step, Tensor], None] | None = None,
) -> Evaluation:
    """Run `episodes` whole episodes from `seed`; training's random numbers are left untouched.

    Each of the B copies runs its fixed share, so that short episodes are not over-represented. Environments with
    shares left over run until all are done; what they do beyond their share is not counted. An episode that reaches
    `max_steps` is cut; its copy then waits until all are done or cut, and they begin anew together. Where no episode
    ended by itself since they last began, the others are left out: they would take as long.
    `interrupted` is asked between steps, and `record` told of every step: obs, action, extras, what followed, and [B]
    whose episodes count.

    Raises:
        Interrupted: in between; nothing is known then.
        EnvNotFinite: an environment showed or paid what is not finite.
    """
    b = env.num_envs
    share = torch.tensor([episodes // b + (i < episodes % b) for i in range(b)])
    returns: list[float] = []
    lengths: list[int] = []
    streams: dict[str, list[float]] = {}
    bound, rounds, cuts, ended_before, unended = Bound(max_steps), 0, 0, 0, False
    taken = 0
    with own_randomness(seed):
        obs, carry = env.reset(seed), algorithm.initial_carry(b)
        total, length = torch.zeros(b, dtype=torch.float64), torch.zeros(b, dtype=torch.int64)
        totals: dict[str, torch.Tensor] = {}  # of the other streams
        bound.begin(b)
        while bool((share > 0).any()):
            if interrupted():
                raise Interrupted
            action, carry, extras = ask(algorithm, obs, carry, explore=explore)
            step = stepped(env, action)
            taken += 1
            check_step(obs, step, taken)
            counted = (share > 0) & ~bound.over
            over = step.last if step.over is None else step.over
            cut = bound.passed(step.valid & counted, over)
            if record is not None:
                record(obs, action, extras, step._replace(last=step.last | cut), counted)
            obs = step.obs
            total += step.streams.get("return", step.reward) * step.valid
            length += step.valid
            for name, reward in step.streams.items():
                if name == "return":
                    continue
                totals[name] = totals.get(name, torch.zeros_like(total)) + reward * step.valid
            carry = begun_anew(carry, step, algorithm)
            if bool((ended := over | cut).any()):
                for i in ended.nonzero().squeeze(-1).tolist():
                    if counted[i]:
                        returns.append(float(total[i]))
                        lengths.append(int(length[i]))
                        for name in totals:
                            streams.setdefault(name, []).append(float(totals[name][i]))
                        share[i] -= 1
                    total[i], length[i] = 0.0, 0
                    for other in totals.values():
                        other[i] = 0.0
            if bound.cuts and bool((share > 0).any()) and bool((bound.over | (share == 0)).all()):
                rounds, cuts, bound.cuts = rounds + 1, cuts + bound.cuts, 0
                if unended := len(returns) - cuts == ended_before:
                    break
                ended_before = len(returns) - cuts
                fresh = int(np.random.SeedSequence([seed, rounds]).generate_state(1)[0])
                obs, carry = env.reset(fresh), algorithm.initial_carry(b)
                for x in (total, length, *totals.values()):
                    x.zero_()
                bound.begin(b)
    if streams.get(WRAPPED) == returns:
        del streams[WRAPPED]
    return Evaluation(returns, lengths, streams, cuts + bound.cuts, max_steps, unended)
