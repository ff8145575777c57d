"""Every coefficient that may follow a schedule does so, in every algorithm, and the critic has a rate of its own."""

import math

import pytest
import torch
from probes import run
from recipes import ALGORITHMS, OF_EPISODES, recipe, sampled
from running import compose, parts

from pgrun.config.signatures import signature
from pgrun.config.types import may_be_scheduled
from pgrun.errors import UserError

FORKS = {"gps", "behaviour_cloning"}  # they need demonstrations
JOINT = ("reinforce", "actor_critic", "a2c", "a3c", "acktr", "ppo", "ppo_kl", "mdpo", "vmpo", "acer", "offpolicy_pg")


def small(algo):
    words = recipe(algo, "env=cartpole", "env=pendulum", "env=simple_spread")
    return [*words, "total_steps=120" if algo not in OF_EPISODES else "total_steps=900"]


def scheduled(algo):
    """The settings of an algorithm's own that may be schedules, with a plain value for each."""
    config = compose(*small(algo))
    settings = signature(config.algo._target_).settings
    found = {name: config.algo.get(name) for name, setting in settings.items() if may_be_scheduled(setting.type)}
    return {name: value or 0.02 for name, value in found.items() if name != "critic_lr"}


CASES = [algo for algo in ALGORITHMS if algo not in FORKS and scheduled(algo)]


def weights(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.parameters()])


@pytest.mark.parametrize("algo", sampled(CASES, ("ppo", "sac_v1")))
def test_every_coefficient_follows_its_schedule(algo):
    """A level schedule trains as the number does; a moving one has its curve, and trains to something else."""
    values = scheduled(algo)
    level = [f"algo.{name}=linear:{value}:{value}" for name, value in values.items()]
    moving = [f"algo.{name}=piecewise:{value}@0:{0.5 * value}@1" for name, value in values.items()]
    numbers = [f"algo.{name}={value}" for name, value in values.items()]
    plain, _ = run(*small(algo), *without_falls(algo), *numbers)
    same, _ = run(*small(algo), *without_falls(algo), *level)
    other, clock = run(*small(algo), *without_falls(algo), *moving)
    torch.testing.assert_close(weights(same.algorithm), weights(plain.algorithm), rtol=1e-3, atol=1e-4)
    curves = other.algorithm.schedules()
    progress = other.algorithm.progress
    assert 0.0 < progress < 1.0
    assert clock.updates > 1
    expected = sorted(value * (1.0 - 0.5 * progress) for value in values.values() if value)
    found = sorted(curves.values())
    assert [x for x in expected if not any(math.isclose(x, y, rel_tol=1e-6) for y in found)] == []
    if any(values.values()):
        assert not torch.equal(weights(other.algorithm), weights(same.algorithm))


def without_falls(algo):
    """Overrides that turn off the falls of numbers which the recipe has already."""
    names = [f"algo.{name}" for name in compose(f"algo={algo}").algo if str(name).endswith("_schedule")]
    return [f"{name}=constant" for name in (*names, "optimizer.schedule")]


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["a2c", "ppo", "sac", "sac_v1", "td3", "dppo"])
def test_compiled_steps_follow_schedules_without_a_new_trace(algo):
    values = scheduled(algo)
    moving = [f"algo.{name}=linear:{value}:{0.5 * value}" for name, value in values.items()]
    made = [run(*small(algo), *moving, f"compile={compile}")[0].algorithm for compile in ("false", "true")]
    torch.testing.assert_close(weights(made[1]), weights(made[0]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("algo", sampled(JOINT, ("ppo", "acer")))
def test_the_critic_has_a_rate_of_its_own(algo):
    """With a rate of almost nothing the critic stays; the policy moves as it does beside a critic that learns."""
    words = [*small(algo), "algo.max_grad_norm=null"]
    words += ["algo/baseline=value"] if algo == "reinforce" else []
    start = parts(*words).algorithm
    end = run(*words, "algo.critic_lr=1e-30")[0].algorithm
    actors = {id(p) for p in end.model.actor.parameters()}
    moved = {"actor": 0.0, "critic": 0.0}
    for p, q in zip(start.model.parameters(), end.model.parameters(), strict=True):
        moved["actor" if id(q) in actors else "critic"] += float((p - q).detach().abs().max())
    assert moved["critic"] < 1e-20
    assert moved["actor"] > 0.0
    assert end.schedules()["schedule/lr_critic"] == pytest.approx(1e-30)


def test_one_rate_said_twice_is_one_rate():
    words = small("ppo")
    one, two = (run(*words, "optimizer.lr=1e-3", f"algo.critic_lr={lr}")[0].algorithm for lr in ("null", "1e-3"))
    torch.testing.assert_close(weights(two), weights(one), rtol=1e-5, atol=1e-7)


def test_a_trunk_that_both_share_keeps_the_policys_rate():
    words = [*small("ppo"), "network.shared=true"]
    start, end = parts(*words).algorithm, run(*words, "algo.critic_lr=1e-30")[0].algorithm
    trunks, heads = ([part(x) for x in (start, end)] for part in (trunk, lambda x: x.model.critic.head.weight))
    assert not torch.equal(*trunks)
    assert torch.equal(*heads)


def trunk(algorithm):
    return torch.cat([p.flatten() for p in algorithm.model.actor.encoder.parameters()])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["algo=grpo", "collector.episodes=8", "+algo.critic_lr=0.1"], "no critic is learned here"),
        (["algo=a2c", "algo/baseline=none", "algo/advantage=reward_to_go", "algo.critic_lr=0.1"], "no critic is"),
        (["algo=ppo", "algo/baseline=none", "algo/advantage=reward_to_go", "algo.value_clip=0.1"], "no critic is"),
    ],
)
def test_what_means_nothing_is_refused(words, says):
    with pytest.raises(UserError, match=says):
        parts("env=cartpole", *words)


def test_ppo_stops_its_epochs_once_a_minibatch_is_too_far():
    words = [*small("ppo"), "algo.rollout=16", "algo.epochs=10", "optimizer.lr=0.05", "algo.kl_stop=0.01"]
    made = parts(*words)
    algorithm = made.algorithm
    seen = []
    step = algorithm.step

    def noted(*arguments):
        metrics = step(*arguments)
        seen.append(float(metrics["policy/kl"]))
        return metrics

    algorithm.step = noted
    metrics = algorithm.update(made.collector.collect(algorithm))
    assert metrics["policy/steps"] == len(seen) < 10 * 64 / 8
    assert all(kl <= 0.01 for kl in seen[:-1])
    assert seen[-1] > 0.01


def test_the_limit_of_values_reaches_the_loss():
    words = [*small("ppo"), "algo.rollout=16", "algo.epochs=10", "optimizer.lr=0.05"]
    free, held = (run(*words, f"algo.value_clip={clip}")[0].algorithm for clip in ("null", "1e-6"))
    obs = torch.randn(64, 4)
    v_free, v_held = (algorithm.model.critic(obs).abs().mean() for algorithm in (free, held))
    assert v_held < 0.5 * v_free
