"""network.std and network.squash with every algorithm: it learns with them, or refuses them in one line."""

import pytest
import torch
from probes import Trained, run
from recipes import ALGORITHMS, OF_AGENTS, OF_CHOICES, OF_NUMBERS, demonstrations, recipe, sampled
from running import acting_eagerly, parts
from torch.testing import assert_close

from pgrun.envs.codecs import action_codec
from pgrun.errors import UserError
from pgrun.loop.evaluate import evaluate
from pgrun.loop.train import Clock, train
from pgrun.nn.gaussian import Gaussian, TanhGaussian

STATE, SQUASH, SDE = "network.std=state", "network.squash=true", "network.std=sde"
NORM = "network.layer_norm=true"
SQUASHED = {"sac", "sac_v1", "redq", "mdpo_offpolicy"}  # which may explore by matrices
OWN = {"sac", "sac_v1", "redq", "mdpo_offpolicy", "sql"}  # policies of their own, with continuous actions
OF_GAUSSIANS = [algo for algo in ALGORITHMS if algo not in OF_AGENTS | OF_CHOICES | OF_NUMBERS | OWN]
OTHERS = [algo for algo in ALGORITHMS if algo not in [*OF_GAUSSIANS, *OF_CHOICES]]


def words(algo, tmp_path, env="env=pendulum"):
    more = [demonstrations(tmp_path / "x.npz", env)] if algo == "behaviour_cloning" else []
    return recipe(algo, env, env) + more


KINDS = ((STATE,), (SQUASH,), (STATE, SQUASH), (SDE,), (SDE, SQUASH), (SDE, "network.sde_learn_features=true", NORM))
CASES = [(algo, network) for algo in OF_GAUSSIANS for network in KINDS]
QUICK = [
    ("ppo", (SQUASH,)),
    ("acktr", (STATE,)),
    ("trpo", (SDE,)),
    ("acktr", (SDE,)),
    *((a, (STATE, SQUASH)) for a in ("acer", "trpo", "gps")),
]


@pytest.mark.parametrize(("algo", "network"), sampled(CASES, QUICK))
def test_it_learns_with(algo, network, tmp_path):
    plain = () if SQUASH in network else ("network.squash=false",)  # whatever was tuned
    made = parts(*words(algo, tmp_path), *plain, *network)
    before = {name: p.clone() for name, p in made.algorithm.named_parameters()}
    train(made.algorithm, made.collector, made.memory, Clock(120), [])
    head = made.algorithm.model.actor.head
    assert head.squash == (SQUASH in network)
    assert (head.log_std is None) == (STATE in network or SDE in network)
    assert all(bool(p.isfinite().all()) for p in made.algorithm.parameters())
    assert not torch.equal(head.layer.bias, before["model.actor.head.layer.bias"])
    if SDE in network:
        assert not torch.equal(head.noise.log_std, before["model.actor.head.noise.log_std"])
    made.collector.env.close()


@pytest.mark.parametrize("algo", sampled(sorted(SQUASHED), ("sac",)))
def test_a_squashed_policy_with_a_replay_explores_by_matrices(algo, tmp_path):
    made = parts(*recipe(algo, "env=pendulum", "env=pendulum"), SDE, NORM, "network.sde_sample_freq=8")
    noise = made.algorithm.actor.noise
    before = noise.log_std.detach().clone()
    train(made.algorithm, made.collector, made.memory, Clock(120), [])
    assert all(bool(p.isfinite().all()) for p in made.algorithm.parameters())
    assert bool((noise.log_std != before).any())
    made.collector.env.close()


@pytest.mark.parametrize("algo", sampled(OTHERS, ("sac", "td3", "maddpg")))
def test_a_policy_without_such_a_gaussian_refuses_them(algo):
    settings = {STATE: "network.std=global", SQUASH: "network.squash=false", SDE: "network.std=global"}
    for setting, right in settings.items():
        if setting == SDE and algo in SQUASHED:
            continue
        says = rf"^{setting} is of Gaussian policies, .*'s policy takes no such setting, so use {right} \(sac, sac_v1"
        with pytest.raises(UserError, match=says):
            parts(*recipe(algo, "env=pendulum", "env=pendulum"), setting)


@pytest.mark.parametrize("algo", sampled([a for a in ALGORITHMS if a not in OF_AGENTS | OF_NUMBERS], ("ppo", "dqn")))
def test_choices_refuse_them(algo, tmp_path):
    settings = {STATE: "network.std=global", SQUASH: "network.squash=false", SDE: "network.std=global"}
    for setting, right in settings.items():
        if algo in OWN and algo != "sql":
            continue
        with pytest.raises(UserError, match=rf"^{setting} is of Gaussian policies, .*use {right}"):
            parts(*words(algo, tmp_path, "env=cartpole"), setting)


def test_what_has_no_bounds_cant_be_squashed():
    with pytest.raises(UserError, match=r"this environment's have none; use network\.squash=false"):
        parts(*recipe("ppo", "env=lqr", ""), SQUASH)


@pytest.mark.parametrize("squash", [True, False])
def test_squashed_actions_fill_the_environments_bounds(squash):
    """A squashed policy never leaves (−1, 1), which becomes the range; without a squash, actions are clipped to it."""
    made = parts(*recipe("ppo", "env=pendulum", ""), f"network.squash={squash}", "network.log_std_init=1")
    action = made.collector.collect(made.algorithm).action
    assert (action.abs().max() <= 1.0) == squash
    _, to_env = action_codec(made.collector.env.env.single_action_space)
    moved = to_env(action[0])
    assert abs(moved).max() > 1.9
    if squash:
        assert_close(torch.from_numpy(moved), 2.0 * action[0])
    made.collector.env.close()


@pytest.mark.parametrize("network", [(STATE,), (STATE, SQUASH)])
def test_evaluation_takes_the_mode(network):
    made = parts(*recipe("ppo", "env=pendulum", ""), *network)
    env = made.make_eval_env(2)
    done = []
    evaluate(made.algorithm, env, 2, seed=0, record=lambda obs, action, *_: done.append((obs, action)), max_steps=5)
    for obs, action in done:
        mean = made.algorithm.model.actor(obs).mean
        assert torch.equal(action, mean.tanh() if SQUASH in network else mean)
    assert not torch.equal(done[0][1], made.algorithm.act(done[0][0], (), True)[0])
    env.close()
    made.collector.env.close()


def test_another_kind_of_policy_is_not_taken_over():
    """Their tensors have the same shapes, and would mean something else."""
    plain, squashed = (parts(*recipe("ppo", "env=pendulum", ""), STATE, *x).algorithm for x in ((), (SQUASH,)))
    squashed.start_from({k: v.clone() for k, v in squashed.state_dict().items()}, "RUN")
    for one, other in ((plain, squashed), (squashed, plain)):
        with pytest.raises(
            UserError, match=r"RUN holds another policy than this one: see model\.actor\.head\.squashed"
        ):
            one.start_from(other.state_dict(), "RUN")


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["ppo", "acer"])
@pytest.mark.parametrize("network", [(STATE,), (SQUASH,), (STATE, SQUASH), (SDE, NORM), (SDE, SQUASH)])
def test_compiled_updates_are_the_eager_ones(algo, network):
    results = []
    for compiled in ("compile=false", "compile=true"):
        torch.manual_seed(0)
        made = acting_eagerly(parts(*recipe(algo, "env=pendulum", ""), *network, compiled))
        train(made.algorithm, made.collector, made.memory, Clock(80), [])
        results.append(torch.cat([p.detach().flatten() for p in made.algorithm.parameters()]))
        made.collector.env.close()
    assert_close(*results, rtol=1e-3, atol=1e-4)


GAMMA = 0.8
PROBE = ("algo=ppo", "network=mlp", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}", "env.num_envs=8")
CALM = ("optimizer.lr=0.003", "optimizer.schedule=linear", "algo.rollout=32", "algo.minibatch=64", "total_steps=5000")


@pytest.mark.parametrize(
    "network", sampled([((STATE,),), ((SQUASH,),), ((STATE, SQUASH),), ((SDE,),)], [((STATE, SQUASH),)])
)
def test_the_policy_finds_the_number_that_pays(network):
    """In the state 1 that is 0.5, in the state −1 it is −0.5."""
    probe = ("env.id=ProbeMatch-v0", "+env.kwargs.continuous=true", "network.log_std_init=-1")
    made, _ = run(*PROBE, *CALM, *probe, *network)
    assert Trained(made.algorithm).action([1.0], [-1.0]) == pytest.approx([0.5, -0.5], abs=0.1)


@pytest.mark.parametrize("kind", [Gaussian, TanhGaussian])
def test_maximum_likelihood_of_clipped_actions(kind):
    """A mean goes to where the actions are; of those beyond the bounds, a squashed one to the bound, not to NaN."""
    mean, log_std = torch.zeros(1, 1, requires_grad=True), torch.zeros(1, 1)
    action = torch.tensor([[1.0], [1.0], [1.4]])
    for _ in range(200):
        loss = -kind(mean, log_std).log_prob(action).mean()
        (slope,) = torch.autograd.grad(loss, mean)
        mean = (mean - 0.1 * slope).detach().requires_grad_()
    mode = float(kind(mean, log_std).mode().detach())
    assert mode == pytest.approx(1.0 if kind is TanhGaussian else 3.4 / 3.0, abs=1e-3)
