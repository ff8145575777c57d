"""The vanilla policy gradient: one plain step, of a Ψ_t that the critic's fit does not see."""

import pytest
import torch
from fitted import BOX, DISCRETE, flat, make, network, policy_gradient, rollout
from recipes import sampled
from running import parts
from torch.testing import assert_close

from pgrun.algos.parts.critic_fit import Regression
from pgrun.algos.vpg import VPG
from pgrun.core.advantages import GAE, Ones, Returns
from pgrun.errors import UserError


@pytest.mark.parametrize(
    ("space", "std", "squash"),
    [(DISCRETE, "global", False), *((BOX, std, squash) for std in ("global", "state") for squash in (False, True))],
)
def test_the_step_is_the_policy_gradients(space, std, squash):
    algorithm = make(VPG, action_space=space, net=network(std=std, squash=squash) if space is BOX else None)
    batch = rollout(space)
    batch = algorithm.estimate(batch._replace(action=batch.action.tanh()) if squash else batch)
    before, g = flat(algorithm.actor), policy_gradient(algorithm, batch)
    metrics = algorithm.improve(batch)
    assert_close(flat(algorithm.actor) - before, 0.1 * g, rtol=1e-8, atol=1e-10)
    assert_close(metrics["gradient/norm_policy"], torch.linalg.vector_norm(g))


@pytest.mark.parametrize("space", [DISCRETE, BOX])
def test_an_update_is_one_step_of_the_policy_and_then_the_fit(space):
    """Ψ_t is of the critic before: the policy moves as without any fit."""
    one = make(VPG, action_space=space, critic_fit=Regression(epochs=30, minibatch=8, lr=None))
    two = make(VPG, action_space=space)
    two.load_state_dict(one.state_dict())
    raw = rollout(space)
    metrics = one.update(raw)
    two.improve(two.estimate(raw))
    assert_close(flat(one.actor), flat(two.actor), rtol=0, atol=0)
    assert not torch.equal(flat(one.model.critic.parameters()), flat(two.model.critic.parameters()))
    assert {"loss/policy", "loss/value", "policy/kl", "policy/entropy", "value/explained_variance"} <= set(metrics)
    assert float(metrics["policy/kl"]) > 0.0


def test_psi_is_normalised_over_the_valid_steps_if_asked():
    raw = rollout()
    batch = make(VPG).estimate(raw)
    psi = batch.extras["psi"][batch.valid]
    assert_close(psi.mean(), torch.tensor(0.0, dtype=psi.dtype), atol=1e-10, rtol=0)
    assert_close(psi.std(), torch.tensor(1.0, dtype=psi.dtype))
    plain = make(VPG, normalize="none")
    batch = plain.estimate(raw)
    a, _ = GAE(lambda_=0.9)(_returns(plain, raw), 0.9)
    assert_close(batch.extras["psi"], a)


def _returns(algorithm, raw):
    with torch.no_grad():
        value, successor = algorithm.model.critic(raw.obs), algorithm.model.critic(raw.next_obs)
    return Returns(raw.reward, raw.discount, raw.last | ~raw.valid, value, successor)


def test_what_can_not_be_normalised_is_refused():
    with pytest.raises(UserError, match=r"^algo.normalize=episode needs whole episodes: add collector=episodes"):
        make(VPG, normalize="episode")
    with pytest.raises(UserError, match=r"^algo.normalize=batch .* use algo.normalize=none$"):
        make(VPG, advantage=Ones())
    make(VPG, advantage=Ones(), normalize="none")


ADVANTAGES = {
    "gae": (),
    "td": (),
    "nstep": ("algo.advantage.n=5",),
    "mixture": (),
    "reward_to_go": (),
    "total_return": ("collector=episodes",),
    "q": (),
    "a": (),
}


@pytest.mark.parametrize("algo", sampled(["vpg", "npg", "trpo"], 3))
@pytest.mark.parametrize("advantage", ADVANTAGES)
def test_whatever_weighs_the_score(algo, advantage):
    fit = "trust_region" if algo == "npg" else "regression"
    small = ("env=cartpole", "num_envs=4", "network.hidden=[8]", "algo.rollout=16", f"algo/critic_fit={fit}")
    p = parts(f"algo={algo}", f"algo/advantage={advantage}", *ADVANTAGES[advantage], *small)
    a = p.algorithm
    before, critic = flat(a.actor), flat(a.model.critic.parameters())
    metrics = a.update(p.collector.collect(a))
    assert all(bool(torch.isfinite(x)) for x in metrics.values())
    assert not torch.equal(flat(a.actor), before) or algo == "trpo"
    assert not torch.equal(flat(a.model.critic.parameters()), critic)


@pytest.mark.parametrize("algo", ["vpg", "npg", "trpo"])
@pytest.mark.parametrize("baseline", ["none", "average", "optimal"])
def test_whatever_baseline(algo, baseline):
    small = ("env=cartpole", "num_envs=4", "network.hidden=[8]", "collector=episodes")
    p = parts(f"algo={algo}", "algo/advantage=reward_to_go", f"algo/baseline={baseline}", *small)
    a = p.algorithm
    assert a.model.critic is None
    before = flat(a.actor)
    metrics = a.update(p.collector.collect(a))
    assert "loss/value" not in metrics
    assert all(bool(torch.isfinite(x)) for x in metrics.values())
    assert not torch.equal(flat(a.actor), before) or algo == "trpo"
