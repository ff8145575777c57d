"""Evaluation: whole episodes of the policy, deterministic where it is a distribution, on environments of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pgrun.algos.base import Algorithm
from pgrun.collect import ask, begun_anew
from pgrun.randomness import own_randomness
from pgrun.types import Obs, Step, VectorEnv, stepped


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted returns and lengths of the episodes, raw rewards; and the returns of other streams, by name."""

    returns: list[float]
    lengths: list[int]
    streams: dict[str, list[float]] = field(default_factory=dict)

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


@torch.no_grad()
def evaluate(
    algorithm: Algorithm,
    env: VectorEnv,
    episodes: int,
    *,
    seed: int,
    explore: bool = False,
    record: Callable[[Obs, Tensor, dict[str, Tensor], Step, Tensor], None] | None = None,
) -> Evaluation:
    """Run `episodes` whole episodes from `seed`; training's random numbers are left untouched.

    Each of the B copies runs its fixed share, so that short episodes are not over-represented. Environments with
    shares left over run until all are done; what they do beyond their share is not counted.
    `record` is told of every step: obs, action, extras, what followed, and [B] whose episodes count.
    """
    b = env.num_envs
    share = torch.tensor([episodes // b + (i < episodes % b) for i in range(b)])
    returns: list[float] = []
    lengths: list[int] = []
    streams: dict[str, list[float]] = {}
    with own_randomness(seed):
        obs, carry = env.reset(seed), algorithm.initial_carry(b)
        total, length = torch.zeros(b, dtype=torch.float64), torch.zeros(b, dtype=torch.int64)
        totals: dict[str, torch.Tensor] = {}  # of the other streams
        while bool((share > 0).any()):
            action, carry, extras = ask(algorithm, obs, carry, explore=explore)
            step = stepped(env, action)
            if record is not None:
                record(obs, action, extras, step, share > 0)
            obs = step.obs
            total += step.streams.get("return", step.reward) * step.valid
            length += step.valid
            for name, reward in step.streams.items():
                if name == "return":
                    continue
                totals[name] = totals.get(name, torch.zeros_like(total)) + reward * step.valid
            carry = begun_anew(carry, step, algorithm)
            if bool(step.last.any()):
                for i in step.last.nonzero().squeeze(-1).tolist():
                    if share[i] > 0:
                        returns.append(float(total[i]))
                        lengths.append(int(length[i]))
                        for name in totals:
                            streams.setdefault(name, []).append(float(totals[name][i]))
                        share[i] -= 1
                    total[i], length[i] = 0.0, 0
                    for other in totals.values():
                        other[i] = 0.0
    return Evaluation(returns, lengths, streams)
