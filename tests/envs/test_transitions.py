"""The same episode through every backend and in both autoreset modes is the same transitions."""

import itertools

import numpy as np
import pytest
import torch
import worlds  # noqa: F401 (registers the test environments)
from transitions import adapter

from pgrun.collect.episode_stats import EpisodeStats
from pgrun.data.plain import encode
from pgrun.data.types import Step, Transition
from pgrun.loop.train import Clock

# where each copy's scripted episode begins; the second ends earlier than the first
STARTS = {
    "CartPole-v1": np.array([[0.01, 0.02, -0.03, 0.04], [0.03, 0.5, -0.15, -0.3]]),
    "Pendulum-v1": np.array([[1.0, 0.5], [-2.0, 0.1]]),
    "MountainCar-v0": np.array([[-0.5, 0.0], [0.45, 0.06]]),
}
SCRIPTS = {
    "CartPole-v1": lambda t: torch.tensor([t % 2, 1]),
    "Pendulum-v1": lambda t: torch.tensor([[0.3 * (-1) ** t], [0.9]]),
    "MountainCar-v0": lambda t: torch.tensor([2 * (t % 2), 2]),
}
STATE_NAMES = {"CartPole-v1": "state", "Pendulum-v1": "state", "MountainCar-v0": "state"}


def inject(env, id: str) -> None:
    """Put the scripted start into an adapter of any backend."""
    starts = STARTS[id]
    state = env.snapshot()
    if "native" in state:
        state["native"]["state"] = encode(starts.T.copy())
    else:
        for copy, start in zip(state["copies"], starts, strict=True):
            copy["layers"][-1]["attributes"]["state"] = encode(start.copy())
    env.restore(state)


LIMIT = 12
WAYS = [("native", "next_step"), *((b, a) for b in ("sync", "async") for a in ("same_step", "next_step"))]


def episodes(id: str, backend: str, autoreset: str, steps: int = 30) -> tuple[list[dict], list[Step]]:
    """Each copy's first episode from the injected start, filler left out, and all the raw steps."""
    env = adapter(id, backend=backend, autoreset=autoreset, limit=LIMIT)
    env.reset(3)
    inject(env, id)
    raw = [env.step(SCRIPTS[id](t)) for t in range(steps)]
    env.close()
    first = []
    for i in range(2):
        rows = []
        for step in raw:
            rows.append([step.next_obs[i], step.reward[i], step.discount[i], step.last[i], step.valid[i]])
            if step.last[i]:
                break
        first.append({name: torch.stack(column) for name, column in zip("ordlv", zip(*rows, strict=True), strict=True)})
    return first, raw


@pytest.mark.parametrize("id", STARTS)
def test_backends_and_modes_agree(id):
    ways = WAYS if id == "CartPole-v1" else WAYS[1:]
    results = {way: episodes(id, *way) for way in ways}
    want, _ = results["sync", "same_step"]
    for way, (got, _) in results.items():
        for mine, theirs in zip(got, want, strict=True):
            for name in "rdlv":
                assert torch.equal(mine[name], theirs[name]), (way, name)
            if way[0] == "native":  # NumPy rounds sines of arrays otherwise than of numbers
                assert torch.allclose(mine["o"], theirs["o"], atol=1e-6), way
            else:
                assert torch.equal(mine["o"], theirs["o"]), way


@pytest.mark.parametrize("id", STARTS)
def test_ends_are_told_apart(id):
    (first, second), _ = episodes(id, "sync", "same_step")
    assert len(first["l"]) == LIMIT  # truncated: the world goes on, so bootstrap
    assert (bool(first["l"][-1]), float(first["d"][-1])) == (True, 1.0)
    if id == "Pendulum-v1":  # which never terminates
        assert len(second["l"]) == LIMIT
        assert float(second["d"][-1]) == 1.0
        return
    assert len(second["l"]) < LIMIT  # terminated
    assert float(second["d"][-1]) == 0.0
    assert second["d"][:-1].eq(1.0).all()
    state = second["o"][-1]
    if id == "CartPole-v1":
        assert abs(float(state[2])) > 12 * 2 * np.pi / 360 or abs(float(state[0])) > 2.4
    else:
        assert float(state[0]) >= 0.5


def test_the_dynamics_are_cartpoles():
    """The observations of the scripted episode, from the equations of motion (Florian 2007) by hand."""
    (first, _), _ = episodes("CartPole-v1", "sync", "same_step")
    x, v, theta, omega = STARTS["CartPole-v1"][0]
    for t in range(LIMIT):
        force = 10.0 if t % 2 else -10.0
        temp = (force + 0.05 * omega**2 * np.sin(theta)) / 1.1
        alpha = (9.8 * np.sin(theta) - np.cos(theta) * temp) / (0.5 * (4 / 3 - 0.1 * np.cos(theta) ** 2 / 1.1))
        acceleration = temp - 0.05 * alpha * np.cos(theta) / 1.1
        x, v, theta, omega = x + 0.02 * v, v + 0.02 * acceleration, theta + 0.02 * omega, omega + 0.02 * alpha
        assert np.allclose(first["o"][t].numpy(), [x, v, theta, omega], atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_acted_on_next(way):
    _, raw = episodes("CartPole-v1", *way)
    for before, step in itertools.pairwise(raw):
        for i in range(2):
            filler = way[1] == "next_step" and bool(before.last[i])
            assert bool(step.valid[i]) != filler
            if filler:
                assert float(step.reward[i]) == 0.0
                assert not bool(step.last[i])
                assert step.obs[i].abs().max() <= 0.05  # where CartPole begins
    for step in raw:
        for i in range(2):
            if way[1] == "same_step" and bool(step.last[i]):
                assert step.obs[i].abs().max() <= 0.05
                assert not torch.equal(step.obs[i], step.next_obs[i])
            else:
                assert torch.equal(step.obs[i], step.next_obs[i])
    assert sum(int((~step.valid).sum()) for step in raw) == (
        sum(int(step.last.sum()) for step in raw[:-1]) if way[1] == "next_step" else 0
    )


def as_rollout(raw: list[Step]) -> Transition:
    """Steps as a rollout [T, B]; obs and action don't matter here."""
    stack = {name: torch.stack([getattr(step, name) for step in raw]) for name in Step._fields[:6]}
    return Transition(
        stack["obs"], stack["reward"], stack["reward"], stack["discount"], stack["next_obs"], stack["last"],
        stack["valid"], {},
    )  # fmt: skip


@pytest.mark.parametrize("way", WAYS[1:])
def test_filler_counts_nowhere(way):
    """World's reward says which episode and step it is of, so any row counted twice or never shows in the returns."""
    env = adapter("ObsBox-v0", backend=way[0], autoreset=way[1], num_envs=3, limit=7)
    env.reset(0)
    raw = [env.step(torch.zeros(3, dtype=torch.int64)) for _ in range(61)]
    env.close()
    stats, clock, rollout = EpisodeStats(3), Clock(1000), as_rollout(raw)
    for part in (slice(0, 20), slice(20, 21), slice(21, 61)):
        piece = Transition(*(field[part] if isinstance(field, torch.Tensor) else field for field in rollout))
        stats.add(piece.reward, piece.last, piece.valid)
        clock.advance(piece)
    lengths = [5 if episode % 3 == 2 else 7 for episode in range(20)]
    want = [sum(1.0 + 1000 * e + t for t in range(1, n + 1)) for e, n in enumerate(lengths)]
    real = int(rollout.valid[:, 0].sum())
    finished = int(np.searchsorted(np.cumsum(lengths), real, side="right"))
    assert finished >= 8
    assert sorted(stats.take()) == sorted([(want[e], lengths[e]) for e in range(finished)] * 3)
    assert clock.steps == 3 * real
    assert real == (61 if way[1] == "same_step" else 61 - int(rollout.last[:-1, 0].sum()))
    assert stats.lengths.tolist() == [real - sum(lengths[:finished])] * 3


@pytest.mark.parametrize(
    "name", ["ObsDict-v0", "ObsNested-v0", "ObsDiscreteFrom3-v0", "ObsImage-v0", "ObsMultiDiscrete-v0"]
)
@pytest.mark.parametrize("backend", ["sync", "async"])
def test_successors_of_every_observation_space(name, backend):
    """The copies of the two modes draw the same observations; so successors agree, whatever their shape."""
    streams = {}
    for autoreset in ("same_step", "next_step"):
        env = adapter(name, backend=backend, autoreset=autoreset, limit=3)
        env.reset(5)
        raw = [env.step(torch.zeros(2, dtype=torch.int64)) for _ in range(20)]
        env.close()
        streams[autoreset] = [step.next_obs for step in raw if step.valid.all()]
    assert len(streams["next_step"]) < len(streams["same_step"])
    for a, b in zip(streams["same_step"], streams["next_step"], strict=False):
        flat_a, flat_b = (list(x.values()) if isinstance(x, dict) else [x] for x in (a, b))
        assert all(torch.equal(p, q) for p, q in zip(flat_a, flat_b, strict=True))


# ---- envpool

ENVPOOL = {"CartPole-v1": lambda b: torch.ones(b, dtype=torch.int64), "Pendulum-v1": lambda b: torch.full((b, 1), 0.5)}


@pytest.mark.parametrize("id", ENVPOOL)
def test_envpools_flags_and_filler(id):
    env = adapter(id, num_envs=4, backend="envpool", limit=9)
    obs, action = env.reset(1), ENVPOOL[id](4)
    lengths, since, ended = [], np.zeros(4, int), np.zeros(4, bool)
    ends = {"terminated": 0, "truncated": 0}
    for _ in range(60):
        before = obs
        step = env.step(action)
        obs = step.obs
        assert torch.equal(step.obs, step.next_obs)
        assert torch.equal(step.valid, torch.from_numpy(~ended))
        for i in range(4):
            if ended[i]:
                assert float(step.reward[i]) == 0.0
                assert (float(step.discount[i]), bool(step.last[i])) == (1.0, False)
                if id == "CartPole-v1":
                    assert obs[i].abs().max() <= 0.05
                since[i] = 0
                continue
            since[i] += 1
            if id == "CartPole-v1":  # the successor's position is the old one plus 0.02 times the old velocity
                assert np.isclose(float(obs[i, 0]), float(before[i, 0] + 0.02 * before[i, 1]), atol=1e-5)
                fallen = abs(float(obs[i, 2])) > 12 * 2 * np.pi / 360 or abs(float(obs[i, 0])) > 2.4
                assert float(step.reward[i]) == 1.0
            else:
                fallen = False
            # a fall in the very last step is to envpool a truncation alone
            assert float(step.discount[i]) == (0.0 if fallen and since[i] < 9 else 1.0)
            assert bool(step.last[i]) == (fallen or since[i] == 9)
            if bool(step.last[i]):
                ends["terminated" if fallen else "truncated"] += 1
                lengths.append(since[i])
        ended = step.last.numpy()
    env.close()
    assert ends["truncated"] > 0
    assert max(lengths) == 9
    if id == "CartPole-v1":
        assert ends["terminated"] > 0
        assert min(lengths) < 9


def test_envpool_is_seeded():
    def first(seed: int, made_with: int = 0) -> torch.Tensor:
        env = adapter("CartPole-v1", backend="envpool", seed=made_with)
        obs = env.reset(seed)
        again = env.reset(seed)
        assert torch.equal(obs, again)
        assert not torch.equal(obs[0], obs[1])
        env.close()
        return obs

    assert torch.equal(first(1), first(1, made_with=9))
    assert not torch.equal(first(1), first(2))


def test_copies_and_neighbouring_seeds_share_no_start():
    starts = []
    for seed in range(3):
        env = adapter("CartPole-v1", num_envs=3, backend="sync")
        starts += [tuple(row) for row in env.reset(seed).tolist()]
    assert len(set(starts)) == 9
