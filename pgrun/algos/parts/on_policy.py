"""Parts that on-policy algorithms share: an actor, perhaps a critic, and Ψ_t; each adds its own gradient step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pgrun.algos.parts.scores import subtract_optimal
from pgrun.algos.parts.stochastic_policy import StochasticPolicy
from pgrun.config.ranges import Count
from pgrun.core import losses, ranks
from pgrun.core.advantages import Advantage, Returns
from pgrun.core.baselines import Baseline, check_combination
from pgrun.data.minibatches import Minibatches
from pgrun.data.types import Transition, columns, flatten_time, fresh, mask_mean, rows, sequences
from pgrun.errors import UserError
from pgrun.nn import ActorCritic
from pgrun.nn.distributions import Distribution
from pgrun.nn.normalize import RewardScale
from pgrun.nn.precision import in_full
from pgrun.optim.compiled import Recorded
from pgrun.optim.gradient_step import GradientStep, Loss
from pgrun.optim.perhaps import PerhapsRecorded


class OnPolicy(StochasticPolicy):
    """A policy, a critic where the baseline is learned, and the weight Ψ_t of the score.

    Args:
        advantage: the form of Ψ_t, which weighs the score.
        baseline: what is taken off Ψ_t.
        rollout: T, steps in each environment between updates, which the collector takes.
        whole_episodes: whether the collector brings whole episodes instead.
        normalize_reward: divide rewards by the running standard deviation of the discounted return.

    Raises:
        UserError: advantage, baseline, collector and step don't go together.
    """

    own_steps = True
    learns_from = "rollouts"
    adds_correction: ClassVar[bool] = False  # whether the policy's loss has the term `correction`

    def __init__(
        self,
        *,
        advantage: Advantage,
        baseline: Baseline,
        rollout: Count | None,
        whole_episodes: bool,
        normalize_reward: bool,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if wrong := check_combination(advantage, baseline, whole_episodes):
            raise UserError(wrong)
        if baseline.per_parameter and not self.adds_correction:
            raise UserError(
                "algo.baseline.per_parameter=true makes a gradient, not a weight of the score: it goes with plain and "
                "natural steps, as algo=reinforce, vpg and npg take; here use algo.baseline.per_parameter=false"
            )
        if normalize_reward and not (advantage.of_rewards or baseline.learned):
            raise UserError(
                "algo.normalize_reward=true: rewards count for nothing here, as Ψ is always 1; "
                "use algo.normalize_reward=false"
            )
        self.checked = False  # whether the data has what the advantage needs
        self.compares = advantage.of_rewards  # else it climbs a likelihood, and compares nothing
        self.advantage, self.baseline = advantage, baseline
        self.rollout = None if whole_episodes else rollout
        self.whole_episodes = whole_episodes
        learned = baseline.learned or advantage.critic != "v"
        spaces, kind, nodes = (self.obs_space, self.action_space), advantage.critic, advantage.nodes
        self.model = ActorCritic(self.network, *spaces, critic=learned, kind=kind, nodes=nodes, hold=self.rollout)
        if self.compile_steps and self.model.recurrent:
            raise UserError("compile=true can't unroll a network with a memory; use compile=false")
        self.reward_scale = RewardScale(self.gamma) if normalize_reward else None
        self.settle()
        even = not (whole_episodes or baseline.needs_scores)  # the same operations for each rollout
        recorded = self.compile_steps and even and self.device.type == "cpu"
        self.compiled_estimates = (
            PerhapsRecorded(self.estimates, (self,), (GradientStep, Recorded)) if recorded else None
        )

    @property
    def note(self) -> str:
        """The note on Ψ_t that a run prints as it begins."""
        return self.advantage.note

    def gradient_step(self, parameters: Iterable[nn.Parameter], loss: Loss, **options: Any) -> GradientStep:
        """Make a gradient step that knows the model's Fisher matrix; see `Learner.gradient_step`."""
        return super().gradient_step(parameters, loss, **{"fisher": self.fisher, **options})

    def fisher(self, batch: Transition, *_: Any) -> tuple[Tensor, Tensor]:
        """Compute the log-likelihood of actions and values drawn from the model, and which steps are valid; both [...].

        It is log π(a|s) + log N(v; V(s), 1).

        K-FAC looks for the layers' own weights, so products of rounded copies are made in full here.
        """
        with in_full(self.model):
            pi, value = self.model(batch)
        with torch.no_grad():
            action, v = pi.sample(), value + torch.randn_like(value)
        return pi.log_prob(action) - 0.5 * (value - v).square(), batch.valid

    def forget_episodes(self) -> None:
        """Reset the running returns; see `Algorithm.forget_episodes`."""
        if self.reward_scale is not None:
            self.reward_scale.carry.zero_()

    def record(self, pi: Distribution, action: Tensor) -> dict[str, Tensor]:
        """Record log π(a|s) where Ψ_t compares policies; see `StochasticPolicy.record`."""
        return {"log_prob": pi.log_prob(action)} if self.advantage.corrects else {}

    def check_behaviour(self, batch: Transition) -> None:
        """Raise UserError where a rollout lacks the probabilities with which its actions were taken."""
        known = batch.extras.get("log_prob")
        if known is None or bool(known[batch.valid].isnan().any()):
            raise UserError(
                "algo/advantage=vtrace, and a mixture with it, needs the probabilities with which the data's actions "
                "were taken, and the data has none (log_probs); use algo/advantage=nstep or gae"
            )
        self.checked = True

    def scaled(self, batch: Transition) -> Transition:
        """Scale a rollout's rewards, if the algorithm does; the running statistics see them first.

        A penalty that was taken off the rewards stays unscaled.
        """
        if self.advantage.corrects and not self.checked:
            self.check_behaviour(batch)
        if self.reward_scale is None:
            return batch
        penalty = batch.extras.get("penalty", torch.zeros_like(batch.reward))
        earned = batch.reward + penalty
        new = fresh(batch)
        new_columns = slice(None) if new is None else new.any(0)  # whole columns, as their episodes go on
        if (r := earned[:, new_columns]).numel():
            self.reward_scale.observe(r, batch.last[:, new_columns], batch.valid[:, new_columns])
        return batch._replace(reward=self.reward_scale(earned) - penalty)

    def advantages_and_targets(self, batch: Transition, value: Tensor) -> tuple[Tensor, Tensor]:
        """Compute Ψ_t and the critic's target, both [T, B].

        Args:
            batch: a rollout.
            value: the critic's estimates, [T, B].
        """
        last = batch.last | ~batch.valid  # filler is no part of the episode after it
        v, q = (self.model.state_value(batch), value) if self.model.of_actions else (value, None)
        returns = Returns(batch.reward, batch.discount, last, v, self.model.next_value(batch), q, self.log_ratio(batch))
        psi, target = self.advantage(returns, self.gamma)
        return self.baseline(psi, last, batch.valid, self.weight_inside(batch)), target

    def log_ratio(self, batch: Transition) -> Tensor | None:
        """Compute log π(a_t|s_t) − log μ(a_t|s_t), μ the policy that acted, [T, B]; None where Ψ_t asks for none."""
        if not self.advantage.corrects:
            return None
        return torch.where(batch.valid, self.log_prob(batch) - batch.extras["log_prob"], 0.0)

    def prepared(self, batch: Transition) -> Transition:
        """Add what `advantages_and_targets` and `factor` need to a batch; most algorithms need nothing."""
        return batch

    def factor(self, batch: Transition) -> Tensor:
        """Return the factor of Ψ_t and of any baseline, [T, B]; 1 for most algorithms."""
        return torch.ones_like(batch.reward)

    def weight_inside(self, batch: Transition) -> Tensor | None:
        """Return the importance weights w_t that Ψ_t contains already, [T, B]; None: 1.

        A baseline is multiplied by them, too.
        """
        return None

    @torch.no_grad()
    def estimate(self, batch: Transition) -> Transition:
        """Compute Ψ_t and all else that an update needs of a rollout [T, B].

        No loss reads the successors, so `next_obs` becomes `obs`, which frees them.

        Returns:
            The rollout with new extras, all [T, B, ...]: `psi` (Ψ_t), `target` and `value` (of the critic), `log_prob`
            and `pi` (log π_old(a_t|s_t) and π_old's parameters). With a baseline per parameter also `correction` [P].
        """
        batch = self.scaled(batch)
        return batch._replace(
            next_obs=batch.obs, extras={**batch.extras, **(self.compiled_estimates or self.estimates)(batch)}
        )

    def estimates(self, batch: Transition) -> dict[str, Tensor]:
        """Compute the new extras that `estimate` returns, of a rollout [T, B] with scaled rewards."""
        pi, value = self.model(batch)
        psi, target = self.advantages_and_targets(batch, value)
        factor = self.factor(batch)
        computed = {"target": target, "value": value, "log_prob": pi.log_prob(batch.action), "pi": pi.params()}
        if self.baseline.needs_scores:
            inner_weight = self.weight_inside(batch)
            baseline_factor = factor if inner_weight is None else factor * inner_weight
            computed |= subtract_optimal(self.model, batch, psi * factor, baseline_factor, self.baseline.per_parameter)
        else:
            computed["psi"] = psi * factor
        return computed

    @property
    def compile_seconds(self) -> float:
        """Seconds that compiling has taken."""
        return super().compile_seconds + (0.0 if self.compiled_estimates is None else self.compiled_estimates.seconds)

    def correction(self, batch: Transition) -> Tensor | float:
        """Return ⟨c, θ⟩ with a constant c, which subtracts a baseline per parameter from the gradient.

        A loss −mean(Ψ_t log π(a_t|s_t)) over the valid steps adds it. It is 0 with any other baseline.
        """
        if "correction" not in batch.extras:
            return 0.0
        return torch.dot(batch.extras["correction"], torch.cat([p.flatten() for p in self.model.actor.parameters()]))

    def minibatches(self, batch: Transition, epochs: int, size: int | None) -> Minibatches:
        """Return a rollout [T, B] `epochs` times in random order, in pieces of `size` steps (None: all).

        A piece is rows [size], or sequences [L, size / L] where the network is recurrent. The rest of an epoch that
        fills no piece is left out. With several ranks, each gives its share of the rows to every piece.
        """
        if self.model.recurrent:
            longest = ranks.largest_count(batch.reward.shape[0])
            length = min(self.model.sequence or longest, longest)
            whole, pick = sequences(batch, min(length, batch.reward.shape[0])), columns
            n, size = whole.reward.shape[1], None if size is None else max(size // length, 1)
        else:
            whole, pick = flatten_time(batch), rows
            if self.whole_episodes:  # much of a rollout of unequal episodes is padding
                whole = rows(whole, whole.valid.nonzero().squeeze(-1))
            n = whole.reward.shape[0]
        total = ranks.total_count(n)
        m = total if size is None else min(size, total)
        shares = [slice(i * m * n // total, (i + 1) * m * n // total) for i in range(total // m)]
        return Minibatches(whole, n, pick, epochs, shares, entire=m == total)

    def value_loss(self, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute ½ mean (V − V̂)² on rows [M] or sequences [L, M]."""
        error = losses.value_error(self.model.value(batch), batch.extras["target"])
        loss = mask_mean(error, batch.valid)
        return loss, {"loss/value": loss.detach()}
