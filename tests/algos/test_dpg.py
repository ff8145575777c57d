"""The deterministic policy gradient where everything is known: linear dynamics, quadratic costs, a linear policy.

With μ(s) = −K s, the return from s is −sᵀP s with P = Q + KᵀRK + γ(A − BK)ᵀP(A − BK); the discounted states of a start
distribution with moment Σ₀ have the moment Σ = Σ₀ + γ(A − BK)Σ(A − BK)ᵀ; and ∇_K J = −2 [RK − γBᵀP(A − BK)] Σ.
"""

import pytest
import torch
from probes import run
from running import parts
from torch import nn
from torch.testing import assert_close

from pgrun.algos.dpg import DPG
from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.loop.evaluate import evaluate

GAMMA = 0.9
A = torch.tensor([[1.0, 0.2], [-0.1, 0.9]], dtype=torch.float64)
B = torch.tensor([[0.1, 0.0], [0.3, 0.5]], dtype=torch.float64)
Q = torch.tensor([[1.0, 0.1], [0.1, 0.5]], dtype=torch.float64)
R = torch.tensor([[0.2, 0.05], [0.05, 0.4]], dtype=torch.float64)
K = torch.tensor([[0.5, -0.2], [0.1, 0.4]], dtype=torch.float64)
START = torch.tensor([[1.0, 0.2], [0.2, 0.5]], dtype=torch.float64)
NUMBERS = "[[{},{}],[{},{}]]"


def solve(closed, constant):
    """X = constant + γ closed X closedᵀ."""
    system = torch.eye(4, dtype=torch.float64) - GAMMA * torch.kron(closed, closed)
    return torch.linalg.solve(system, constant.flatten()).view(2, 2)


CLOSED = A - B @ K
P = solve(CLOSED.T, Q + K.T @ R @ K)
SIGMA = solve(CLOSED, START)
SLOPE = -2.0 * (R @ -K + GAMMA * B.T @ P @ CLOSED)  # ∇_aQ(s, a) at a = μ(s) is SLOPE s
GRADIENT = -SLOPE @ SIGMA  # ∇_K J


def test_the_closed_form_is_the_chain_rule_through_time():
    gain = K.clone().requires_grad_()
    moment, total = START, 0.0
    for t in range(300):
        total = total - GAMMA**t * ((Q + gain.T @ R @ gain) * moment).sum()
        moment = (A - B @ gain) @ moment @ (A - B @ gain).T
    (want,) = torch.autograd.grad(total, gain)
    assert_close(GRADIENT, want)


class TrueQ(nn.Module):
    """Q of the policy −K s."""

    def forward(self, obs, action):
        s, a = obs.double(), action.double()
        after = s @ A.T + a @ B.T
        cost = ((s @ Q) * s).sum(-1) + ((a @ R) * a).sum(-1) + GAMMA * ((after @ P) * after).sum(-1)
        return -cost.unsqueeze(0)


def states(n=8):
    """States whose second moment is that of the discounted ones, less their weight 1/(1 − γ)."""
    root = torch.linalg.cholesky(SIGMA)
    return torch.cat([root.T, -root.T]).repeat(n // 4, 1).float() * 2.0**0.5


def on_a_plane(algo, *overrides):
    """The algorithm for two numbers of state and two of action."""
    two = NUMBERS.format(1, 0, 0, 1)
    world = [f"env.world.{name}={two}" for name in ("dynamics", "control", "state_cost", "effort_cost")]
    return parts(f"algo={algo}", "env=lqr", *world, f"algo.gamma={GAMMA}", "num_envs=2", *overrides).algorithm


def linear(algo, *overrides):
    """The algorithm with a linear policy, −K s."""
    a = on_a_plane(algo, "network.hidden=[]", *overrides)
    with torch.no_grad():
        a.actor.layer.weight.copy_(-K)
        a.actor.layer.bias.zero_()
    return a


def test_the_actors_gradient_is_the_true_one():
    a = linear("dpg")
    assert isinstance(a, DPG)
    a.q = TrueQ()
    obs = states()
    assert_close(obs.double().T @ obs.double() / len(obs), SIGMA, atol=1e-5, rtol=1e-5)
    loss, _ = a.actor_loss(obs, torch.ones(len(obs), dtype=torch.bool))
    (got,) = torch.autograd.grad(loss, a.actor.layer.weight)
    assert_close(got.double(), GRADIENT, atol=1e-4, rtol=1e-4)  # of −J by −K


def test_only_valid_steps_count():
    a, valid = linear("dpg"), torch.tensor([True, False, True, True, False, True, True, True])
    obs, action, y = torch.randn(8, 2), torch.randn(8, 2), torch.randn(8)
    with torch.no_grad():
        for p in a.q.parameters():
            p.copy_(torch.randn_like(p))
    everything = torch.ones(int(valid.sum()), dtype=torch.bool)
    assert_close(a.actor_loss(obs, valid)[0], a.actor_loss(obs[valid], everything)[0])
    some, _ = a.critic_loss(obs, action, y, valid)
    assert_close(some, a.critic_loss(obs[valid], action[valid], y[valid], everything)[0])
    assert_close(some, 0.5 * (a.q(obs, action)[0] - y)[valid].square().mean())


def rollout(t=6, b=3):
    torch.manual_seed(0)
    last = torch.zeros(t, b, dtype=torch.bool)
    last[2, 0] = last[4, 1] = last[5, 2] = True
    discount = torch.ones(t, b)
    discount[4, 1] = 0.0  # one episode ended, the other was cut
    tensors = {"obs": torch.randn(t, b, 2), "action": torch.randn(t, b, 2), "next_obs": torch.randn(t, b, 2)}
    return Transition(
        **tensors, reward=torch.randn(t, b), discount=discount, last=last, valid=torch.ones_like(last), extras={}
    )


def test_sarsas_target():
    """The next action is the one that was taken, but for the last of an episode or a rollout."""
    a, r = on_a_plane("dpg", "network.hidden=[5]"), rollout()
    got = a.target(r).detach()
    for t in range(6):
        for b in range(3):
            s = r.next_obs[t, b]
            follows = t < 5 and not r.last[t, b]
            action = r.action[t + 1, b] if follows else a.actor(s)
            q = float(a.q(s.unsqueeze(0), action.unsqueeze(0)).detach())
            want = float(r.reward[t, b]) + (0.0 if (t, b) == (4, 1) else GAMMA * q)
            assert float(got[t, b]) == pytest.approx(want, abs=1e-5)


# ---------------------------------------------------------------- off-policy, with a compatible critic


def compatible(*overrides):
    """With w such that the critic's slope at μ(s) is the true one, SLOPE s; the policy's bias has no part in it."""
    a = linear("dpg_offpolicy", *overrides)
    with torch.no_grad():
        a.w.copy_(torch.cat([SLOPE.flatten(), torch.zeros(2, dtype=torch.float64)]))
    return a


def test_with_a_compatible_critic_the_gradient_is_the_true_one():
    a, obs = compatible(), states()
    loss, _ = a.actor_loss(obs, torch.ones(8, dtype=torch.bool))
    (got,) = torch.autograd.grad(loss, a.actor.layer.weight)
    assert_close(got.double(), GRADIENT, atol=1e-4, rtol=1e-4)


def test_w_is_the_natural_gradient():
    a, obs = compatible("algo.natural=true", "optimizer=sgd", "algo.actor_lr=0.1", "optimizer.momentum=0"), states()
    before = a.actor_step.theta.clone()
    a.actor_step(obs, torch.ones(8, dtype=torch.bool))
    assert_close(a.actor_step.theta, before + 0.1 * a.w.detach())
    # F⁻¹∇J with F = E[∇_θμ(s) ∇_θμ(s)ᵀ], which is Σ for each row of K
    natural = torch.linalg.solve(SIGMA, GRADIENT.T).T
    assert_close(-natural, SLOPE, atol=1e-8, rtol=1e-8)


def test_the_critic_is_linear_in_the_compatible_features():
    """∇_w Q(s, a) = ∇_θμ(s)(a − μ(s)) by autograd's Jacobian, and w moves along δ times it; V along δ ∇V."""
    a = on_a_plane("dpg_offpolicy", "network.hidden=[4]")
    with torch.no_grad():
        a.w.copy_(torch.randn_like(a.w))
    parameters = list(a.actor.parameters())
    obs, action, y = torch.randn(6, 2), torch.randn(6, 2), torch.randn(6)
    want, delta = torch.zeros_like(a.w), []
    for s, act, target in zip(obs, action, y, strict=True):
        mu = a.actor(s)
        jacobian = torch.stack([
            torch.cat([g.flatten() for g in torch.autograd.grad(mu[i], parameters, retain_graph=True)])
            for i in range(2)
        ])  # [A, P]  # fmt: skip
        features = jacobian.T @ (act - mu.detach())
        delta.append(target - features @ a.w.detach() - a.v(s).detach())
        want += delta[-1] * features / 6
    loss, _ = a.critic_loss(obs, action, y, torch.ones(6, dtype=torch.bool), None)
    assert_close(loss.detach(), 0.5 * torch.stack(delta).square().mean())
    got = torch.autograd.grad(loss, [a.w, *a.v.parameters()])
    assert_close(got[0], -want)
    of_v = torch.autograd.grad((torch.stack(delta) * a.v(obs)).mean(), list(a.v.parameters()))
    assert_close(got[1:], tuple(-g for g in of_v))


@pytest.mark.parametrize(("memory", "shape"), [("latest", (16, 2)), ("replay", (8,))])
def test_it_learns_from_a_replay_too(memory, shape):
    small = ("memory.warmup=20", "memory.capacity=100", "memory.batch_size=8") if memory == "replay" else ()
    p = parts("algo=dpg_offpolicy", "env=lqr", f"memory={memory}", *small, "num_envs=2", "algo.rollout=16")
    p.memory.add(p.collector.collect(p.algorithm))
    (batch,) = p.memory.batches()
    assert batch.reward.shape == shape
    w = p.algorithm.w.clone()
    p.algorithm.update(batch)
    assert not torch.equal(p.algorithm.w, w)


class Best:
    """a = −K s with the best K."""

    device = torch.device("cpu")

    def __init__(self, gain):
        self.gain = gain.float()

    def initial_carry(self, num_envs):
        return ()

    def act(self, obs, carry, explore):
        return -obs @ self.gain.T, carry, {}


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["dpg", "dpg_offpolicy"])
def test_it_finds_the_best_policy(algo):
    p, _ = run(f"algo={algo}", "env=lqr", "total_steps=80000")
    env = p.make_eval_env(32)
    best = evaluate(Best(env.world.gain(0.9)), env, 64, seed=1).mean
    idle = evaluate(Best(torch.zeros(1, 2)), env, 64, seed=1).mean
    mine = evaluate(p.algorithm, env, 64, seed=1).mean
    assert mine > best - 0.25 * (best - idle)
    zero = torch.zeros(2, requires_grad=True)
    gain = -torch.autograd.grad(p.algorithm.actor(zero).sum(), zero)[0]
    assert_close(gain, env.world.gain(0.9)[0].float(), atol=0.8, rtol=0.0)


def test_what_compile_can_not_trace_is_refused():
    with pytest.raises(UserError, match="use compile=false"):
        parts("algo=dpg_offpolicy", "env=lqr", "compile=true")
