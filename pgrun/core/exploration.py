"""Ways in which a policy of discrete actions explores, given the value of each action.

Shapes: B environments, A actions. An action whose value is ILLEGAL or less may not be taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pgrun.config.ranges import Fraction, NotNegative, Positive, Scheduled, Share
from pgrun.core.schedules import Schedule

ILLEGAL = -1e9


class Explorer:
    """A way to explore by a number that may change over the run: noise on actions, or a choice among them.

    Attributes:
        name: the number's name, for its curve; empty: there is none.
        number: what it is now; a 0-dim tensor where compiled or captured code reads it.
    """

    name = ""
    number: float | Tensor = 0.0

    def now(self, progress: float) -> float:
        """Return the number at this progress of the run, in [0, 1]."""
        return 0.0

    def figures(self, progress: float) -> dict[str, float]:
        """Return the number by name, for a curve."""
        return {self.name: self.now(progress)} if self.name else {}

    def follow(self, progress: float) -> None:
        """Give the number its value at this progress of the run, in [0, 1]."""
        if isinstance(self.number, Tensor):
            self.number.fill_(self.now(progress))
        else:
            self.number = self.now(progress)

    def keep(self, device: torch.device) -> None:
        """Keep the number as a tensor on a device from here on: in compiled code a plain one would be a constant."""
        self.number = torch.as_tensor(self.number, dtype=torch.float32).to(device)


class Exploration(Explorer):
    """A choice among discrete actions, by a number that changes over the run.

    It falls linearly from `first` to `final` over the first `fraction` of the run, or follows a schedule of its own.
    """

    def __init__(self, *, first: float | str, final: float, fraction: float) -> None:
        self.schedule = Schedule(first)
        self.first, self.final, self.fraction = self.schedule(0.0), final, fraction
        self.follow(0.0)

    def now(self, progress: float) -> float:
        """Return the number at this progress of the run; see `Explorer`."""
        if not self.schedule.constant:
            return self.schedule(progress)
        return self.first + (self.final - self.first) * min(progress / self.fraction, 1.0)

    def __call__(self, q: Tensor) -> Tensor:
        """Choose actions [B] from values q [B, A]."""
        raise NotImplementedError


class EpsilonGreedy(Exploration):
    """Epsilon-greedy: with probability ε any legal action, else the best.

    Watkins 1989; its schedule as in Mnih et al. 2015.

    Args:
        epsilon: how often an action is random, at the start; or its schedule, which leaves final and fraction unread.
        final: how often when it has fallen.
        fraction: the share of the run over which it falls.
    """

    name = "epsilon"

    def __init__(self, *, epsilon: Scheduled[Fraction], final: NotNegative, fraction: Share) -> None:
        if final > 1.0:
            raise ValueError(f"final={final} is a probability: it must be from 0 to 1")
        super().__init__(first=epsilon, final=final, fraction=fraction)

    def __call__(self, q: Tensor) -> Tensor:
        """Choose actions [B] from values q [B, A]; see `Exploration`."""
        greedy, u, epsilon = q.argmax(-1), torch.rand(q.shape[0], device=q.device), self.number
        explore = u < epsilon
        branches = not isinstance(epsilon, Tensor) and not torch.compiler.is_exporting()  # other code has none
        if branches and not bool(explore.any()):
            return greedy
        # where u is below ε it is uniform on [0, ε), and so picks one of the legal actions
        legal = (q > ILLEGAL).cumsum(-1)  # the n-th legal action is where this first is n
        rank = torch.minimum((u / at_least(epsilon, 1e-12) * legal[:, -1]).long() + 1, legal[:, -1])
        return torch.where(explore, (legal < rank.unsqueeze(-1)).sum(-1), greedy)


class Boltzmann(Exploration):
    """Boltzmann exploration: π(a|s) ∝ exp(Q(s, a) / τ).

    It uses Gumbel's trick: the action with the largest Q/τ plus Gumbel noise is a draw from π.

    Args:
        temperature: by which Q is divided, at the start; or its schedule, which leaves final and fraction unread.
        final: the temperature when it has fallen.
        fraction: the share of the run over which it falls.
    """

    name = "temperature"

    def __init__(self, *, temperature: Scheduled[Positive], final: NotNegative, fraction: Share) -> None:
        super().__init__(first=temperature, final=final, fraction=fraction)

    def __call__(self, q: Tensor) -> Tensor:
        """Choose actions [B] from values q [B, A]; see `Exploration`."""
        gumbel = -torch.empty_like(q).exponential_().log_()
        return plus(q, gumbel, self.number).argmax(-1)


def at_least(x: float | Tensor, least: float) -> float | Tensor:
    """Return a number, or a bound where it is less."""
    return x.clamp(min=least) if isinstance(x, Tensor) else max(x, least)


def plus(x: Tensor, y: Tensor, number: float | Tensor) -> Tensor:
    """Compute x + number · y; the number may be a 0-dim tensor."""
    return torch.addcmul(x, y, number) if isinstance(number, Tensor) else torch.add(x, y, alpha=number)
