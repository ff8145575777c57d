"""REDQ: its target and losses by hand, which critics a target is from, what moves when, and what it learns."""

import itertools

import pytest
import torch
from by_hand import batch, q_value
from probes import Trained, run
from running import parts
from torch.testing import assert_close

from pgrun.algos.sac import SAC
from pgrun.errors import UserError

SMALL = (
    *("algo=redq", "env=pendulum", "network.hidden=[16]", "memory.warmup=40", "memory.capacity=200"),
    *("memory.batch_size=16", "memory.updates=3", "algo.critics=4"),
)


def algorithm(*overrides):
    """An algorithm whose networks and targets have come apart."""
    torch.manual_seed(1)
    a = parts(*SMALL, *overrides).algorithm
    with torch.no_grad():
        for p in a.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return a


def action_of(a, obs, noise):
    """ã and log π(ã|s) of one state, by the rule for a change of variables."""
    base = a.actor(obs).base
    u = base.mean + base.log_std.exp() * noise
    log_prob = torch.distributions.Normal(base.mean, base.log_std.exp()).log_prob(u) - (1.0 - u.tanh() ** 2).log()
    return u.tanh(), float(log_prob)


@torch.no_grad()
@pytest.mark.parametrize("drawn", [[2, 0], [1, 3], [3]])
def test_the_target_is_from_the_least_of_the_drawn(drawn):
    a, rows, noise = algorithm("algo.gamma=0.9"), batch(), torch.randn(16, 1)
    alpha, want, least = float(a.log_alpha.exp()), [], set()
    for m in range(16):
        action, log_prob = action_of(a, rows.next_obs[m], noise[m])
        qs = {i: q_value(a.q_target, i, rows.next_obs[m], action) for i in range(4)}
        least.add(min(qs, key=qs.get))
        soft = min(qs[i] for i in drawn) - alpha * log_prob
        want.append(float(rows.reward[m]) + 0.9 * float(rows.discount[m]) * soft)
    assert_close(a.target(rows, noise, torch.tensor(drawn)), torch.tensor(want), rtol=1e-4, atol=1e-4)
    assert len(least - {*drawn}) > 0  # so that the least of all would be another target


@torch.no_grad()
def test_every_critic_learns_the_same_target():
    """Also those that are not drawn: Σ_i ½ E[(Q_i − y)²]."""
    (a, seen), rows = with_draws(algorithm()), batch()
    q = torch.tensor([[q_value(a.q, i, s, u) for s, u in zip(rows.obs, rows.action, strict=True)] for i in range(4)])
    noise = torch.randn(16, 1)
    obs, action, y, weight = a.critic_args(rows, noise, torch.tensor([3, 1]))
    assert seen == [[3, 1]]
    assert y.shape == (16,)
    loss, _ = a.critic_loss(obs, action, y, weight)
    assert_close(loss, 0.5 * (q - y).square().mean(-1).sum())


@torch.no_grad()
def test_the_policy_learns_from_the_mean_of_all_critics():
    a, rows, noise = algorithm(), batch(), torch.randn(16, 1)
    want = []
    for s, epsilon in zip(rows.obs, noise, strict=True):
        action, log_prob = action_of(a, s, epsilon)
        want.append(0.3 * log_prob - sum(q_value(a.q, i, s, action) for i in range(4)) / 4)
    loss, _ = a.actor_loss(rows.obs, noise, torch.tensor(0.3))
    assert_close(loss, torch.tensor(want).mean(), rtol=1e-4, atol=1e-4)


def test_with_all_of_two_critics_the_target_is_sacs():
    a, rows, noise = algorithm("algo.critics=2"), batch(), torch.randn(16, 1)
    assert_close(a.target(rows, noise, torch.tensor([1, 0])), SAC.target(a, rows, noise))


def with_draws(a):
    """An algorithm and the list in which it notes the critics of each target."""
    target, seen = a.target, []

    def noted(rows, noise, drawn):
        seen.append(drawn.tolist())
        return target(rows, noise, drawn)

    a.target = noted
    return a, seen


def test_each_update_draws_a_pair_anew_and_all_pairs_alike():
    (a, seen), rows = with_draws(algorithm("algo.critics=3")), batch()
    for _ in range(60):
        a.update(rows)
    seen = [frozenset(drawn) for drawn in seen]
    pairs = {frozenset(pair) for pair in itertools.combinations(range(3), 2)}
    assert {*seen} == pairs
    assert min(seen.count(pair) for pair in pairs) > 8


def test_the_draw_comes_from_the_runs_generator():
    (a, seen), rows = with_draws(algorithm("algo.critics=9")), batch()
    for seed in (5, 6, 5):
        torch.manual_seed(seed)
        a.update(rows)
    torch.manual_seed(5)
    assert seen[0] == seen[2] == torch.randperm(9)[:2].tolist()
    assert seen[1] != seen[0]


@pytest.mark.parametrize("g", [1, 3])
def test_the_policy_moves_once_in_g_updates_and_the_targets_in_each(g):
    a, rows, moved = algorithm(f"memory.updates={g}", "algo.tau=0.2"), batch(), []
    for i in range(7):
        target, theta, log_alpha = a.theta_target.clone(), a.actor_step.theta.clone(), a.log_alpha.detach().clone()
        metrics = a.update(rows)
        assert_close(a.theta_target, 0.8 * target + 0.2 * a.critic_step.theta)
        assert torch.equal(a.actor_step.theta, theta) == torch.equal(a.log_alpha, log_alpha) == ((i + 1) % g > 0)
        moved += [i] if "loss/actor" in metrics else []
    assert moved == list(range(g - 1, 7, g))


def test_a_step_in_the_environment_is_followed_by_g_updates_and_one_of_the_policy():
    p = parts(*SMALL, "memory.updates=5")
    while not p.memory.ready:
        p.memory.add(p.collector.collect(p.algorithm))
    for _ in range(3):
        updates = [p.algorithm.update(rows) for rows in p.memory.batches()]
        assert ["loss/actor" in metrics for metrics in updates] == [False] * 4 + [True]


def test_the_count_goes_on_where_it_was():
    a, rows = algorithm(), batch()
    a.update(rows)
    other = algorithm()
    other.restore(a.snapshot())
    assert "loss/actor" not in other.update(rows)
    assert "loss/actor" in other.update(rows)


def test_a_seed_decides_every_bit():
    def end(seed):
        a = run(*SMALL, "total_steps=60", f"seed={seed}")[0].algorithm
        return torch.cat([a.critic_step.theta, a.actor_step.theta, a.theta_target, a.log_alpha.detach().reshape(1)])

    first = end(3)
    assert torch.equal(first, end(3))
    assert not torch.equal(first, end(4))


def test_more_than_all_critics_are_refused():
    with pytest.raises(UserError, match=r"^algo.subset=5 is more than algo.critics=4: use at most that$"):
        algorithm("algo.subset=5")


# ---------------------------------------------------------------- probes

GAMMA = 0.8
LEARN = (
    *("algo=redq", "network=mlp", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}", "memory.updates=3"),
    *("optimizer.lr=0.005", "optimizer.schedule=linear", "total_steps=500", "memory.warmup=200", "algo.critics=4"),
    *("memory.batch_size=64", "algo.tau=0.1", "algo.init_temperature=1e-4", "algo.target_entropy=-20"),
)


def trained(probe, *overrides):
    return Trained(run(*LEARN, f"env.id=Probe{probe}-v0", "+env.kwargs.continuous=true", *overrides)[0].algorithm)


@pytest.mark.slow
def test_a_time_limit_is_bootstrapped_from_the_true_successor():
    value = trained("Phases").value([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.15)


@pytest.mark.slow
def test_it_finds_the_number_that_pays():
    agent = trained("Match", "algo.init_temperature=0.05", "total_steps=700")
    assert agent.action([1.0], [-1.0]) == pytest.approx([0.5, -0.5], abs=0.1)
