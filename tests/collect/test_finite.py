"""Numbers that aren't finite end a run where they are used, and not in an observation that ends an episode."""

import numpy as np
import pytest
import torch
from probes import run
from recipes import SAMPLED, demonstrations, recipe, sampled
from running import parts

from pgrun.collect.finite import check_observations, check_step
from pgrun.data.stepping import finite_where, stepped
from pgrun.data.types import Step, Transition
from pgrun.envs.episode_file import load
from pgrun.errors import Diverged, EnvNotFinite, UserError
from pgrun.loop.evaluate import evaluate

ENV = "env=gym env.id=Probe{}-v0 env.autoreset={}"


def words(algo, probe, autoreset="same_step"):
    env = ENV.format(probe, autoreset)
    return recipe(algo, env, f"{env} +env.kwargs.continuous=true", "env=pettingzoo env.id=agents:Broken")


def tensors(x):
    """Every tensor that a snapshot holds."""
    if isinstance(x, torch.Tensor):
        yield x
    elif isinstance(x, dict | list | tuple):
        for each in x.values() if isinstance(x, dict) else x:
            yield from tensors(each)


@pytest.mark.parametrize("algo", SAMPLED)
def test_a_terminal_observation_of_nan_does_nothing(algo, tmp_path):
    """Nor the row after it, which sees it and counts nowhere."""
    small, env = words(algo, "Broken", "next_step"), ENV.format("Broken", "next_step").split()
    small += [demonstrations(tmp_path / "x.npz", *env)] if algo == "behaviour_cloning" else []
    made, clock = run(*small, "total_steps=100")
    assert clock.updates >= 1
    for x in (*made.algorithm.state_dict().values(), *tensors(made.memory.snapshot())):
        assert bool(x.isfinite().all()) or not x.is_floating_point()


NORMALISED = {
    "ppo": ("network.normalize_obs=true", "algo.normalize_reward=true"),
    "acer": ("network.normalize_obs=true",),
    "td3": ("memory=prioritized", "memory.n_step=2"),
    "a2c": ("env/shaping=coordinate", "env.shaping.index=0", "env.shaping.scale=1"),
}


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
@pytest.mark.parametrize("algo", sampled(list(NORMALISED), ("ppo", "td3")))
def test_normalisers_replays_and_shaping_take_it_too(algo, autoreset):
    made, _ = run(*words(algo, "Broken", autoreset), *NORMALISED[algo], "total_steps=200")
    for x in (*made.algorithm.state_dict().values(), *tensors(made.memory.snapshot())):
        assert bool(x.isfinite().all()) or not x.is_floating_point()


@pytest.mark.parametrize("algo", ["ppo", "td3"])
@pytest.mark.parametrize("probe", ["Cut", "Dawn"])
def test_what_is_used_ends_the_run_and_is_named(algo, probe):
    with pytest.raises(EnvNotFinite, match=r"^the observation of environment 0 is nan, coordinate \[0\]$") as caught:
        run(*words(algo, probe), "total_steps=200")
    assert caught.value.when == {"Cut": "after a step", "Dawn": "after a reset"}[probe]


class Once:
    """An environment of two copies that answers with one step."""

    num_envs = 2

    def __init__(self, answer):
        self.answer = answer

    def step(self, action):
        return self.answer


def answer(discount, *, same):
    nan = torch.tensor([[torch.nan, 1.0], [2.0, torch.inf]])
    obs = nan if same else torch.zeros(2, 2)
    true = torch.ones(2, dtype=torch.bool)
    return Step(obs, nan, torch.ones(2), torch.tensor(discount), true, true)


def test_only_the_rows_that_are_over_are_made_finite():
    step = stepped(Once(answer([0.0, 1.0], same=True)), None)
    assert step.next_obs.tolist() == [[0.0, 1.0], [2.0, float("inf")]]
    assert step.obs is step.next_obs  # the next row is filler
    step = stepped(Once(answer([0.0, 0.0], same=False)), None)
    assert step.next_obs.tolist() == [[0.0, 1.0], [2.0, 0.0]]
    assert not step.obs.any()


def test_of_several_agents_a_row_is_over_when_all_are():
    step = stepped(Once(answer([[0.0, 1.0], [0.0, 0.0]], same=True)), None)
    assert step.next_obs[0].isnan().tolist() == [True, False]
    assert step.next_obs[1].tolist() == [2.0, 0.0]


def test_what_is_finite_is_not_copied():
    x = torch.randn(3, 2)
    assert finite_where(x, torch.ones(3, dtype=torch.bool)) is x


def test_demonstrations_that_are_cut_at_nan_are_refused(tmp_path):
    env = ENV.format("Broken", "same_step").split()
    demonstrations(tmp_path / "x.npz", *env)
    data = dict(np.load(tmp_path / "x.npz"))
    data["final_observations"][:] = np.nan
    space = parts("algo=ppo", *env).algorithm
    np.savez(tmp_path / "ended.npz", **data)
    assert bool(load(str(tmp_path / "ended.npz"), space.obs_space, space.action_space).next_obs.isfinite().all())
    data["truncations"], data["terminations"] = data["terminations"], data["truncations"]
    np.savez(tmp_path / "cut.npz", **data)
    with pytest.raises(UserError, match="not finite"):
        load(str(tmp_path / "cut.npz"), space.obs_space, space.action_space)


def rollout(**changed):
    """Three steps of two environments, of which the first ends an episode at the second."""
    last, valid = torch.zeros(3, 2, dtype=torch.bool), torch.ones(3, 2, dtype=torch.bool)
    last[1, 0] = True
    parts = {
        "obs": {"x": torch.zeros(3, 2, 4)},
        "next_obs": {"x": torch.zeros(3, 2, 4)},
        "action": torch.zeros(3, 2, 1),
    }
    parts |= {"reward": torch.ones(3, 2), "discount": torch.ones(3, 2), "last": last, "valid": valid, "extras": {}}
    return Transition(**{**parts, **changed})


def nan_at(*shape, at):
    x = torch.zeros(*shape)
    x[at] = torch.nan
    return x


@pytest.mark.parametrize(
    ("changed", "says", "steps"),
    [
        ({"obs": {"x": nan_at(3, 2, 4, at=(2, 0, 3))}}, "the observation 'x' of environment 0 ", 4),
        (
            {"next_obs": {"x": nan_at(3, 2, 4, at=(1, 1, 2))}},
            r"'x' of environment 1 .*coordinate \[2\]$",
            4,
        ),
        ({"reward": nan_at(3, 2, at=(0, 1))}, "^the reward of environment 1 is nan$", 2),
    ],
)
def test_the_first_that_is_not_finite_is_named_with_its_step(changed, says, steps):
    with pytest.raises(EnvNotFinite, match=says) as caught:
        check_observations(rollout(**changed))
    assert caught.value.steps == steps
    check_observations(rollout())


def test_a_policy_that_went_before_is_to_blame_itself():
    wrong = {"action": nan_at(3, 2, 1, at=(1, 0, 0)), "reward": nan_at(3, 2, at=(1, 0))}
    with pytest.raises(Diverged, match="the policy's action in environment 0 is nan") as caught:
        check_observations(rollout(**wrong))
    assert not isinstance(caught.value, EnvNotFinite)
    assert "optimizer.lr" in caught.value.remedy


def test_in_an_evaluation_rows_that_are_filler_do_not_count():
    none = torch.zeros(2, dtype=torch.bool)
    obs, zeros = torch.tensor([[torch.nan], [0.0]]), torch.zeros(2, 1)
    step = Step(zeros, zeros, torch.ones(2), torch.ones(2), none, torch.tensor([False, True]))
    check_step(obs, step, 1)
    said = r"^in an evaluation, at its step 1, the observation of environment 0 is nan, coordinate \[0\]$"
    with pytest.raises(EnvNotFinite, match=said):
        check_step(obs, step._replace(valid=~none), 1)


def test_an_evaluation_ends_where_an_environment_is_not_finite():
    made = parts(*words("ppo", "Dawn"), "num_envs=1", "algo.minibatch=4")
    with pytest.raises(EnvNotFinite, match="the observation of environment 0 is nan"):
        evaluate(made.algorithm, made.make_eval_env(5), 5, seed=0)
