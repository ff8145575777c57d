"""Asynchronous advantage actor-critic."""

from __future__ import annotations

from typing import Any

from pgrun.algos.policy_gradient import PolicyGradient
from pgrun.config.ranges import NotNegative, Scheduled
from pgrun.errors import UserError


class A3C(PolicyGradient):
    """A3C: asynchronous A2C in many processes, each with its own exploration.

    Mnih et al. 2016, https://arxiv.org/abs/1602.01783, algorithm S3, is what each process does; `parallel=async` starts
    several. This class only lets each process explore in its own way, as section 4 of the paper has it.

    Args:
        exploration_per_worker: the entropy coefficient of each process, by rank, over and over; None: of all the same.
        entropy_coef: weight of the entropy bonus.
    """

    def __init__(
        self,
        *,
        exploration_per_worker: list[NotNegative] | None,
        entropy_coef: Scheduled[NotNegative],
        rank: int = 0,
        **common: Any,
    ) -> None:
        if exploration_per_worker is not None:
            coef = exploration_per_worker
            if not isinstance(coef, list) or not coef or not all(isinstance(x, (int, float)) and x >= 0 for x in coef):
                raise UserError(f"algo.exploration_per_worker={coef}: give entropy coefficients, [0.0, 0.01], or null")
            entropy_coef = exploration_per_worker[rank % len(exploration_per_worker)]
        super().__init__(entropy_coef=entropy_coef, **common)
