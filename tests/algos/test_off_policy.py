"""All that learn from replay share this: the arguments of gradient steps and explorers, and refusals."""

import pytest
import torch
from recipes import OF_AGENTS, OF_CHOICES, OF_NUMBERS, OF_STEPS
from running import new_run, parts
from torch.testing import assert_close

from pgrun.errors import UserError

SMALL = (
    *("network.hidden=[16]", "memory.warmup=30", "memory.capacity=100", "memory.batch_size=12", "memory.updates=1"),
)
CONTINUOUS = sorted(OF_STEPS - OF_CHOICES - OF_AGENTS)
DISCRETE = sorted(OF_STEPS - OF_NUMBERS - OF_AGENTS)
ALL = [*((algo, "pendulum") for algo in CONTINUOUS), *((algo, "cartpole") for algo in DISCRETE)]


class Calls:
    """A function that keeps the arguments it is called with."""

    def __init__(self, function):
        self.function, self.args = function, []

    def __call__(self, *args):
        self.args.append(args)
        return self.function(*args)

    def __getattr__(self, name):
        return getattr(self.function, name)


def made(algo, env, *overrides):
    """An algorithm and rows of its replay, whose successors are other states."""
    p = parts(f"algo={algo}", f"env={env}", *SMALL, *overrides)
    while not (batches := list(p.memory.batches())):
        p.memory.add(p.collector.collect(p.algorithm))
    assert not torch.equal(batches[0].obs, batches[0].next_obs)
    return p.algorithm, batches[0]


def watched(algorithm):
    """Its gradient steps, each noting what it is called with."""
    steps = {name: Calls(step) for name, step in algorithm.steps().items()}
    for name, step in steps.items():
        setattr(algorithm, name, step)
    return steps


@pytest.mark.parametrize(("algo", "env"), [*ALL, ("dpg_offpolicy", "pendulum")])
def test_every_step_learns_at_the_states_that_were_acted_in(algo, env):
    a, batch = made(algo, env, *(["memory=replay"] if algo == "dpg_offpolicy" else []))
    steps = watched(a)
    a.update(batch)
    assert steps
    steps.pop("temperature_step", None)  # sees no states
    for name, step in steps.items():
        (args,) = step.args
        args = step.prepared(*args)
        assert torch.equal(args[0], batch.obs), name
        if name == "critic_step":
            assert torch.equal(args[1], batch.action)


def test_the_temperature_aims_at_the_entropy_of_the_states_that_were_acted_in():
    a, batch = made("sac_discrete", "cartpole")
    a.target_entropy = Calls(a.target_entropy)
    a.update(batch)
    ((obs,),) = a.target_entropy.args
    assert torch.equal(obs, batch.obs)


def test_the_policy_and_its_target_have_a_noise_each():
    a, batch = made("sac", "pendulum")
    a.target, steps = Calls(a.target), watched(a)
    a.update(batch)
    ((_, of_target),) = a.target.args
    ((_, of_policy, _),) = steps["actor_step"].args
    assert abs(float(torch.corrcoef(torch.stack([of_target.flatten(), of_policy.flatten()]))[0, 1])) < 0.95


def test_particles_move_along_the_q_that_is_learnt():
    a, batch = made("sql", "pendulum")
    a.actor.transport = Calls(a.actor.transport)
    a.update(batch)
    ((q, obs, _),) = a.actor.transport.args
    assert q is a.q
    assert obs is batch.obs


def test_the_compatible_critics_target():
    """r + γ · discount · V(s'), where 0, 1 or less of V counts."""
    a, batch = made("dpg_offpolicy", "pendulum", "memory=replay", "algo.gamma=0.9")
    discount = torch.arange(12) % 3 * 0.5
    steps = watched(a)
    v = a.v(batch.next_obs).detach()
    a.update(batch._replace(discount=discount))
    assert not torch.allclose(v, a.v(batch.obs))
    assert_close(steps["critic_step"].args[0][2], batch.reward + 0.9 * discount * v)


@pytest.mark.parametrize(("algo", "env"), [("dqn", "cartpole"), ("td3", "pendulum")])
def test_explorers_are_told_how_far_the_run_is(algo, env):
    schedule = "algo.exploration.epsilon=linear:1:0" if algo == "dqn" else "algo.exploration.sigma=linear:1:0"
    a, _ = made(algo, env, schedule)
    a.set_progress(0.3)
    assert a.exploration.number == pytest.approx(0.7)


def test_mirror_descents_step_follows_its_schedule():
    a, batch = made("mdpo_offpolicy", "pendulum", "algo.eta=0.5", "algo.eta_schedule=linear")
    a.set_progress(0.4)
    a.update(batch)
    assert float(a.eta) == pytest.approx(0.3)


def test_a_fixed_temperature_stays():
    a, batch = made("mdpo_offpolicy", "pendulum", "optimizer=adamw", "optimizer.weight_decay=0.1")
    before = a.log_alpha.detach().clone()
    assert not a.learn_temperature
    for _ in range(3):
        a.update(batch)
    assert torch.equal(a.log_alpha, before)


def test_errors_become_priorities_of_the_compatible_critic():
    a, batch = made("dpg_offpolicy", "pendulum", "memory=prioritized")
    weight = torch.linspace(0.1, 1.0, 12)
    batch.extras["weight"].copy_(weight)
    steps, v = watched(a), a.v(batch.next_obs).detach()
    q = a.v(batch.obs).detach()  # w is still 0
    a.update(batch)
    y = batch.reward + a.gamma * batch.discount * v
    assert_close(batch.extras["priority"], (q - y).abs())
    assert_close(steps["critic_step"].metrics["loss/critic"], 0.5 * (weight * (q - y).square()).mean())


@pytest.mark.parametrize("algo", ["ddpg", "td3", "d4pg"])
def test_slow_copies_begin_where_another_runs_policy_is(algo):
    """DPG has none that they could be taken from."""
    tensors = parts("algo=dpg", "env=pendulum", "network.hidden=[16]").algorithm.snapshot()["module"]
    a = parts(f"algo={algo}", "env=pendulum", *SMALL, "network.activation=tanh").algorithm
    a.start_from(tensors, "RUN")
    assert_close(a.phi_target, a.actor_step.theta)
    assert_close(a.theta_target, a.critic_step.theta)
    assert_close(a.actor.layer.weight, tensors["actor.layer.weight"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("algo=a2c", "env=cartpole", "memory=replay"), "learns from whole rollouts.* use memory=latest"),
        (("algo=dpg", "env=pendulum", "memory=replay"), "learns from whole rollouts.* use memory=latest"),
        (("algo=acer", "env=cartpole", "memory=prioritized"), "learns from whole rollouts.* use memory=latest"),
        (("algo=sac", "env=pendulum", "memory=latest"), "SAC learns from single steps.* use memory=replay"),
        (("algo=dqn", "env=cartpole", "memory=trajectories"), "DQN learns from single steps.* use memory=replay"),
        *(
            (("env=pendulum", "network=lstm", f"algo={x}"), f"use {'network=mlp' if x == 'sql' else 'memory=seq'}")
            for x in CONTINUOUS
        ),
        (("algo=dpg", "env=pendulum", "network=lstm"), "use network=mlp"),
        (("algo=dpg", "env=pendulum", "network.normalize_obs=true"), "use network.normalize_obs=false"),
        *((("env=lqr", f"algo={x}"), "use algo=td3") for x in ("sac", "sac_v1", "mdpo_offpolicy", "sql")),
        (("algo=sac", "env=pendulum", "memory.device=foo"), "memory.device=foo is not known; choose auto, cpu or cuda"),
        (("algo=d4pg", "env=pendulum", "algo.v_max=nan"), "both finite"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, says):
    with pytest.raises(UserError, match=says):
        parts(*overrides)


def test_a_run_that_never_learns_says_so(tmp_path, caplog):
    words = ("algo=td3", "env=pendulum", *SMALL, "eval.every=null", "eval.final_episodes=1")
    new_run(tmp_path / "short", *words, "total_steps=20").execute()
    assert "nothing was learnt" in caplog.text
    caplog.clear()
    new_run(tmp_path / "long", *words, "total_steps=40").execute()
    assert "nothing was learnt" not in caplog.text
