"""Coefficients of a loss that may change over the run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgrun.core.schedules import Schedule


class Coefficients(nn.Module):
    """A module whose coefficients are attributes: numbers, or what follows a schedule over the run."""

    device: torch.device
    progress = 0.0  # the share of the run that is done, in [0, 1]

    def __init__(self) -> None:
        super().__init__()
        self.scheduled: dict[str, Schedule] = {}  # of the coefficients that change, by their attribute

    def coefficient(
        self, name: str, value: float | str, falling: str = "constant", *, traced: bool = True
    ) -> float | Tensor:
        """Return a coefficient, to be kept as an attribute: a number, or what follows a schedule over the run.

        Args:
            name: the attribute's, and its curve's.
            value: a number, or the text of a schedule.
            falling: how a plain number falls to 0, where a setting `<name>_schedule` says so.
            traced: whether compiled code may read it, which takes a changing number as a 0-dim tensor.
        """
        schedule = Schedule(value, falling, setting=f"algo.{name}_schedule")
        if not schedule.constant:
            self.scheduled[name] = schedule
            if not traced:
                return schedule(self.progress)
            now = torch.tensor(schedule(self.progress), device=self.device)
            self.register_buffer(name, now, persistent=False)
            return now
        assert not isinstance(value, str)
        return value

    def follow_schedules(self, progress: float) -> None:
        """Give the coefficients that change their value at this progress of the run, in [0, 1]."""
        for name, schedule in self.scheduled.items():
            if name in self._buffers:
                getattr(self, name).fill_(schedule(progress))
            else:
                setattr(self, name, schedule(progress))
