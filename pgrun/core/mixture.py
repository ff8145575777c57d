"""Ψ_t as a linear sum of its forms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pgrun.core import returns
from pgrun.core.advantages import Advantage, Returns


@dataclass(kw_only=True)
class Mixture(Advantage):
    """A linear sum of several forms: Ψ_t = Σ_k w_k Ψ_t^(k), with weights of any sign and sum.

    Each form weighs the score for an estimate of ∇J, so their sum estimates (Σ_k w_k) ∇J. Beside a term that counts
    from the episode's start (total_return) the others get the factor γ^t, so that all have one unit.

    The critic's target is the mean of the terms' targets by |w_k|. Each of them is r_t and what follows, so that its
    mean given s_t (and a_t, for a critic of actions) is an operator on the critic that contracts by γ or more and has
    the fixed point V^π (Q^π). A mean of such operators is one. Σ_k w_k target_k is none: a sum other than 1 moves the
    fixed point, and weights of both signs may drive the critic away from it.

    Beside q or a, whose critic is one of actions, V is that critic's mean under π, for all terms.

    Args:
        terms: forms of Ψ, each with the keys that it has by itself.
        weights: of each form, of any sign and sum; the sum scales the gradient, and a weight of 0 leaves its form out.
    """

    terms: Mapping[str, Advantage]
    weights: Mapping[str, float]

    def wrong(self) -> str | None:
        """Check the weights and the terms; see `Advantage.wrong`."""
        known = ", ".join(self.terms)
        if unknown := [name for name in self.weights if name not in self.terms]:
            return f"algo.advantage.weights.{unknown[0]} has no term; there are {known}"
        if endless := [name for name, weight in self.weights.items() if not math.isfinite(weight)]:
            return f"algo.advantage.weights.{endless[0]}={self.weights[endless[0]]} is not finite; use a number"
        if not self.used:
            return f"algo.advantage.weights are all 0, which leaves nothing of Ψ; use a weight for one of {known}"
        critics = {term.critic: name for name, (term, _) in self.used.items() if term.critic != "v"}
        if len(critics) > 1:
            return (
                f"algo.advantage.weights: {critics['q']} learns Q in one piece and {critics['a']} as V + A, and all "
                f"terms share one critic; use algo.advantage.terms.{critics['q']}.dueling=true, or one of the two alone"
            )
        for name, (term, _) in self.used.items():
            if wrong := term.wrong():
                return wrong.replace("algo.advantage.", f"algo.advantage.terms.{name}.")
        return None

    @property
    def used(self) -> dict[str, tuple[Advantage, float]]:
        """The terms whose weight is not 0."""
        return {name: (self.terms[name], weight) for name, weight in self.weights.items() if weight}

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return sum(self.weights.values())

    @property
    def note(self) -> str:  # type: ignore[override]
        """The sum, what its weights sum to, and what is biased."""
        psi = " ".join(f"{'-' if w < 0 else '+'} {abs(w):g} {name}" for name, (_, w) in self.used.items())
        said = f"Ψ = {psi.removeprefix('+ ')}: the weights sum to {self.total:g}"
        if abs(self.total) <= 1e-6:
            said += ", so the terms' gradients cancel but for their biases"
        elif abs(self.total - 1.0) > 1e-6:
            said += f", which scales the policy's gradient by {self.total:g} where Ψ is not normalised"
            said += " (J is descended)" if self.total < 0.0 else ""
        biased = ", ".join(name for name, (term, _) in self.used.items() if term.bootstraps)
        return said + (f"; biased by the critic's error: {biased}" if biased else "")

    @property
    def critic(self) -> str:  # type: ignore[override]
        """The function that is learned: of the terms that bring a critic of actions theirs, else V."""
        return next((term.critic for term, _ in self.used.values() if term.critic != "v"), "v")

    @property
    def nodes(self) -> int:  # type: ignore[override]
        """The nodes of the critic of actions."""
        return max((term.nodes for term, _ in self.used.values()), default=0)

    @property
    def needs_value(self) -> bool:  # type: ignore[override]
        """Whether a term needs a learned V that none brings."""
        return self.critic == "v" and any(term.needs_value for term, _ in self.used.values())

    @property
    def of_rewards(self) -> bool:  # type: ignore[override]
        """Whether a term depends on the rewards."""
        return any(term.of_rewards for term, _ in self.used.values())

    @property
    def whole_episodes(self) -> bool:  # type: ignore[override]
        """Whether a term needs whole episodes."""
        return any(term.whole_episodes for term, _ in self.used.values())

    @property
    def discounted(self) -> bool:  # type: ignore[override]
        """Whether a term counts from the episode's start."""
        return any(term.discounted for term, _ in self.used.values())

    @property
    def bootstraps(self) -> bool:  # type: ignore[override]
        """Whether a term counts on the critic."""
        return any(term.bootstraps for term, _ in self.used.values())

    @property
    def corrects(self) -> bool:  # type: ignore[override]
        """Whether a term asks for the probabilities of the policy that acted."""
        return any(term.corrects for term, _ in self.used.values())

    def __call__(self, r: Returns, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute Ψ and the target; see `Advantage`."""
        parts = [(weight, term.discounted, *term(r, gamma)) for term, weight in self.used.values()]
        time = gamma ** returns.steps_since_start(r.last).to(r.reward) if self.discounted else None  # γ^t
        psi = torch.stack(
            [weight * (psi if time is None or discounted else time * psi) for weight, discounted, psi, _ in parts]
        ).sum(0)
        size = sum(abs(weight) for weight, *_ in parts)
        return psi, torch.stack([abs(weight) / size * target for weight, _, _, target in parts]).sum(0)
