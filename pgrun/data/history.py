"""Observations together with what came before them, for networks with a memory.

Such a network's encoders take one of these in the place of an observation, and give features of its rows.

Shapes: B environments; M windows of time; K steps of each before those that count, L steps that count, T ≥ L that are
there; N ≤ L·M rows, the valid steps among them, window beside window, time after time; S numbers remembered.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.data.types import Obs, Transition, map_obs


class Remembered:
    """Observations [B, *O] that every encoder has just taken in, with the state [B, S] that this left."""

    def __init__(self, obs: Obs, state: Tensor) -> None:
        self.state = state
        self.action_mask = obs.get("action_mask") if isinstance(obs, dict) else None

    def features(self, encoder: Any) -> Tensor:
        """Return an encoder's features [B, F], with which its state begins."""
        return self.state[:, encoder.slot][:, : encoder.features]


class History:
    """Observations [N, *O], rows of windows of time, each after all that came before it in its window.

    An encoder begins with the state that was stored at a window's start, renews it over the first K steps without
    gradient (burn-in, Kapturowski et al. 2019), and then has the gradient of the rest. Where an episode begins, its
    state begins anew.

    Args:
        before: the first K steps [K, M, ...], or none.
        steps: the T steps after them, [T, M, ...].
        state: [M, S], stored before the first of all of them.
        length: L.
        rows: the places of the valid ones among the L·M steps that count, [N]; None: they all are.
        ahead: steps from a row to the observation meant, [T, M] (the last of an episode's rows is followed by its true
            successor); None: the row's own observation.
        layouts: how encoders lay the windows out; histories of the same windows share it.
    """

    def __init__(
        self,
        before: Transition | None,
        steps: Transition,
        state: Tensor,
        *,
        length: int,
        rows: Tensor | None,
        ahead: Tensor | None = None,
        layouts: dict[type, Any] | None = None,
    ) -> None:
        self.before, self.steps, self.state = before, steps, state
        self.length, self.rows, self.ahead = length, rows, ahead
        self.layouts = {} if layouts is None else layouts

    def features(self, encoder: Any) -> Tensor:
        """Run an encoder over the windows; return features [N, F]."""
        state = self.state[:, encoder.slot]
        if self.before is not None:
            state = encoder.after(self.before, state, self.layouts)
        ahead = 0 if self.ahead is None else self.ahead
        return self.flat(encoder.unroll(self.steps, state, ahead, self.layouts))

    def flat(self, x: Tensor) -> Tensor:
        """Return the rows [N, ...] of what each step has, [T, M, ...]."""
        x = x[: self.length].flatten(0, 1)
        return x if self.rows is None else x.index_select(0, self.rows)

    @property
    def obs(self) -> Obs:
        """The observations by themselves, [N, *O]."""
        if self.ahead is None:
            return map_obs(self.flat, self.steps.obs)
        t = torch.arange(len(self.ahead), device=self.ahead.device).unsqueeze(-1)
        row, column = t + self.ahead - 1, torch.arange(self.ahead.shape[1], device=t.device)
        return map_obs(lambda x: self.flat(x[row, column]), self.steps.next_obs)

    @property
    def action_mask(self) -> Tensor | None:
        """The discrete actions that they allow, [N, A]; None where they don't say."""
        there = isinstance(self.steps.obs, dict) and "action_mask" in self.steps.obs
        return self.obs["action_mask"] if there else None
