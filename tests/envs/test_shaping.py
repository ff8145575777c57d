"""Potential-based shaping: the rewards by hand, what is logged, and that it leaves alone what it must."""

import json

import numpy as np
import pytest
import torch
import worlds  # noqa: F401 (registers the test environments)
from omegaconf import OmegaConf
from running import compose, new_run, parts, same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transitions import adapter

from pgrun.after.evaluation import evaluate_checkpoint
from pgrun.config.resolve import resolved
from pgrun.envs.shaping import Coordinate, Distance, Shaped
from pgrun.envs.tensor import TensorEnv
from pgrun.envs.worlds import CartPole, RewardHack
from pgrun.errors import UserError
from pgrun.run import checkpoint
from pgrun.run.environments import shaped

GAMMA = 0.9


def phi(obs):
    """A potential that nothing is symmetric in, never 0 at an end."""
    return 3.0 + obs[:, 0] - 2.0 * obs[:, 2].square()


def cartpole(limit):
    return TensorEnv(world=CartPole(masked=[]), num_envs=3, max_episode_steps=limit, seed=0)


WAYS = {
    "tensors": cartpole,
    "native": lambda limit: adapter("CartPole-v1", num_envs=3, backend="native", limit=limit),
    "same step": lambda limit: adapter("CartPole-v1", num_envs=3, backend="sync", limit=limit),
    "next step": lambda limit: adapter("CartPole-v1", num_envs=3, backend="sync", autoreset="next_step", limit=limit),
}


def play(env, steps, seed=3):
    torch.manual_seed(0)
    obs, rows = env.reset(seed), []
    for _ in range(steps):
        step = env.step(torch.randint(2, (3,)))
        rows.append((obs, step))
        obs = step.obs
    return rows


@pytest.mark.parametrize("name", WAYS)
def test_every_reward_by_hand(name):
    env = Shaped(WAYS[name](15), phi, GAMMA)
    rows, cut, died = play(env, 120), 0, 0
    plain = play(WAYS[name](15), 120)
    for (obs, step), (raw_obs, raw) in zip(rows, plain, strict=True):
        assert torch.equal(obs, raw_obs)
        for field in ("obs", "next_obs", "discount", "last", "valid"):
            assert torch.equal(getattr(step, field), getattr(raw, field))
        assert torch.equal(step.streams["return"], raw.reward)
        assert torch.equal(step.streams["return_shaped"], step.reward)
        for i in range(3):
            if not raw.valid[i]:
                assert float(step.reward[i]) == 0.0
                continue
            end = 0.0 if raw.discount[i] == 0.0 else float(phi(raw.next_obs)[i])
            want = float(raw.reward[i]) + GAMMA * end - float(phi(obs)[i])
            assert float(step.reward[i]) == pytest.approx(want, abs=1e-5)
            cut += int(raw.last[i] and raw.discount[i] == 1.0)
            died += int(raw.discount[i] == 0.0)
    assert cut > 3
    assert died > 3


def test_over_an_episode_only_its_start_is_left():
    """Σ γ^t r̃_t = Σ γ^t r_t − Φ(s_0) where the episode terminates: the same for every policy."""
    env = Shaped(cartpole(500), phi, GAMMA)
    start, total, t, seen = env.reset(1), torch.zeros(3), torch.zeros(3), 0
    for _ in range(200):
        step = env.step(torch.ones(3, dtype=torch.int64))
        total += GAMMA**t * (step.reward - step.streams["return"])
        t += 1
        for i in step.last.nonzero().flatten().tolist():
            assert float(total[i]) == pytest.approx(-float(phi(start)[i]), abs=1e-4)
            start[i], total[i], t[i], seen = step.obs[i], 0.0, 0.0, seen + 1
    assert seen > 30


@pytest.mark.parametrize("name", WAYS)
def test_a_fresh_one_goes_on_from_a_snapshot(name):
    env, other = Shaped(WAYS[name](15), phi, GAMMA), Shaped(WAYS[name](15), phi, GAMMA)
    play(env, 40)
    saved = env.snapshot()
    actions = [torch.randint(2, (3,)) for _ in range(40)]
    want = [tuple(env.step(a)) for a in actions]
    other.reset(9)
    other.restore(saved)
    assert same([tuple(other.step(a)) for a in actions], want)


def test_groups_and_state_are_the_inner_environments():
    env = Shaped(cartpole(15), phi, GAMMA)
    obs = env.reset(3, group=3)
    assert torch.equal(obs, obs[:1].expand(3, -1))
    assert torch.equal(env.phi, phi(obs))
    assert env.ungrouped == ""
    pool = Shaped(adapter("CartPole-v1", num_envs=3, backend="envpool"), phi, GAMMA)
    assert "seeded" in pool.ungrouped
    assert pool.snapshot() is None
    assert "envpool" in pool.why_stateless
    pool.close()


def test_other_streams_pass():
    world = RewardHack(length=8, buoy=2, finish_points=3.0)
    env = Shaped(TensorEnv(world=world, num_envs=2, max_episode_steps=50, seed=0), lambda obs: obs[:, 0], GAMMA)
    env.reset(0)
    step = env.step(torch.tensor([2, 0]))
    assert step.streams["return_true"].tolist() == pytest.approx([-0.1, -0.1])
    assert step.streams["return"].tolist() == [0.0, 0.0]
    assert step.reward.tolist() == pytest.approx([-1.0, GAMMA - 1.0])


def test_named_potentials():
    obs = torch.tensor([[1.0, 2.0, 3.0], [0.0, -2.0, 0.5]])
    assert Coordinate(index=1, scale=0.5)(obs).tolist() == [1.0, -1.0]
    assert Coordinate(index=-1, scale=1.0)(obs).tolist() == [3.0, 0.5]
    near = Distance(indices=[0, 2], goal=[1.0, 0.0], scale=2.0)(obs)
    assert near.tolist() == pytest.approx([-6.0, -2.0 * np.hypot(1.0, 0.5)])


# ---- through the configs


def test_training_is_shaped_and_evaluation_is_raw():
    made = parts("env=mountain_car", "env/shaping=coordinate", "env.shaping.scale=7", "num_envs=2", "algo.gamma=0.95")
    env = made.collector.env
    assert (type(env), env.gamma, env.potential.scale) == (Shaped, 0.95, 7)
    assert not isinstance(made.make_eval_env(3), Shaped)
    assert not isinstance(parts("env=mountain_car", "num_envs=2").collector.env, Shaped)
    rollout = made.collector.collect(made.algorithm)
    x, after = rollout.obs[..., 0], rollout.next_obs[..., 0]
    assert torch.allclose(rollout.reward, -1.0 + 7 * (0.95 * after - x), atol=1e-5)


def curves(folder):
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return {tag: [event.value for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


SMALL = ("network.hidden=[16]", "num_envs=4", "algo.rollout=50", "algo.minibatch=100", "eval.final_episodes=4")


def test_both_returns_are_logged(tmp_path):
    overrides = (*SMALL, "env=mountain_car", "env/shaping=coordinate", "total_steps=2000", "eval.every=1000")
    result = new_run(tmp_path, *overrides).execute()
    found = curves(tmp_path)
    assert set(found["train/return"]) == {-200.0}  # nobody gets up the hill so soon
    assert found["train/return_shaped"]
    assert max(abs(value + 200.0) for value in found["train/return_shaped"]) > 0.3
    assert set(found["eval/return"]) == {-200.0}
    assert "eval/return_shaped" not in found
    assert (result["train_return_mean"], result["eval_return_mean"]) == (-200.0, -200.0)


def test_the_true_return_is_logged_beside_what_is_paid(tmp_path):
    overrides = (*SMALL, "env=reward_hack", "total_steps=4000", "eval.every=2000", "log.every=500")
    run = new_run(tmp_path, *overrides)
    result = run.execute()
    found = curves(tmp_path)
    assert len(found["train/return_true"]) == len(found["train/return"]) > 3
    assert len(found["eval/return_true"]) == len(found["eval/return"]) == 2
    assert found["train/return_true"] != found["train/return"]
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert result["eval_return_true_mean"] == pytest.approx(found["eval/return_true"][-1], abs=1e-5)
    state = checkpoint.load(run.checkpoints / "latest.pt")
    assert set(state["collector"]["stats"]["streams"]) == {"return_true"}
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(resolved(run.config), tmp_path / ".hydra" / "config.yaml")
    again = evaluate_checkpoint(tmp_path, "latest", episodes=4, seed=None, stochastic=False)
    assert again["eval_return_true_mean"] == result["eval_return_true_mean"]


def test_a_shaped_run_resumes_exactly(tmp_path):
    overrides = (*SMALL, "env=reward_hack", "env/shaping=coordinate", "total_steps=1000", "checkpoint.every=300",
                 "eval.every=null", "checkpoint.keep=9")  # fmt: skip
    whole = new_run(tmp_path / "a", *overrides)
    whole.execute()
    want = checkpoint.load(whole.checkpoints / "latest.pt")
    paths = sorted(whole.checkpoints.glob("step_*.pt"), key=lambda path: int(path.stem[5:]))
    assert len(paths) >= 3
    for path in paths[:-1]:
        again = new_run(tmp_path / path.stem, *overrides, resume=checkpoint.load(path))
        again.execute()
        got = checkpoint.load(again.checkpoints / "latest.pt")
        assert [key for key in ("algorithm", "collector", "generators") if not same(got[key], want[key])] == []


def test_a_potential_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "heights.py").write_text(
        "import torch\ndef height(obs, power=1):\n    return obs[:, 0] ** power\n"
        "def one(obs):\n    return obs.sum()\ndef word(obs):\n    return 'high'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = ("env=mountain_car", "num_envs=2", "env/shaping=function")
    made = parts(*own, "env.shaping._target_=heights.height", "+env.shaping.power=2")
    made.collector.env.reset(0)
    assert torch.equal(made.collector.env.phi, made.collector.env.reset(0)[:, 0] ** 2)
    for function, given in (("one", r"\(\)"), ("word", "str")):
        with pytest.raises(UserError, match=rf"the potential gives {given} where \(2,\) is due"):
            parts(*own, f"env.shaping._target_=heights.{function}")


def test_what_cant_be_had_is_refused():
    from pgrun.config.values import validate

    with pytest.raises(UserError, match="there is no coordinate 2; observations have 2"):
        parts("env=mountain_car", "env/shaping=coordinate", "env.shaping.index=2")
    with pytest.raises(UserError, match="1 indices and 2 numbers of a goal"):
        Distance(indices=[0], goal=[0.0, 0.0], scale=1.0)
    with pytest.raises(UserError, match="use env/shaping=function"):
        parts("env=gym", "env.id=ObsDict-v0", "env/shaping=coordinate")
    with pytest.raises(UserError, match=r"give it an algo\.gamma, or use env/shaping=none"):
        shaped(cartpole(15), OmegaConf.create({}), OmegaConf.create({}))
    config = compose("env=mountain_car", "env/shaping=function")
    with pytest.raises(UserError, match=r"env\.shaping\._target_ has no value"):
        validate(config)
