"""Guarantees of a better policy hold on random MDPs without end: exact, by linear solves."""

import torch
from torch.testing import assert_close

from pgrun.core.tabular import MDP, random_mdp

GAMMA = 0.8


def draw(seed, states=4, actions=3):
    """A random MDP and two random policies [S, A]."""
    g = torch.Generator().manual_seed(seed)
    mdp = random_mdp(states, actions, GAMMA, g)
    logits = 1.5 * torch.randn(2, states, actions, generator=g, dtype=torch.float64)
    return mdp, mdp.policy(logits[0]), mdp.policy(logits[1])


def surrogate(mdp, old, new):
    """L(π′) = η(π) + Σ_s ρ_π(s) Σ_a π′(a|s) A_π(s, a)."""
    return mdp.objective(old) + (mdp.visits(old).unsqueeze(-1) * new * mdp.advantage(old)).sum()


def test_the_performance_difference_identity():
    """η(π′) = η(π) + Σ_s ρ_π′(s) Σ_a π′(a|s) A_π(s, a), Kakade & Langford 2002, lemma 6.1."""
    for seed in range(20):
        mdp, old, new = draw(seed)
        difference = (mdp.visits(new).unsqueeze(-1) * new * mdp.advantage(old)).sum()
        assert_close(mdp.objective(new) - mdp.objective(old), difference, rtol=0.0, atol=1e-12)
        wrong = surrogate(mdp, old, new) - mdp.objective(old)  # the old policy's visits: not the identity
        assert (wrong - difference).abs() > 1e-3


def test_the_surrogate_has_the_objectives_gradient_at_the_old_policy():
    for seed in range(5):
        mdp, old, _ = draw(seed)
        logits = old.log().requires_grad_()
        (gradient,) = torch.autograd.grad(surrogate(mdp, old, mdp.policy(logits)), logits)
        assert_close(gradient.flatten(), mdp.gradient(old.log()), rtol=0.0, atol=1e-12)


def test_the_objective_is_at_least_the_surrogate_less_its_penalty():
    """η(π′) ≥ L(π′) − C max KL, C = 4εγ/(1−γ)², ε = max |A|: Schulman et al. 2015, theorem 1."""
    broken = 0
    for seed in range(40):
        mdp, old, far = draw(seed)
        for step in (0.01, 0.1, 0.5, 1.0):
            new = (old.log() + step * (far.log() - old.log())).softmax(-1)
            kl = (old * (old.log() - new.log())).sum(-1).max()
            c = 4.0 * mdp.advantage(old).abs().max() * GAMMA / (1.0 - GAMMA) ** 2
            eta, bound = mdp.objective(new), surrogate(mdp, old, new)
            assert eta >= bound - c * kl - 1e-12
            broken += int(eta < bound - 1e-6)
    assert broken > 20  # the surrogate alone is no lower bound


def aliased(seed):
    """States that look alike, so that no greedy policy is safe: 6 states, 2 observations."""
    g = torch.Generator().manual_seed(seed)
    mdp = random_mdp(6, 3, 0.9, g)
    return MDP(mdp.transition, mdp.reward, mdp.start, 0.9, torch.tensor([0, 0, 0, 1, 1, 1]))


def greedy(mdp, pi):
    """The policy over observations that is best against A_π under π's visits, [S, A]."""
    weight = torch.zeros(2, 3, dtype=torch.float64).index_add(
        0, mdp.sees, mdp.visits(pi).unsqueeze(-1) * mdp.advantage(pi)
    )
    return torch.nn.functional.one_hot(weight.argmax(-1), 3).double()[mdp.sees]


def conservative_step(mdp, pi):
    """π ← (1 − α)π + απ′ with the α that the lower bound is best at, and the least gain, 𝔸²(1−γ)²/(8εγ).

    Kakade & Langford 2002, in the form of Schulman et al. 2015, eq. 6: η − η_old ≥ α𝔸 − 2εγ/(1−γ)² α².
    """
    target, gamma = greedy(mdp, pi), mdp.gamma
    per_state = (target * mdp.advantage(pi)).sum(-1)
    a, epsilon = mdp.visits(pi) @ per_state, per_state.abs().max()
    alpha = (a * (1.0 - gamma) ** 2 / (4.0 * epsilon * gamma)).clamp(max=1.0)
    gain = alpha * a - 2.0 * epsilon * gamma / (1.0 - gamma) ** 2 * alpha**2
    return (1.0 - alpha) * pi + alpha * target, gain


def test_conservative_policy_iteration_improves_at_every_step_by_what_it_promises():
    for seed in range(8):
        mdp = aliased(seed)
        pi = torch.full((6, 3), 1.0 / 3.0, dtype=torch.float64)
        before = first = mdp.objective(pi)
        for _ in range(60):
            pi, gain = conservative_step(mdp, pi)
            after = mdp.objective(pi)
            assert gain >= -1e-12
            assert after >= before + gain - 1e-12
            before = after
        assert before > first + 0.01


def test_whole_greedy_steps_do_get_worse():
    """The control: α = 1 on the same MDPs."""
    worse = 0
    for seed in range(8):
        mdp = aliased(seed)
        pi = torch.full((6, 3), 1.0 / 3.0, dtype=torch.float64)
        for _ in range(10):
            after = greedy(mdp, pi)
            worse += int(mdp.objective(after) < mdp.objective(pi) - 1e-6)
            pi = after
    assert worse > 0


def test_soft_policy_iteration_improves_the_soft_value_of_every_state():
    """π′ = softmax(Q_soft / α), Haarnoja et al. 2018, lemma 2; its limit solves V = α log Σ exp(Q/α)."""
    alpha = 0.5
    for seed in range(10):
        mdp, pi, _ = draw(seed)
        before = mdp.value(pi, alpha)
        for i in range(30):
            pi = (mdp.q(before) / alpha).softmax(-1)
            after = mdp.value(pi, alpha)
            assert (after >= before - 1e-12).all()
            if i == 0:
                assert (after - before).max() > 0.05
            before = after
        assert_close(before, alpha * (mdp.q(before) / alpha).logsumexp(-1), rtol=0.0, atol=1e-9)


def test_without_the_entropy_in_the_values_soft_returns_can_fall():
    """The control: softmax(Q/α) of the plain Q."""
    alpha, fell = 0.5, 0
    for seed in range(10):
        mdp, pi, _ = draw(seed)
        for _ in range(10):
            after = (mdp.q(mdp.value(pi)) / alpha).softmax(-1)
            fell += int((mdp.value(after, alpha) < mdp.value(pi, alpha) - 1e-6).any())
            pi = after
    assert fell > 0


def test_policy_iteration_improves_every_state():
    for seed in range(10):
        mdp, pi, _ = draw(seed)
        for _ in range(10):
            better = torch.nn.functional.one_hot(mdp.q(mdp.value(pi)).argmax(-1), 3).double()
            assert (mdp.value(better) >= mdp.value(pi) - 1e-12).all()
            pi = better
        assert mdp.advantage(pi).max() < 1e-9  # no better action anywhere
