"""Ways in which a policy of discrete actions explores, given the value of each action.

Shapes: B environments, A actions. An action whose value is ILLEGAL or less may not be taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pgrun.config.ranges import Fraction, NotNegative, Positive, Scheduled, Share
from pgrun.core.schedules import Schedule

ILLEGAL = -1e9


class Exploration:
    """A way to explore by a number that changes over the run.

    It falls linearly from `first` to `final` over the first `fraction` of the run, or follows a schedule of its own.
    """

    name = "exploration"  # the number's name

    def __init__(self, *, first: float | str, final: float, fraction: float) -> None:
        self.schedule = Schedule(first)
        self.first, self.final, self.fraction = self.schedule(0.0), final, fraction

    def now(self, progress: float) -> float:
        """Return the number at this progress of the run, in [0, 1]."""
        if not self.schedule.constant:
            return self.schedule(progress)
        return self.first + (self.final - self.first) * min(progress / self.fraction, 1.0)

    def figures(self, progress: float) -> dict[str, float]:
        """Return the number by name, for a curve."""
        return {self.name: self.now(progress)}

    def __call__(self, q: Tensor, progress: float) -> Tensor:
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

    def __call__(self, q: Tensor, progress: float) -> Tensor:
        """Choose actions [B] from values q [B, A]; see `Exploration`."""
        greedy, u, epsilon = q.argmax(-1), torch.rand(q.shape[0], device=q.device), self.now(progress)
        explore = u < epsilon
        if not torch.compiler.is_exporting() and not bool(explore.any()):  # a graph has no branches
            return greedy
        # where u is below ε it is uniform on [0, ε), and so picks one of the legal actions
        legal = (q > ILLEGAL).cumsum(-1)  # the n-th legal action is where this first is n
        rank = torch.minimum((u / max(epsilon, 1e-12) * legal[:, -1]).long() + 1, legal[:, -1])
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

    def __call__(self, q: Tensor, progress: float) -> Tensor:
        """Choose actions [B] from values q [B, A]; see `Exploration`."""
        gumbel = -torch.empty_like(q).exponential_().log_()
        return torch.add(q, gumbel, alpha=self.now(progress)).argmax(-1)
