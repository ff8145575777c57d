"""From a recipe to trained agents, on environments so small that what is best is known."""

import pytest
import torch
from probes import run
from recipes import sampled

from pgrun.loop.evaluate import evaluate

SMALL = ("network.hidden=[32]", "num_envs=4")
REPLAY = ("algo.rollout=4", "memory.warmup=64", "memory.batch_size=64", "optimizer.lr=1e-2")


EACH = ["maddpg", "iddpg", "maddpg algo.ensembles=2", "maddpg algo.infer_policies=true"]


@pytest.mark.parametrize("algo", sampled(EACH, ("iddpg",)))
def test_each_agent_finds_what_pays_it_most(algo):
    algo, *more = algo.split()
    env = ("env=pettingzoo", "env.id=agents:Ladder")
    parts, _ = run(f"algo={algo}", *env, *SMALL, *REPLAY, *more, "total_steps=1600", "algo.logit_penalty=0.1")
    result = evaluate(parts.algorithm, parts.make_eval_env(8), 8, seed=1)
    luck = torch.tensor(result.streams["return_one"]) - 2 * 2  # two steps that pay 2, and 4 that pay twice that
    torch.testing.assert_close(torch.tensor(result.streams["return_two"]), luck + 4 * 4)


@pytest.mark.slow
def test_critics_that_see_all_agents_find_what_lone_ones_can_not():
    """Both are paid for being of one mind, which two that learn alone find too; the value of it is what is known."""
    env = ("env=pettingzoo", "env.id=agents:Accord")
    found = {}
    for algo in ("maddpg", "iddpg"):
        parts, _ = run(f"algo={algo}", *env, *SMALL, *REPLAY, "total_steps=1200", "algo.logit_penalty=10")
        obs = {name: torch.zeros(4, 2) for name in ("one", "two")}
        pairs = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1.0]])
        found[algo] = parts.algorithm.q(obs, pairs).detach()
    want = torch.tensor([1.0, -1.0, -1.0, 1.0])
    torch.testing.assert_close(found["maddpg"], want.expand(2, 4), atol=0.15, rtol=0)
    assert float((found["iddpg"] - want).abs().mean()) > 0.6  # alone, each sees a coin that is tossed


def test_ppo_for_all_agents_finds_what_pays_most():
    env = ("env=pettingzoo", "env.id=agents:Ladder")
    more = ("algo.rollout=32", "algo.minibatch=64", "optimizer.lr=1e-2", "total_steps=6000")
    parts, clock = run("algo=ppo", *env, *SMALL, *more)
    assert clock.steps >= 6_000
    env = parts.make_eval_env(4)
    obs = env.reset(0)
    for _ in range(4):
        action, *_ = parts.algorithm.act(obs, (), False)
        step = env.step(action)
        assert action[step.valid].tolist() == [2] * int(step.valid.sum())
        obs = step.obs
