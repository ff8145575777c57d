"""The natural policy gradient against dense algebra: F from enumerated scores, solved."""

import pytest
import torch
from fitted import BOX, DISCRETE, fisher, flat, make, network, policy_gradient, rollout
from running import parts
from torch.testing import assert_close

from pgrun.algos.npg import NPG
from pgrun.algos.vpg import VPG
from pgrun.core.advantages import RewardToGo
from pgrun.core.baselines import Optimal
from pgrun.core.trust_region import hessian_product
from pgrun.data.types import mask_mean

# few states, so that the scores of all of them are quick to have
FEW = {"t": 6, "b": 3}


def moved(algorithm, batch):
    """Return the change of the policy's parameters by `improve`, [P]."""
    before = flat(algorithm.actor)
    metrics = algorithm.improve(batch)
    return flat(algorithm.actor) - before, metrics


@pytest.mark.parametrize("damping", [1e-3, 0.3])
def test_fixed_is_alpha_times_the_dense_solution(damping):
    algorithm = make(NPG, step="fixed", step_length=0.07, damping=damping, cg_iterations=300)
    batch = algorithm.estimate(rollout(**FEW))
    g, f = policy_gradient(algorithm, batch), fisher(algorithm, batch)
    x = torch.linalg.solve(f + damping * torch.eye(len(g), dtype=g.dtype), g)
    step, _ = moved(algorithm, batch)
    assert_close(step, 0.07 * x, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("iterations", "damping"), [(1, 0.0), (4, 0.0), (4, 0.1), (300, 1e-3)])
@pytest.mark.parametrize("delta", [0.01, 1e-5])
def test_kl_reaches_its_quadratic_delta_exactly(iterations, damping, delta):
    """Of the matrix that is inverted, however far conjugate gradient went."""
    algorithm = make(NPG, delta=delta, cg_iterations=iterations, damping=damping)
    batch = algorithm.estimate(rollout(**FEW))
    f = fisher(algorithm, batch)
    step, metrics = moved(algorithm, batch)
    quadratic = 0.5 * step @ (f + damping * torch.eye(len(step))) @ step
    assert float(quadratic) == pytest.approx(delta, rel=1e-6)
    if delta == 1e-5 and damping == 0.0:  # so near that the divergence is its quadratic form
        assert float(metrics["policy/kl"]) == pytest.approx(delta, rel=0.02)


def test_kl_climbs_along_the_natural_gradient():
    algorithm = make(NPG, cg_iterations=300)
    batch = algorithm.estimate(rollout(**FEW))
    g, f = policy_gradient(algorithm, batch), fisher(algorithm, batch)
    x = torch.linalg.solve(f + 1e-3 * torch.eye(len(g), dtype=g.dtype), g)
    step, _ = moved(algorithm, batch)
    assert_close(step, (0.02 / (g @ x)).sqrt() * x, rtol=1e-6, atol=1e-8)


def test_delta_follows_its_schedule():
    algorithm = make(NPG, delta=0.04, delta_schedule="linear", damping=0.0, cg_iterations=4)
    batch = algorithm.estimate(rollout(**FEW))
    algorithm.set_progress(0.75)
    f = fisher(algorithm, batch)
    step, _ = moved(algorithm, batch)
    assert float(0.5 * step @ f @ step) == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize("space", [DISCRETE, BOX])
def test_fisher_rows(space):
    algorithm = make(NPG, action_space=space)
    batch = algorithm.estimate(rollout(space, t=64, all_valid=True))
    start = flat(algorithm.actor)
    steps, sizes = {}, {}
    seen = algorithm.kl_from_here
    for rows in (None, 256, 128):
        algorithm.fisher_rows = rows
        algorithm.theta.copy_(start)
        algorithm.kl_from_here = lambda sample, rows=rows: sizes.update({rows: sample.reward.numel()}) or seen(sample)
        steps[rows], _ = moved(algorithm, batch)
    assert sizes == {None: 256, 256: 256, 128: 128}
    assert_close(steps[256], steps[None], rtol=1e-6, atol=1e-9)  # the same rows, in another order
    cosine = float(torch.cosine_similarity(steps[128], steps[None], 0))
    assert 0.5 < cosine < 0.999


@pytest.mark.parametrize("space", [DISCRETE, BOX])
def test_an_entropy_bonus_is_part_of_the_gradient(space):
    """Without any advantage it is all of it: the entropy rises."""
    algorithm = make(NPG, action_space=space, entropy_coef=0.1)
    batch = algorithm.estimate(rollout(space))
    batch.extras["psi"].zero_()
    entropy = [mask_mean(algorithm.model.policy(batch).entropy(), batch.valid)]
    algorithm.improve(batch)
    entropy.append(mask_mean(algorithm.model.policy(batch).entropy(), batch.valid))
    assert entropy[1] > entropy[0] + 0.01


def test_without_a_gradient_nothing_moves():
    algorithm = make(NPG)
    batch = algorithm.estimate(rollout())
    batch.extras["psi"].zero_()
    step, _ = moved(algorithm, batch)
    assert step.abs().max() == 0.0


def test_a_baseline_per_parameter_is_taken_off_the_gradient():
    """A step so damped that it is the plain gradient's; and the plain one, as VPG takes it."""
    psi = {"advantage": RewardToGo(), "baseline": Optimal(per_parameter=True), "normalize": "none"}
    whole = {**psi, "whole_episodes": True, "rollout": None}
    raw = rollout(t=8, b=5, all_valid=True)
    raw.last[-1] = True
    for algorithm in (
        make(NPG, step="fixed", step_length=1e8, damping=1e8, cg_iterations=1, **whole),
        make(VPG, **whole),
    ):
        batch = algorithm.estimate(raw)
        c = batch.extras["correction"]
        assert c.abs().max() > 1e-3
        expect = policy_gradient(algorithm, batch) - c
        step, _ = moved(algorithm, batch)
        scale = 1.0 if isinstance(algorithm, NPG) else 0.1
        assert_close(step, scale * expect, rtol=1e-5, atol=1e-7)


def test_filler_rows_change_nothing():
    one, two = (make(NPG, net=network()) for _ in range(2))
    two.load_state_dict(one.state_dict())
    batch = one.estimate(rollout())
    odd = batch._replace(obs=torch.where(batch.valid.unsqueeze(-1), batch.obs, 3.0 * torch.ones_like(batch.obs)))
    assert_close(moved(one, batch)[0], moved(two, odd)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("std", ["global", "state", "sde"])
@pytest.mark.parametrize("squash", [False, True])
def test_the_fisher_matrix_of_gaussians(std, squash):
    """Mean over states of Jᵀ diag(1/σ², 2) J, J the Jacobian of μ and log σ: a squash changes nothing."""
    algorithm = make(NPG, action_space=BOX, net=network(std=std, squash=squash))
    batch = algorithm.estimate(rollout(BOX, **FEW, all_valid=True))
    product = hessian_product(algorithm.kl_from_here(batch), algorithm.actor)
    found = torch.stack([product(e) for e in torch.eye(len(algorithm.theta), dtype=torch.float64)], -1)
    total = 0.0
    for obs in batch.obs.flatten(0, 1):
        pi = algorithm.model.actor(obs)
        weight = torch.cat([(-2.0 * pi.log_std).exp(), torch.full_like(pi.mean, 2.0)]).detach()
        grads = (
            torch.autograd.grad(x, algorithm.actor, retain_graph=True, materialize_grads=True) for x in pi.params()
        )
        j = torch.stack([torch.cat([g.flatten() for g in row]) for row in grads])
        total = total + j.T @ torch.diag(weight) @ j / batch.reward.numel()
    assert_close(found, total, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_fisher_matrix_of_a_network_with_a_memory(cell):
    """KL(π_θ‖π_{θ±hv}) is ½h² vᵀFv, as far as the mean of both signs shows."""
    net = (f"network={cell}", "network.size=8", "network.shared=false", "network.head_gain=1")
    p = parts("algo=npg", "env=cartpole_pomdp", *net, "num_envs=4", "algo.rollout=32")
    a = p.algorithm
    batch = a.estimate(p.collector.collect(a))
    product = hessian_product(a.kl_from_here(batch), a.actor)
    start, kl = flat(a.actor), []
    v = torch.randn(len(start), generator=torch.Generator().manual_seed(1))
    h = (2e-5 / (v @ product(v))).sqrt()
    for sign in (1.0, -1.0):
        a.theta.copy_(start + sign * h * v)
        pi = a.model.policy(batch)
        kl.append(float(mask_mean(pi.like(batch.extras["pi"]).kl(pi), batch.valid).detach()))
    assert sum(kl) / 2 == pytest.approx(1e-5, rel=0.05)
    a.theta.copy_(start)
    metrics = a.update(p.collector.collect(a))
    assert all(bool(torch.isfinite(x)) for x in metrics.values())
    assert not torch.equal(flat(a.actor), start)
