"""Each recipe learns what is known by algebra; tolerances are far below the distance to the nearest wrong answer."""

import pytest
from probes import Trained, run
from recipes import sampled

GAMMA = 0.8
SMALL = ["network=mlp", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}"]
ON_POLICY = [*SMALL, "env.num_envs=8", "optimizer=adam", "optimizer.lr=0.01", "optimizer.schedule=linear"]
RECIPES = {
    "reinforce": [*ON_POLICY, "algo=reinforce", "algo/baseline=value", "collector.episodes=16", "total_steps=8000"],
    "a2c": [*ON_POLICY, "algo=a2c", "total_steps=8000"],
    "ppo": [*ON_POLICY, "algo=ppo", "algo.rollout=32", "algo.minibatch=64", "total_steps=5000"],
    "vpg": [*ON_POLICY, "algo=vpg", "algo.rollout=8", "algo.critic_fit.epochs=4", "total_steps=8000"],
    "npg": [
        *(*ON_POLICY, "algo=npg", "algo.rollout=8", "algo.delta=0.02", "total_steps=3000"),
        *("algo/critic_fit=trust_region", "algo.critic_fit.delta=0.3"),
    ],
    "trpo": [
        *(*ON_POLICY, "algo=trpo", "algo.rollout=16", "algo.delta=0.05", "total_steps=3000"),
        *("algo.critic_fit.epochs=20", "algo.critic_fit.minibatch=64"),
    ],
    "sac": [
        *SMALL,
        "algo=sac",
        "optimizer.lr=0.005",
        "optimizer.schedule=linear",
        "total_steps=1200",
        "memory.warmup=200",
        "memory.batch_size=64",
        "algo.tau=0.1",
        "algo.init_temperature=1e-4",  # so that the entropy is no part of the value
        "algo.target_entropy=-20",  # and the temperature only falls
    ],
}
ALGORITHMS = list(RECIPES)
WITH_VALUES = [algo for algo in ALGORITHMS if algo != "vpg"]  # its critic is fitted as trpo's is
SEEN = {"Choice": ([0.0], [0.0]), "Match": ([1.0], [-1.0])}


def trained(algo, probe, *overrides, continuous=False):
    continuous = continuous or algo == "sac"
    parts, _ = run(
        f"algo={algo}", *RECIPES[algo], f"env.id=Probe{probe}-v0", f"+env.kwargs.continuous={continuous}", *overrides
    )
    return Trained(parts.algorithm)


@pytest.mark.parametrize("algo", sampled(WITH_VALUES, ("ppo", "npg")))
def test_one(algo):
    assert trained(algo, "One").value([0.0]) == pytest.approx([1.0], abs=0.05)


@pytest.mark.parametrize("algo", sampled(WITH_VALUES, ("a2c",)))
def test_sign(algo):
    assert trained(algo, "Sign").value([1.0], [-1.0]) == pytest.approx([1.0, -1.0], abs=0.1)


@pytest.mark.parametrize("algo", sampled(WITH_VALUES, ("a2c", "ppo", "trpo")))
def test_two(algo):
    assert trained(algo, "Two").value([0.0], [1.0]) == pytest.approx([GAMMA, 1.0], abs=0.06)


@pytest.mark.parametrize("algo", sampled([algo for algo in ALGORITHMS if algo != "sac"], ("vpg", "npg")))
@pytest.mark.parametrize(("probe", "pays"), [("Choice", [1, 1]), ("Match", [1, 0])])
def test_the_policy_takes_the_action_that_pays(algo, probe, pays):
    assert trained(algo, probe).action(*SEEN[probe]) == pays


@pytest.mark.parametrize("algo", sampled(ALGORITHMS, ("ppo", "trpo")))
@pytest.mark.parametrize(("probe", "pays"), [("Choice", [0.5, 0.5]), ("Match", [0.5, -0.5])])
def test_the_policy_finds_the_number_that_pays(algo, probe, pays):
    # calm enough that no mean is thrown out of [−1, 1], where every action is clipped to the same one
    calm = ["optimizer.lr=0.003", "network.log_std_init=-1"]
    explore = ["algo.init_temperature=0.2", "algo.target_entropy=-1"]
    agent = trained(algo, probe, *(explore if algo == "sac" else calm), continuous=True)
    assert agent.action(*SEEN[probe]) == pytest.approx(pays, abs=0.1)


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
@pytest.mark.parametrize("algo", sampled(WITH_VALUES, ("reinforce", "ppo")))
def test_a_time_limit_is_bootstrapped(algo, autoreset):
    """Taken for death, the value would be below 2.8; with filler rows learnt from, below 5 as well."""
    value = trained(algo, "Endless", f"env.autoreset={autoreset}").value([0.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA)], abs=0.3)


@pytest.mark.parametrize("algo", sampled(WITH_VALUES, ("a2c", "npg")))
def test_a_time_limit_is_bootstrapped_from_the_true_successor(algo):
    """From the reset observation, the values would be near 3.4 and 2.8."""
    value = trained(algo, "Phases").value([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.15)


@pytest.mark.parametrize("algo", sampled(WITH_VALUES, ("a2c",)))
def test_death_is_not_bootstrapped(algo):
    """Taken for a time limit, the last value would be above 1.6."""
    observations = [[float(i == t) for i in range(6)] for t in range(5)]
    value = trained(algo, "Mortal").value(*observations)
    assert value == pytest.approx([(1.0 - GAMMA ** (5 - t)) / (1.0 - GAMMA) for t in range(5)], abs=0.2)
