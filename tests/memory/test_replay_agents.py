"""Replay of several agents' transitions: rewards and discounts with an axis of agents, over one or more steps."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from running import same

from pgrun.data.types import Transition, map_transition
from pgrun.memory.prioritized import Prioritized
from pgrun.memory.replay import Replay

GAMMA, B, N = 0.9, 3, 2
OBS = gym.spaces.Dict({name: gym.spaces.Box(-np.inf, np.inf, (1,), np.float32) for name in ("one", "two")})
ENV = SimpleNamespace(
    obs_space=OBS, action_space=gym.spaces.Dict({"one": gym.spaces.Discrete(2), "two": OBS["one"]}), num_envs=B
)


def history(t, seed=0):
    """T steps of B environments, every observation another: agents die one by one, episodes end and begin anew."""
    rng = np.random.default_rng(seed)
    dead, now, count = np.zeros((B, N), dtype=bool), np.arange(B) + 1.0, B + 1.0
    rows = []
    for _ in range(t):
        row = {name: [] for name in ("obs", "reward", "discount", "next", "last")}
        for b in range(B):
            die = ~dead[b] & (rng.random(N) < 0.2)
            reward = np.where(dead[b], 0.0, rng.normal(size=N))
            last = bool((dead[b] | die).all() or rng.random() < 0.15)
            dead[b] |= die
            after = count
            count += 1
            for name, x in zip(row, (now[b], reward, ~dead[b], after, last), strict=True):
                row[name].append(x)
            now[b] = after
            if last:
                now[b], dead[b] = count, False
                count += 1
        rows.append(row)

    def field(name, dtype=torch.float32):
        return torch.as_tensor(np.array([row[name] for row in rows]), dtype=dtype)

    def seen(name):
        x = field(name).unsqueeze(-1)
        return {"one": x, "two": -x}

    last = field("last", torch.bool)
    yes = torch.ones_like(last)
    action = torch.arange(t * B * 3, dtype=torch.float32).view(t, B, 3)
    return Transition(seen("obs"), action, field("reward"), field("discount"), seen("next"), last, yes, {})


def memory(kind=Replay, **changes):
    more = {"alpha": 0.6, "beta": 0.4, "anneal": 1000, "epsilon": 1e-6} if kind is Prioritized else {}
    common = {"capacity": 20 * B, "batch_size": 8, "warmup": 0, "updates": 1, "n_step": 1, "gamma": GAMMA}
    return kind(**{**common, **more, "save": True, "device": "cpu", "learn_device": "cpu", **changes}, env=ENV)


def window(whole, t, b, n):
    """Rewards and discounts [N] of the window from (t, b) on, and what it bootstraps from."""
    reward, discount = np.zeros(N), np.full(N, 1.0 / GAMMA)
    for k in range(t, min(t + n, len(whole.last))):
        reward += GAMMA ** (k - t) * whole.reward[k, b].numpy()  # of the dead: nothing
        discount = discount * GAMMA * whole.discount[k, b].numpy()
        if whole.last[k, b]:
            break
    return reward, discount, float(whole.next_obs["one"][k, b])


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("pieces", [(5, 5, 2), (9, 9, 9, 9)])  # the second goes round the ring
def test_windows_of_each_agent(n, pieces):
    whole, m, at = history(sum(pieces)), memory(n_step=n), 0
    for t in pieces:
        m.add(map_transition(lambda x, at=at, t=t: x[at : at + t], whole))
        at += t
    (batch,) = m.ring.gather(m.ring.locate(torch.arange(m.ring.size)), 1, torch.device("cpu"))
    assert m.ring.size == min(20, at) * B
    assert batch.reward.shape == batch.discount.shape == (m.ring.size, N)
    assert batch.last.shape == (m.ring.size,)
    uneven = 0
    for i in range(m.ring.size):
        t, b = divmod(int(batch.action[i, 0]) // 3, B)
        reward, discount, after = window(whole, t, b, n)
        np.testing.assert_allclose(batch.reward[i].numpy(), reward, atol=1e-6)
        np.testing.assert_allclose(batch.discount[i].numpy(), discount, atol=1e-6)
        assert float(batch.next_obs["one"][i]) == -float(batch.next_obs["two"][i]) == after
        uneven += discount[0] != discount[1]
    assert uneven > 5


@pytest.mark.parametrize("kind", [Replay, Prioritized])
def test_a_snapshot_of_it(kind):
    whole = history(12)
    m, other = memory(kind, n_step=3), memory(kind, n_step=3)
    m.add(map_transition(lambda x: x[:7], whole))
    other.restore(m.snapshot())
    for each in (m, other):
        each.add(map_transition(lambda x: x[7:], whole))
    assert same(m.snapshot(), other.snapshot())
    torch.manual_seed(3)
    (first,) = m.batches()
    torch.manual_seed(3)
    (second,) = other.batches()
    assert same(first._asdict(), second._asdict())


def test_its_size_is_what_it_takes():
    m = memory(capacity=1000 * B)
    m.add(history(2))
    (matrix,) = [table.matrix for table in m.ring.tables]
    assert m.row_bytes == 4 * matrix.shape[1] + 1  # and whether it is valid
