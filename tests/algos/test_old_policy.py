"""An update starts at the policy that acted: there every ratio is 1, whatever the network."""

import pytest
import torch
from ratios import watch_ratios
from recipes import recipe, sampled
from running import parts
from torch.testing import assert_close

from pgrun.data.types import map_transition

EPOCHS = ("ppo", "ppo_kl", "mdpo", "grpo", "vmpo")  # minibatches of one step for policy and critic
FITTED = ("vpg", "npg", "trpo", "dppo")  # the policy's step, then the critic's fit
NETWORKS = {
    "of its own": (),
    "shared": ("network.shared=true",),
    "that normalises": ("network.normalize_obs=true",),
    "with a memory": ("network=lstm", "network.size=8", "network.sequence=4"),
    "with a memory, shared": ("network=gru", "network.size=8", "network.shared=true"),
    "with its sigma": ("network.std=state",),
    "with a matrix of noise": ("network.std=sde", "network.layer_norm=true"),
    "squashed": ("network.std=state", "network.squash=true"),
}
CASES = [(a, n) for a in EPOCHS + FITTED for n in NETWORKS if not (a in FITTED and "shared" in n)]
QUICK = [
    *(("ppo", n) for n in ("shared", "that normalises", "with a memory", "squashed")),
    *(("vmpo", "with a memory, shared"), ("dppo", "that normalises"), ("trpo", "squashed")),
]


@pytest.mark.parametrize(("algo", "network"), sampled(CASES, QUICK))
def test_the_ratio_is_1_on_the_first_minibatch(algo, network):
    """Of the first epoch of each update: the old policy is that of the rollout, to rounding."""
    words = [word for word in recipe(algo, "env=pendulum", "") if "memory" not in network or word != "network=mlp"]
    made = parts(*words, *NETWORKS[network], "optimizer.lr=0.01")
    algorithm, ratios = made.algorithm, watch_ratios(made.algorithm)
    for _ in range(2):
        ratios.clear()
        algorithm.update(made.collector.collect(algorithm))
        assert ratios[0].max() < 1e-4, "it starts elsewhere"
        after = [x for x in ratios[1:] if x.numel()]
        if algo in EPOCHS:
            assert len(after) > 3
            assert max(x.max() for x in after) > 1e-3, "the policy did not move, so this test sees nothing"
    made.collector.env.close()


def test_in_double_precision_it_is_1_to_twelve_digits():
    made = parts(*recipe("ppo", "env=pendulum", ""), "network.shared=true")
    algorithm, rollout = made.algorithm, made.collector.collect(made.algorithm)
    algorithm.double()
    rollout = map_transition(lambda x: x.double() if x.is_floating_point() else x, rollout)
    (sample,) = algorithm.minibatches(algorithm.estimate(rollout), 1, None)
    log_prob = algorithm.model.policy(sample).log_prob(sample.action)
    assert_close((log_prob - sample.extras["log_prob"]).exp(), torch.ones_like(log_prob), rtol=0.0, atol=1e-12)
    _, metrics = algorithm.loss(sample, torch.tensor(0.2))
    assert metrics["policy/clip_fraction"] == 0.0
    assert abs(metrics["policy/kl"]) < 1e-12
    made.collector.env.close()
