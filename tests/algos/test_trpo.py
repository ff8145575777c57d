"""TRPO never leaves its trust region and never lowers its surrogate, as torch.distributions sees it."""

import pytest
import torch
from fitted import BOX, DISCRETE, flat, make, rollout, theirs
from recipes import sampled
from running import parts
from torch import distributions as reference
from torch.testing import assert_close

from pgrun.algos.npg import NPG
from pgrun.algos.trpo import TRPO
from pgrun.errors import UserError

ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-12}


def judged(algorithm, batch):
    """KL in both directions [M] and L(θ) of the policy as it is, over the valid steps."""
    old, new = (theirs(pi) for pi in (algorithm.model.actor(batch.obs), algorithm.model.actor(batch.obs)))
    old = theirs(algorithm.model.actor(batch.obs).like(batch.extras["pi"]))
    kl = {"old_new": reference.kl_divergence(old, new), "new_old": reference.kl_divergence(new, old)}
    ratio = (new.log_prob(batch.action) - old.log_prob(batch.action)).exp()
    return {key: x[batch.valid] for key, x in kl.items()}, (ratio * batch.extras["psi"])[batch.valid].mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("space", [DISCRETE, BOX])
@pytest.mark.parametrize(("kl", "direction"), [("mean", "old_new"), ("mean", "new_old"), ("max", "old_new")])
@pytest.mark.parametrize("delta", sampled([0.01, 0.5], [0.5]))
def test_a_step_keeps_both_promises(dtype, space, kl, direction, delta):
    rounding, fractions = ROUNDING[dtype], []
    for seed in range(5):
        torch.manual_seed(seed)
        algorithm = make(
            TRPO, dtype=dtype, action_space=space, kl=kl, kl_direction=direction, delta=delta, backtracks=4, shrink=0.6
        )
        for _ in range(4):
            batch = algorithm.estimate(rollout(space, dtype=dtype))
            before = flat(algorithm.actor)
            _, old = judged(algorithm, batch)
            metrics = algorithm.improve(batch)
            divergence, new = judged(algorithm, batch)
            kls = divergence[direction]
            bounded = kls.max() if kl == "max" else kls.mean()
            assert float(bounded) <= delta + rounding
            assert float(metrics["policy/kl"]) == pytest.approx(float(bounded), abs=rounding)
            fraction = float(metrics["policy/step_fraction"])
            fractions.append(round(fraction, 3))
            if fraction:
                assert float(new - old) > -rounding
                assert not torch.equal(flat(algorithm.actor), before)
            else:
                assert torch.equal(flat(algorithm.actor), before)
    assert set(fractions) <= {1.0, 0.6, 0.36, 0.216, 0.0}
    assert len(set(fractions)) > 1  # the search had something to do
    assert sum(f > 0 for f in fractions) >= 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rejected_search_leaves_every_bit(dtype):
    """One try, of which some bend out of the region."""
    rejected = 0
    for seed in range(20):
        torch.manual_seed(seed)
        algorithm = make(TRPO, dtype=dtype, delta=0.003, backtracks=1)
        batch = algorithm.estimate(rollout(dtype=dtype))
        before = {key: value.clone() for key, value in algorithm.state_dict().items()}
        metrics = algorithm.improve(batch)
        if float(metrics["policy/step_fraction"]) == 0.0:
            rejected += 1
            assert all(torch.equal(before[key], value) for key, value in algorithm.state_dict().items())
            assert float(metrics["policy/kl"]) <= ROUNDING[dtype]
    assert 3 <= rejected <= 17


def test_the_step_is_a_share_of_the_natural_gradients():
    for seed in range(5):
        torch.manual_seed(seed)
        one, two = make(TRPO), make(NPG)
        two.load_state_dict(one.state_dict())
        start = flat(one.actor)
        batch = one.estimate(rollout())
        metrics = one.improve(batch)
        two.improve(batch)
        fraction = float(metrics["policy/step_fraction"])
        assert fraction > 0.0
        assert_close(flat(one.actor) - start, fraction * (flat(two.actor) - start), rtol=1e-6, atol=1e-12)


def test_the_maximum_is_over_valid_steps_only():
    algorithm = make(TRPO, kl="max")
    batch = algorithm.estimate(rollout())
    with torch.no_grad():
        algorithm.theta += 0.1 * torch.randn_like(algorithm.theta)
    kls = judged(algorithm, batch)[0]["old_new"]
    assert_close(algorithm.divergence(algorithm.model.policy(batch), batch), kls.max())
    algorithm.of_max = False
    assert_close(algorithm.divergence(algorithm.model.policy(batch), batch), kls.mean())


def test_one_trunk_for_both_is_refused():
    for name in ("vpg", "npg", "trpo"):
        with pytest.raises(UserError, match=rf"^algo={name} .*network.shared=false"):
            parts(f"algo={name}", "network.shared=true")
    alone = parts("algo=trpo", "network.shared=true", "algo/advantage=reward_to_go", "algo/baseline=none")
    assert alone.algorithm.model.critic is None  # nobody to share with


def test_a_baseline_per_parameter_is_refused():
    whole = ("collector=episodes", "algo/advantage=reward_to_go", "algo/baseline=optimal")
    with pytest.raises(UserError, match=r"per_parameter=true.*vpg and npg"):
        parts("algo=trpo", *whole, "algo.baseline.per_parameter=true")
    parts("algo=trpo", *whole)


def test_a_network_with_a_memory_stays_in_its_trust_region():
    net = ("network=lstm", "network.size=8", "network.shared=false")
    p = parts("algo=trpo", "env=cartpole_pomdp", *net, "num_envs=4", "algo.rollout=32")
    a = p.algorithm
    for _ in range(3):
        batch = a.estimate(p.collector.collect(a))
        metrics = a.improve(batch)
        pi = a.model.policy(batch)
        kl = pi.like(batch.extras["pi"]).kl(pi)[batch.valid].mean()
        assert float(kl) == pytest.approx(float(metrics["policy/kl"]), rel=1e-3, abs=1e-7)
        assert float(kl) <= a.delta + 1e-6
