"""Forms of Ψ_t, the weight of the score ∇log π(a_t|s_t).

Each is called with a rollout's [T, B] tensors and returns (Ψ, target): the weight, and what the critic is fitted to.
Without a critic, `value` and `next_value` are zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pgrun.config.ranges import Count, Fraction, Nodes, Positive
from pgrun.core import returns
from pgrun.core.importance import v_trace


class Returns(NamedTuple):
    """The tensors that an advantage is computed from, all [T, B]."""

    reward: Tensor
    discount: Tensor  # 0 where the MDP terminated, else 1
    last: Tensor  # bool
    value: Tensor  # V(s_t); the mean under π where the critic is Q
    next_value: Tensor  # V(s_{t+1}) at the true successor
    q: Tensor | None = None  # Q(s_t, a_t) where the critic is one of actions, else None
    log_ratio: Tensor | None = None  # log π(a_t|s_t) − log μ(a_t|s_t), μ the policy that acted; None: π acted


class Advantage:
    """A form of Ψ_t.

    Attributes:
        needs_value: it makes no sense without a learned V.
        of_rewards: it depends on the rewards.
        critic: the function learned beside the policy: V(s) (v), Q(s, a) (q) or an advantage (a).
        whole_episodes: it needs rollouts of whole episodes.
        discounted: it counts from the episode's start, and so has the factor γ^t.
        bootstraps: it counts on the critic within a rollout, whose error biases it.
        corrects: it is right for actions of another policy, by their probabilities.
        nodes: of a critic of continuous actions, the actions by which it takes means under π.
        note: what a run says of it as it begins.
    """

    needs_value = True
    of_rewards = True
    critic = "v"
    whole_episodes = False
    discounted = False
    bootstraps = False
    corrects = False
    nodes = 0
    note = ""

    def wrong(self) -> str | None:
        """Describe what is wrong with its own settings, or return None."""
        return None

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the critic's target, both [T, B]."""
        raise NotImplementedError


@dataclass(kw_only=True)
class TotalReturn(Advantage):
    """The whole episode's return at each of its steps: Ψ_t = Σ_k γ^k r_k − V(s_t)."""

    needs_value = False
    whole_episodes = True
    discounted = True

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        target = returns.reward_to_go(r.reward, r.discount, r.last, torch.zeros_like(r.value), gamma)
        return returns.total_return(r.reward, r.last, gamma) - r.value, target


@dataclass(kw_only=True)
class RewardToGo(Advantage):
    """The return from t on: Ψ_t = G_t − V(s_t), with V for the rest of an episode that was cut."""

    needs_value = False

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        g = returns.reward_to_go(r.reward, r.discount, r.last, r.next_value, gamma)
        return g - r.value, g


@dataclass(kw_only=True)
class Ones(Advantage):
    """A constant weight, Ψ_t = 1, whatever the rewards: the gradient climbs the likelihood of the data.

    On demonstrations that is behaviour cloning. On the policy's own actions the gradient has mean zero.
    """

    needs_value = False
    of_rewards = False

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        return torch.ones_like(r.reward), returns.reward_to_go(r.reward, r.discount, r.last, r.next_value, gamma)


@dataclass(kw_only=True)
class TD(Advantage):
    """The TD error: Ψ_t = δ_t = r_t + γV(s_{t+1}) − V(s_t)."""

    bootstraps = True

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        delta = returns.td_errors(r.reward, r.discount, r.value, r.next_value, gamma)
        return delta, delta + r.value


@dataclass(kw_only=True)
class NStep(Advantage):
    """The n-step return minus V: Ψ_t = G_{t:t+n} − V(s_t).

    The window is a fixed n steps, or reaches to the rollout's end, as in A3C's listing.

    Args:
        n: steps before bootstrapping.
        window: fixed: n steps; rollout: to the rollout's end; null: fixed where n is given.
    """

    n: Count | None
    window: Literal["fixed", "rollout"] | None = None  # None: fixed where n is given

    def wrong(self) -> str | None:
        """Check that n and window go together; see `Advantage.wrong`."""
        if self.window == "fixed" and self.n is None:
            return "algo.advantage.window=fixed needs its length: add algo.advantage.n=5 or the like"
        if self.window == "rollout" and self.n is not None:
            return (
                f"algo.advantage.n={self.n} is the length of algo.advantage.window=fixed; window=rollout looks to the "
                "rollout's end: leave one of them out"
            )
        return None

    @property
    def bootstraps(self) -> bool:  # type: ignore[override]
        """Whether V comes in before the rollout's end."""
        return self.n is not None

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        if self.n is None:
            target = returns.reward_to_go(r.reward, r.discount, r.last, r.next_value, gamma)
        else:
            target = returns.n_step_returns(r.reward, r.discount, r.last, r.next_value, gamma, self.n)
        return target - r.value, target


@dataclass(kw_only=True)
class GAE(Advantage):
    """Generalised advantage estimation: Ψ_t = Â_t^{GAE(γ,λ)}.

    Schulman et al. 2016, https://arxiv.org/abs/1506.02438, eq. 16.

    Args:
        lambda_: λ: 0 is TD, 1 is Monte Carlo minus V.
    """

    lambda_: Fraction

    @property
    def bootstraps(self) -> bool:  # type: ignore[override]
        """Whether V comes in before the rollout's end."""
        return self.lambda_ < 1.0

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        a = returns.gae(r.reward, r.discount, r.last, r.value, r.next_value, gamma, self.lambda_)
        return a, a + r.value


@dataclass(kw_only=True)
class VTrace(Advantage):
    """V-trace, right for actions of another policy μ: Ψ_t = ρ_t (r_t + γ v_{t+1} − V(s_t)), with V fitted to v_t.

    Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, eq. 1 and section 4.2, with ρ_t = min(ρ̄, π/μ) and c_t =
    min(c̄, π/μ). On the policy's own actions it is the n-step form to the rollout's end. A critic of actions is fitted
    to r_t + γ v_{t+1}, the estimate of Q(s_t, a_t) there: for the action that was taken, nothing needs a weight.

    Args:
        rho_bar: ρ̄, at which ρ_t is cut; lower: less variance, but V and gradient lean towards μ's; null: no limit.
        c_bar: c̄, at which the traces' weights are cut: less variance, and what is learnt stays; null: no limit.
    """

    rho_bar: Positive | None
    c_bar: Positive | None
    corrects = True

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        rho_bar, c_bar = (math.inf if bar is None else bar for bar in (self.rho_bar, self.c_bar))
        log_ratio = torch.zeros_like(r.value) if r.log_ratio is None else r.log_ratio
        steps = (r.reward, r.discount, r.last, r.value, r.next_value)
        found = v_trace(*steps, log_ratio, gamma, rho_bar=rho_bar, c_bar=c_bar)
        return found.advantage, found.target if r.q is None else found.q


@dataclass(kw_only=True)
class Q(Advantage):
    """A learned Q: Ψ_t = Q(s_t, a_t); with `center`, minus E_π[Q(s_t, ·)].

    Sutton et al. 2000, https://papers.nips.cc/paper/1713, theorem 1. The target is the λ-return of expected SARSA (van
    Seijen et al. 2009, https://doi.org/10.1109/ADPRL.2009.4927542): V(s_{t+1}) is E_π[Q], not the Q of the action
    taken. That has less variance, and needs no action after the rollout's last step.

    Args:
        center: subtract E_π[Q(s, ·)].
        dueling: Q as V + A, in two streams.
        lambda_: of the critic's target, the λ-return; 0: expected SARSA's r + γ E_π[Q(s', ·)].
        nodes: of continuous actions, by how many E_π is taken: one number by Gauss-Hermite quadrature, several by
            quasi-random draws, two a dimension at least.
    """

    center: bool
    dueling: bool  # Q is V plus a centred advantage, not one function of the action
    lambda_: Fraction
    nodes: Nodes = 16  # type: ignore[misc]  # of configs from before there was this key, all of discrete actions
    needs_value = False  # it brings its own critic
    bootstraps = True

    @property
    def critic(self) -> str:  # type: ignore[override]
        """The function that is learned: "a" if dueling, else "q"."""
        return "a" if self.dueling else "q"

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        assert r.q is not None
        target = returns.lambda_returns(r.reward, r.discount, r.last, r.next_value, gamma, self.lambda_)
        return (r.q - r.value if self.center else r.q), target


@dataclass(kw_only=True)
class LearnedAdvantage(Advantage):
    """A learned advantage whose mean under π is zero: Ψ_t = A(s_t, a_t). V + A is fitted to Q's target.

    Args:
        lambda_: of the λ-return that V + A is fitted to; 0: r + γV(s').
        nodes: of continuous actions, by how many E_π is taken: one number by Gauss-Hermite quadrature, several by
            quasi-random draws, two a dimension at least.
    """

    lambda_: Fraction
    nodes: Nodes = 16  # type: ignore[misc]  # of configs from before there was this key, all of discrete actions
    needs_value = False
    critic = "a"
    bootstraps = True

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        assert r.q is not None
        target = returns.lambda_returns(r.reward, r.discount, r.last, r.next_value, gamma, self.lambda_)
        return r.q - r.value, target


# names of the shipped advantages in configs/algo/advantage/
KEYS: dict[str, str] = {
    "GAE": "gae",
    "LearnedAdvantage": "a",
    "Mixture": "mixture",
    "NStep": "nstep",
    "Ones": "ones",
    "Q": "q",
    "RewardToGo": "reward_to_go",
    "TD": "td",
    "TotalReturn": "total_return",
    "VTrace": "vtrace",
}
