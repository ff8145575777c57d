"""Two ranks with half of the environments each make the update of one process with all of them."""

from dataclasses import replace

import pair
import pytest
import torch
from omegaconf import OmegaConf
from recipes import sampled
from running import compose

from pgrun.config.resolve import resolved
from pgrun.core import ranks
from pgrun.errors import UserError
from pgrun.run.build import build

EPISODES = ("env=cartpole", "env.num_envs=4")
CARTPOLE = ("env=cartpole", "env.num_envs=4", "algo.rollout=24")
PENDULUM = ("env=pendulum", "env.num_envs=4", "algo.rollout=24", "env.max_episode_steps=9")
NORMALIZED = ("network.normalize_obs=true", "algo.normalize_reward=true")
PPO = ("algo.minibatch=32", "algo.epochs=2", "algo.normalize_advantage=true")
SHORT = ("algo.cg_iterations=4",)  # more of them blow rounding up: the order of environments alone moves 5 digits
FIT = ("algo.critic_fit.epochs=2", "algo.critic_fit.minibatch=32")

CASES = {
    "reinforce, average baseline": ("algo=reinforce", "algo/baseline=average", "algo.reduce=sum", *EPISODES),
    "reinforce, optimal baseline": ("algo=reinforce", "algo/baseline=optimal", "algo.reduce=mean", *EPISODES),
    "reinforce, optimal baseline per parameter": (
        *("algo=reinforce", "algo/baseline=optimal", "algo.baseline.per_parameter=true", "algo.normalize=none"),
        *EPISODES,
    ),
    "reinforce, a step at each t": ("algo=reinforce", "algo.update=step", "algo.normalize=episode", *EPISODES),
    "reinforce with a value": ("algo=reinforce", "algo/baseline=value", "algo/advantage=total_return", *EPISODES),
    "actor-critic": ("algo=actor_critic", *CARTPOLE),
    "a2c, shared": ("algo=a2c", "algo.normalize=batch", "network.shared=true", *NORMALIZED, *CARTPOLE),
    "a2c, gaussian": ("algo=a2c", *NORMALIZED, *PENDULUM),
    "a2c, diagnostics": (*("algo=a2c", "diagnostics.gradient_variance=true", "diagnostics.step_size=true", *CARTPOLE),),
    "vpg": ("algo=vpg", *FIT, *NORMALIZED, *PENDULUM),
    "vpg, per parameter": (
        *("algo=vpg", "algo/baseline=optimal", "algo.baseline.per_parameter=true", "collector=episodes"),
        *("algo/advantage=reward_to_go", *EPISODES),
    ),
    "ppo": ("algo=ppo", *PPO, *NORMALIZED, *PENDULUM),
    "ppo, shared": ("algo=ppo", *PPO, *NORMALIZED, "network.shared=true", *CARTPOLE),
    "ppo, whole episodes": ("algo=ppo", *PPO, "collector=episodes", *EPISODES, "algo.minibatch=100000"),
    "ppo, lstm": ("algo=ppo", *PPO, "network=lstm", "network.sequence=8", *CARTPOLE),
    "ppo_kl": ("algo=ppo_kl", *PPO, *NORMALIZED, *PENDULUM),
    "dppo": ("algo=dppo", *FIT, *NORMALIZED, *PENDULUM),
    "mdpo": ("algo=mdpo", *PPO, *CARTPOLE),
    "vmpo": ("algo=vmpo", *PPO[:2], *NORMALIZED, *PENDULUM),
    "vmpo, choices": ("algo=vmpo", *PPO[:2], *CARTPOLE),
    "trpo": ("algo=trpo", *SHORT, *FIT, *NORMALIZED, *PENDULUM),
    "trpo, largest kl": (
        *("algo=trpo", "algo.kl=max", *SHORT, "algo.fisher_rows=48"),
        *("algo/critic_fit=trust_region", "algo.critic_fit.cg_iterations=4", *CARTPOLE),
    ),
    "npg": ("algo=npg", *SHORT, *FIT, *CARTPOLE),
    "npg, whole episodes": (
        *("algo=npg", *SHORT, "algo/critic_fit=trust_region", "algo.critic_fit.cg_iterations=4"),
        *("collector=episodes", *EPISODES),
    ),
    "acktr": ("algo=acktr", *CARTPOLE),
    "acktr, gaussian": ("algo=acktr", "optimizer.inverse_every=1", *PENDULUM),
    "grpo": ("algo=grpo", "algo.group=2", "env=cartpole", "env.num_envs=8", "algo.minibatch=100000"),
    "grpo, minibatches": (
        *("algo=grpo", "algo.group=2", "env=pendulum", "env.num_envs=8", "env.max_episode_steps=12"),
        *("algo.minibatch=32", "algo.normalize_length=false"),
    ),
    "dpg": ("algo=dpg", "env=pendulum", "env.num_envs=4", "algo.rollout=24", "env.max_episode_steps=9"),
}
SINGLE = ("reinforce, average baseline", "a2c, shared", "ppo", "trpo", "acktr")
# where what is reduced beside the gradient is not, another update comes out
CONTROLS = ("reinforce, average baseline", "reinforce, optimal baseline", "ppo", "ppo_kl", "trpo", "acktr")

QUICK = (*SINGLE, "grpo")  # the others are with the longer tests


def case(overrides):
    """A case with three rollouts of its recipe, which the initial policy collects."""
    config = resolved(compose(*overrides, "network.hidden=[16,16]", "parallel=ddp", "workers=2"))
    settings = OmegaConf.to_object(config)
    parts = build({**settings, "parallel": pair.ALONE, "workers": 1})
    with torch.no_grad():
        rollouts = [pair.with_noise(parts.collector.collect(parts.algorithm), seed) for seed in range(3)]
    parts.collector.env.close()
    return pair.Case(settings, rollouts)


@pytest.fixture(scope="module")
def both():
    pair_of_ranks = pair.Pair()
    yield pair_of_ranks
    pair_of_ranks.end()


@pytest.fixture(scope="module")
def cases(both, request):
    here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    wanted = {item.callspec.params.get("name") for item in here}
    found = {name: case(overrides) for name, overrides in CASES.items() if name in wanted}
    single = {f"{name} in single precision": replace(found[name], double=False) for name in SINGLE if name in found}
    alone = {
        f"{name}, gradients alone": replace(found[name], gradients_alone=True) for name in CONTROLS if name in found
    }
    return {**found, **single, **alone}


@pytest.fixture(scope="module")
def found(both, cases):
    return both.run(cases)


def apart(a, b):
    """The largest difference of any tensor, as a share of its largest entry (or of 1)."""
    assert a.keys() == b.keys()
    a = {k: x for k, x in a.items() if "vectors_" not in k}  # of K-FAC, with signs and turns that nothing decides
    return {k: float((a[k].double() - b[k].double()).abs().max() / max(1.0, a[k].abs().max())) for k in a}


def told(found, name):
    for rank in range(pair.RANKS):
        assert isinstance(found[rank].get(name), dict), found[rank].get(name, "the ranks did not get there")
    return found[0][name], found[1][name]


@pytest.mark.parametrize("name", sampled(list(CASES), QUICK))
def test_two_ranks_make_the_update_of_one(name, cases, found):
    first, second = told(found, name)
    one = pair.of_one(cases[name])
    assert {key: x for key, x in apart(one, first).items() if not x < 1e-9} == {}
    assert {key: x for key, x in apart(first, second).items() if x} == {}


@pytest.mark.parametrize("name", SINGLE)
def test_in_single_precision_too(name, cases, found):
    name = f"{name} in single precision"
    first, _ = told(found, name)
    one = pair.of_one(cases[name])
    assert {key: x for key, x in apart(one, first).items() if not x < 1e-5} == {}


@pytest.mark.parametrize("name", sampled(CONTROLS, [name for name in CONTROLS if name in QUICK]))
def test_gradients_alone_are_not_enough(name, cases, found):
    name = f"{name}, gradients alone"
    first, _ = told(found, name)
    one = pair.of_one(cases[name])
    assert max(x for key, x in apart(one, first).items() if not key.startswith("metric")) > 1e-4


def test_a_process_alone_keeps_what_it_has():
    x, n = torch.randn(3), torch.tensor(2.0)
    for alone in (ranks.total(x), ranks.mean(n, x), ranks.largest(x)):
        assert alone is x
    assert ranks.total(x, n) == (x, n)
    assert ranks.mean(n, x, n) == (x, n)
    assert ranks.of_others(x).tolist() == [0.0] * 3
    assert (ranks.total_count(3), ranks.largest_count(3)) == (3, 3)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("algo=ppo", "env.num_envs=5"), "env.num_envs=5 out evenly, which workers=2 can't: use env.num_envs=4"),
        (("algo=sac", "env=pendulum"), "Replay offers each process batches of its own"),
        (("algo=acer", "env.num_envs=4"), "Trajectories offers each process batches of its own"),
        (("algo=reinforce", "env.num_envs=4", "collector.episodes=5"), "use collector.episodes=4"),
    ],
)
def test_what_can_not_be_shared_is_refused(overrides, says):
    with pytest.raises(UserError, match=says):
        build(compose(*overrides, "parallel=ddp", "workers=2"))
