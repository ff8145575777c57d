"""An algorithm of the user's that declares a setting's range as pgrun does, and another's type as anyone does."""

from __future__ import annotations

from typing import Any

from pgrun.algos.policy_gradient import PolicyGradient
from pgrun.config.ranges import NotNegative, Scheduled


class Own(PolicyGradient):
    """Has two settings of its own."""

    def __init__(self, *, weight: Scheduled[NotNegative], label: int, **common: Any) -> None:
        super().__init__(**common)
