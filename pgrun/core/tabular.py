"""Small, fully known MDPs: V by a linear solve, ∇J through it, every trajectory by enumeration.

The policy is a softmax table. Run on all trajectories, each weighed by its probability, an estimator has an exact mean
and variance, without sampling.

Shapes: S states, O observations (O = S unless states look alike), A actions, T time, N trajectories, P = O·A
parameters. Everything is double precision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pgrun.core.advantages import Returns


class Trajectories(NamedTuple):
    """Whole episodes side by side, N of them, padded after their ends; every tensor but `world` is [T, N]."""

    state: Tensor  # int64
    obs: Tensor  # int64, what the policy sees of the state
    action: Tensor  # int64
    reward: Tensor
    discount: Tensor  # 0 where the episode ended, else 1
    next_state: Tensor  # int64; 0 where the episode ended
    last: Tensor  # bool
    valid: Tensor  # bool, False on padding
    world: Tensor  # [N] the environment's factor of the probability, μ(s_0) Π P(s_{t+1}|s_t, a_t)

    def returns(self, value: Tensor) -> Returns:
        """Return the tensors that an advantage is computed from, with the table V(s) [S]."""
        return Returns(self.reward, self.discount, self.last, value[self.state], value[self.next_state])

    def pick(self, index: Tensor) -> Trajectories:
        """Return the trajectories at `index` [M], in that order."""
        return Trajectories(*(x[..., index] for x in self))


@dataclass(frozen=True)
class MDP:
    """A Markov decision process as tables."""

    transition: Tensor  # [S, A, S] P(s'|s, a); the episode ends with what a row lacks to 1
    reward: Tensor  # [S, A]
    start: Tensor  # [S] the distribution of s_0
    gamma: float
    sees: Tensor  # [S] int64, the observation of each state

    def policy(self, logits: Tensor) -> Tensor:
        """Return π(a|s) [S, A] of a table of logits [O, A]."""
        return logits.softmax(-1)[self.sees]

    def value(self, pi: Tensor, temperature: float = 0.0) -> Tensor:
        """Solve (I − γP_π) V = r_π for V_π [S].

        With a temperature α it is the soft value: α H(π(·|s)) is added to the reward.
        """
        reward = self.reward - temperature * torch.log(pi) if temperature else self.reward
        p = torch.einsum("sa,sat->st", pi, self.transition)
        eye = torch.eye(len(p), dtype=p.dtype)
        return torch.linalg.solve(eye - self.gamma * p, (pi * reward).sum(-1))

    def q(self, value: Tensor) -> Tensor:
        """Compute Q(s, a) = r(s, a) + γ E[V(s')], [S, A]."""
        return self.reward + self.gamma * self.transition @ value

    def advantage(self, pi: Tensor) -> Tensor:
        """Compute A_π(s, a) [S, A]."""
        value = self.value(pi)
        return self.q(value) - value.unsqueeze(-1)

    def visits(self, pi: Tensor) -> Tensor:
        """Compute ρ_π(s) = Σ_t γ^t P(s_t = s), not normalised; [S]."""
        p = torch.einsum("sa,sat->ts", pi, self.transition)
        return torch.linalg.solve(torch.eye(len(p), dtype=p.dtype) - self.gamma * p, self.start)

    def objective(self, pi: Tensor) -> Tensor:
        """Compute J = Σ_s μ(s) V_π(s), 0-dim."""
        return self.start @ self.value(pi)

    def gradient(self, logits: Tensor) -> Tensor:
        """Compute ∇J with respect to the logits [O, A], flat [P], by autograd through the linear solve."""
        logits = logits.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.objective(self.policy(logits)), logits)
        return gradient.flatten()

    def limited(self, steps: int) -> MDP:
        """Return the same MDP for at most `steps` steps: states t·S + s, which the policy observes as s."""
        s, a = self.reward.shape
        transition = torch.zeros(steps, s, a, steps, s, dtype=self.transition.dtype)
        for t in range(steps - 1):
            transition[t, :, :, t + 1] = self.transition
        return MDP(
            transition.reshape(steps * s, a, steps * s),
            self.reward.repeat(steps, 1),
            torch.cat([self.start, torch.zeros(s * (steps - 1), dtype=self.start.dtype)]),
            self.gamma,
            self.sees.repeat(steps),
        )

    def paying(self, reward: Tensor) -> MDP:
        """Return the same MDP with other rewards [S, A]."""
        return replace(self, reward=reward)


def enumerate_trajectories(mdp: MDP, longest: int = 64) -> Trajectories:
    """Enumerate every trajectory of positive probability, under a policy that gives every action some.

    Raises:
        ValueError: an episode can outlast `longest` steps.
    """
    s, outcome = len(mdp.start), _outcomes(mdp)
    now = mdp.start.nonzero().squeeze(-1)  # [N] the states that are open
    world = mdp.start[now]
    rows = torch.zeros(0, len(now), 3, dtype=torch.long)  # [t, N, (s, a, s')]
    closed: list[tuple[Tensor, Tensor]] = []
    while len(now):
        if len(rows) == longest:
            raise ValueError(f"an episode can outlast {longest} steps: limit the MDP first")
        i, action, successor = outcome[now].nonzero().unbind(-1)
        step = torch.stack([now[i], action, successor], -1)
        rows, world = torch.cat([rows[:, i], step.unsqueeze(0)]), world[i] * outcome[now[i], action, successor]
        open_ = successor < s
        closed.append((rows[:, ~open_], world[~open_]))
        rows, world, now = rows[:, open_], world[open_], successor[open_]
    width = max(len(r) for r, _ in closed)
    padded = [torch.cat([r, r.new_full((width - len(r), r.shape[1], 3), -1)]) for r, _ in closed]
    return _trajectories(mdp, torch.cat(padded, 1), torch.cat([w for _, w in closed]))


def sample_trajectories(mdp: MDP, pi: Tensor, n: int, steps: int, generator: torch.Generator) -> Trajectories:
    """Draw `n` episodes of π [S, A]; none may outlast `steps`."""
    s, outcome = len(mdp.start), _outcomes(mdp)

    def draw(p: Tensor) -> Tensor:
        return torch.multinomial(p, 1, generator=generator).squeeze(-1)

    now, world = draw(mdp.start.expand(n, s)), torch.ones(n, dtype=pi.dtype)
    rows, open_ = torch.full((steps, n, 3), -1), torch.ones(n, dtype=torch.bool)
    for t in range(steps):
        action = draw(pi[now])
        successor = draw(outcome[now, action])
        rows[t] = torch.where(open_.unsqueeze(-1), torch.stack([now, action, successor], -1), -1)
        open_ &= successor < s
        now = torch.where(open_, successor, 0)
    if open_.any():
        raise ValueError(f"an episode outlasted {steps} steps: limit the MDP first")
    return _trajectories(mdp, rows, world)


def _outcomes(mdp: MDP) -> Tensor:
    """Compute the probability of each successor and, as number S, of the episode's end; [S, A, S + 1]."""
    ends = 1.0 - mdp.transition.sum(-1, keepdim=True)
    return torch.cat([mdp.transition, torch.where(ends > 1e-12, ends, 0.0)], -1)


def _trajectories(mdp: MDP, rows: Tensor, world: Tensor) -> Trajectories:
    """Make trajectories of rows of (s, a, s'), [T, N, 3]; −1 on padding and s' = S at the end."""
    valid = rows[..., 0] >= 0
    state, action, successor = rows.clamp(min=0).unbind(-1)
    ended = successor == len(mdp.start)
    reward = torch.where(valid, mdp.reward[state, action], 0.0)
    discount = (valid & ~ended).to(reward.dtype)
    next_state = torch.where(ended, 0, successor)
    return Trajectories(state, mdp.sees[state], action, reward, discount, next_state, ended | ~valid, valid, world)


def log_probs(trajectories: Trajectories, pi: Tensor) -> Tensor:
    """Compute log π(a_t|s_t) [T, N] for π [S, A], 0 on padding."""
    return torch.where(trajectories.valid, pi[trajectories.state, trajectories.action].log(), 0.0)


def probabilities(trajectories: Trajectories, pi: Tensor) -> Tensor:
    """Compute the probability of each trajectory under π [S, A]; [N], summing to 1 over all trajectories."""
    return trajectories.world * log_probs(trajectories, pi).sum(0).exp()


def scores(trajectories: Trajectories, logits: Tensor) -> Tensor:
    """Compute g_t = ∇ log π(a_t|s_t) for a table of logits [O, A], 0 on padding; [T, N, P]."""
    o, a = logits.shape
    obs, action, valid = trajectories.obs, trajectories.action, trajectories.valid
    row = torch.nn.functional.one_hot(action, a) - logits.softmax(-1)[obs]  # [T, N, A]
    table = torch.nn.functional.one_hot(obs, o).unsqueeze(-1) * row.unsqueeze(-2)  # [T, N, O, A]
    return (table * valid[..., None, None]).flatten(-2)


def moments(estimates: Tensor, probability: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean [P] and the covariance [P, P] of estimates [N, P] with probabilities [N]."""
    mean = probability @ estimates
    centred = estimates - mean
    return mean, centred.T @ (probability.unsqueeze(-1) * centred)


def bridge(gamma: float = 0.9, steps: int = 5) -> MDP:
    """Build an MDP of three places in a row: the near bank, the bridge, the far bank. Actions: wait and go.

    The far bank pays best, the bridge nothing. On the bridge one may fall, which ends the episode, less likely while
    going than waiting. The step limit ends it, too. The policy observes the place, not the time.
    """
    near, middle, far = range(3)
    transition = torch.zeros(3, 2, 3, dtype=torch.float64)
    transition[near, 0, near] = 1.0
    transition[near, 1, middle], transition[near, 1, near] = 0.8, 0.2
    transition[middle, 0, middle] = 0.5  # else it falls
    transition[middle, 1, far], transition[middle, 1, near] = 0.6, 0.2
    transition[far, 0, far] = 1.0
    transition[far, 1, middle] = 1.0
    reward = torch.tensor([[1.0, 0.5], [-1.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    start = torch.tensor([0.8, 0.2, 0.0], dtype=torch.float64)
    return MDP(transition, reward, start, gamma, torch.arange(3)).limited(steps)


def random_mdp(states: int, actions: int, gamma: float, generator: torch.Generator, ends: float = 0.0) -> MDP:
    """Draw an MDP: transitions uniform over the simplex, standard normal rewards.

    Every step ends the episode with probability `ends`.
    """
    weight = -torch.rand(states, actions, states, generator=generator, dtype=torch.float64).log()  # Exp(1)
    transition = (1.0 - ends) * weight / weight.sum(-1, keepdim=True)
    start = torch.rand(states, generator=generator, dtype=torch.float64)
    reward = torch.randn(states, actions, generator=generator, dtype=torch.float64)
    return MDP(transition, reward, start / start.sum(), gamma, torch.arange(states))
