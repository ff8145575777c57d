"""Asynchronous advantage actor-critic."""

from __future__ import annotations

from typing import Any

from pgrun.algos.policy_gradient import PolicyGradient
from pgrun.config.ranges import NotNegative
from pgrun.errors import UserError


class A3C(PolicyGradient):
    """A2C run by many: Mnih et al. 2016, https://arxiv.org/abs/1602.01783, algorithm S3, is what each process does.

    The many are `parallel=async`. Here is only that each may explore in its own way, as section 4 of the paper has it.

    Args:
        exploration_per_worker: the entropy coefficient of each process, by rank, over and over; None: of all the same.
        entropy_coef: weight of the entropy bonus.
    """

    def __init__(
        self,
        *,
        exploration_per_worker: list[NotNegative] | None,
        entropy_coef: NotNegative,
        rank: int = 0,
        **common: Any,
    ) -> None:
        if exploration_per_worker is not None:
            each = exploration_per_worker
            if not isinstance(each, list) or not each or not all(isinstance(x, (int, float)) and x >= 0 for x in each):
                raise UserError(f"algo.exploration_per_worker={each}: give entropy coefficients, [0.0, 0.01], or null")
            entropy_coef = exploration_per_worker[rank % len(exploration_per_worker)]
        super().__init__(entropy_coef=entropy_coef, **common)
