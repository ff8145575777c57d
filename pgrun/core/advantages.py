"""Forms of Ψ_t, the weight of the score ∇log π(a_t|s_t).

Each is called with a rollout's [T, B] tensors and returns (Ψ, target): the weight, and what the critic is fitted to.
Without a critic, `value` and `next_value` are zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pgrun.config.ranges import Count, Fraction
from pgrun.core import returns


class Returns(NamedTuple):
    """The tensors that an advantage is computed from, all [T, B]."""

    reward: Tensor
    discount: Tensor  # 0 where the MDP terminated, else 1
    last: Tensor  # bool
    value: Tensor  # V(s_t); the mean under π where the critic is Q
    next_value: Tensor  # V(s_{t+1}) at the true successor
    q: Tensor | None = None  # Q(s_t, a_t), where the critic is one of actions; read in no other case


class Advantage:
    """A form of Ψ_t.

    Attributes:
        needs_value: it makes no sense without a learned V.
        of_rewards: it depends on the rewards.
        critic: the function learned beside the policy: V(s) (v), Q(s, a) (q) or an advantage (a).
        whole_episodes: it needs rollouts of whole episodes.
        discounted: it counts from the episode's start, and so has the factor γ^t.
    """

    needs_value = True
    of_rewards = True
    critic = "v"
    whole_episodes = False
    discounted = False

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

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        a = returns.gae(r.reward, r.discount, r.last, r.value, r.next_value, gamma, self.lambda_)
        return a, a + r.value


@dataclass(kw_only=True)
class Q(Advantage):
    """A learned Q: Ψ_t = Q(s_t, a_t); with `center`, minus Σ_a π(a|s_t) Q(s_t, a).

    Sutton et al. 2000, https://papers.nips.cc/paper/1713, theorem 1. The target is the λ-return of expected SARSA (van
    Seijen et al. 2009, https://doi.org/10.1109/ADPRL.2009.4927542): V(s_{t+1}) is Σ_a π Q, not the Q of the action
    taken. That has less variance, and needs no action after the rollout's last step.

    Args:
        center: subtract Σ_a π(a|s) Q(s, a).
        dueling: Q as V + A, in two streams.
        lambda_: of the critic's target, the λ-return; 0: expected SARSA's r + γ Σ_a π(a|s') Q(s', a).
    """

    center: bool
    dueling: bool  # Q is V plus a centred advantage, not one output per action
    lambda_: Fraction
    needs_value = False  # it brings its own critic

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
    """

    lambda_: Fraction
    needs_value = False
    critic = "a"

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        assert r.q is not None
        target = returns.lambda_returns(r.reward, r.discount, r.last, r.next_value, gamma, self.lambda_)
        return r.q - r.value, target


@dataclass(kw_only=True)
class Mixture(Advantage):
    """A weighted mean of several forms: Ψ_t = Σ_k w_k Ψ_t^(k), Σ_k w_k = 1. A weight of 0 leaves its term out.

    Beside a term that counts from the episode's start (total_return) the others get the factor γ^t, so that all have
    one unit.

    Args:
        terms: forms of Ψ, each with the keys that it has by itself.
        weights: of each form; they sum to 1, and a weight of 0 leaves its form out.
    """

    terms: Mapping[str, Advantage]
    weights: Mapping[str, float]

    def wrong(self) -> str | None:
        """Check the weights and the terms; see `Advantage.wrong`."""
        known = ", ".join(self.terms)
        if unknown := [name for name in self.weights if name not in self.terms]:
            return f"algo.advantage.weights.{unknown[0]} has no term; there are {known}"
        if abs(sum(self.weights.values()) - 1.0) > 1e-6:
            weights_text = ", ".join(f"{name}={weight:g}" for name, weight in self.weights.items() if weight)
            return f"algo.advantage.weights must sum to 1, but {weights_text or 'all are 0'}: that is {self.total:g}"
        for name, (term, _) in self.used.items():
            if term.critic != "v":
                return f"algo.advantage.weights.{name}: a mixture is of forms that share a V; {name} stands alone"
            if wrong := term.wrong():
                return wrong.replace("algo.advantage.", f"algo.advantage.terms.{name}.")
        return None

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return sum(self.weights.values())

    @property
    def used(self) -> dict[str, tuple[Advantage, float]]:
        """The terms whose weight is not 0."""
        return {name: (self.terms[name], weight) for name, weight in self.weights.items() if weight}

    @property
    def needs_value(self) -> bool:  # type: ignore[override]
        """Whether a term needs a learned V."""
        return any(term.needs_value for term, _ in self.used.values())

    @property
    def whole_episodes(self) -> bool:  # type: ignore[override]
        """Whether a term needs whole episodes."""
        return any(term.whole_episodes for term, _ in self.used.values())

    @property
    def discounted(self) -> bool:  # type: ignore[override]
        """Whether a term counts from the episode's start."""
        return any(term.discounted for term, _ in self.used.values())

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        parts = [(weight, term.discounted, *term(r, gamma)) for term, weight in self.used.values()]
        time = gamma ** returns.steps_since_start(r.last).to(r.reward) if self.discounted else None  # γ^t
        psi = torch.stack(
            [weight * (psi if time is None or discounted else time * psi) for weight, discounted, psi, _ in parts]
        ).sum(0)
        return psi, torch.stack([weight * target for weight, _, _, target in parts]).sum(0)


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
}
