"""Observations of an environment arrive as they are, or are refused in one line."""

import gymnasium as gym
import numpy as np
import odd
import pytest
import torch
from running import compose, parts
from transitions import adapter

from pgrun.data.types import map_obs
from pgrun.envs.tensor import Outcome, TensorEnv, World
from pgrun.errors import UserError
from pgrun.run.environments import make_env

spaces = gym.spaces
ALIKE = torch.tensor([[0.0], [1.0]])


def numbers(obs):
    x = next(iter(obs.values())) if isinstance(obs, dict) else obs
    return x.flatten(1)[:, 0].tolist()


@pytest.mark.parametrize("form", ["box", "dict", "nested", "image"])
@pytest.mark.parametrize("way", [("sync", "same_step"), ("sync", "next_step"), ("async", "same_step")])
def test_an_array_that_is_used_again_changes_nothing_that_was_seen(form, way):
    backend, autoreset = way
    env = adapter("Reuse-v0", backend=backend, autoreset=autoreset, kwargs={"form": form})
    obs = [env.reset(0)]
    steps = [env.step(torch.zeros(2, dtype=torch.long)) for _ in range(12)]
    env.close()
    obs += [step.obs for step in steps]
    period = 5 if autoreset == "same_step" else 6
    assert [numbers(x) for x in obs] == [[float(t % period)] * 2 for t in range(13)]
    ends = [numbers(step.next_obs) for step in steps if bool(step.last.all())]
    assert ends == [[5.0, 5.0]] * 2


class Again(World):
    """Shows and pays in one and the same tensors."""

    obs_space, action_space = spaces.Box(0, 9, (1,), np.float32), spaces.Discrete(2)

    def __init__(self):
        self.shown, self.paid = torch.zeros(2, 1), torch.zeros(2)

    def initial(self, n, rng):
        return torch.zeros(n)

    def observe(self, state):
        return self.shown.copy_(state.unsqueeze(-1))

    def step(self, state, action, rng):
        self.paid.add_(1.0)
        return Outcome(state + 1, self.paid, state >= 2, {"other": self.paid})


def test_a_world_that_uses_its_tensors_again_changes_nothing_that_was_seen():
    env = TensorEnv(world=Again(), num_envs=2, max_episode_steps=None, seed=0)
    first = env.reset(0)
    steps = [env.step(torch.zeros(2, dtype=torch.long)) for _ in range(4)]
    assert numbers(first) == [0.0, 0.0]
    assert [numbers(step.next_obs)[0] for step in steps] == [1.0, 2.0, 3.0, 1.0]
    assert [numbers(step.obs)[0] for step in steps] == [1.0, 2.0, 0.0, 1.0]
    assert [float(step.reward[0]) for step in steps] == [1.0, 2.0, 3.0, 4.0]
    assert [float(step.streams["other"][0]) for step in steps] == [1.0, 2.0, 3.0, 4.0]


class Vectorised(gym.vector.VectorEnv):
    """Vectorised by itself, in arrays that it uses again; it may show what its space does not have."""

    metadata = {"autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012
    single_action_space = spaces.Discrete(2)

    def __init__(self, num_envs: int = 2, shape: tuple[int, ...] = (2, 1), kind: str = "box") -> None:
        self.num_envs = num_envs
        self.single_observation_space = spaces.Discrete(3) if kind == "choice" else spaces.Box(-9, 9, (1,), np.float32)
        self.x = np.zeros(num_envs, np.int64) if kind == "choice" else np.zeros(shape, np.float32)
        self.r, self.ends = np.zeros(num_envs, np.float32), np.zeros(num_envs, bool)
        self.kind = kind

    def reset(self, *, seed=None, options=None):
        self.x[:] = 0
        return self.x, {"action_mask": 1} if self.kind == "masked" else {}

    def step(self, action):
        self.x += 1
        self.r += 1
        return self.x, self.r, self.ends, self.ends, {}


gym.register("Vectorised-v0", entry_point=odd.Reuse, vector_entry_point=Vectorised)  # type: ignore[arg-type]


def test_a_native_environment_that_uses_its_arrays_again_changes_nothing_that_was_seen():
    env = adapter("Vectorised-v0")
    first = env.reset(0)
    steps = [env.step(torch.zeros(2, dtype=torch.long)) for _ in range(3)]
    assert numbers(first) == [0.0, 0.0]
    assert [numbers(step.obs)[0] for step in steps] == [1.0, 2.0, 3.0]
    assert [float(step.reward[0]) for step in steps] == [1.0, 2.0, 3.0]
    assert not any(bool(step.last.any()) for step in steps)


def test_a_native_environment_is_held_to_its_space():
    with pytest.raises(UserError, match=r"shape \(2, 3\).*Box of shape \(2, 1\)"):
        adapter("Vectorised-v0", kwargs={"shape": (2, 3)}).reset(0)
    with pytest.raises(UserError, match=r"info\['action_mask'\].*env.backend=sync"):
        adapter("Vectorised-v0", kwargs={"kind": "masked"}).reset(0)
    env = adapter("Vectorised-v0", kwargs={"kind": "choice"})
    env.reset(0)
    for _ in range(2):
        env.step(torch.zeros(2, dtype=torch.long))
    with pytest.raises(UserError, match="holds 3"):
        env.step(torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("what", odd.SHOWN)
def test_what_is_shown_is_what_the_space_says_or_refused(what):
    if what in odd.RIGHT:
        env = adapter("Shows-v0", backend="sync", kwargs={"what": what})
        obs = env.reset(0)
        assert obs.tolist() == ([[1.0] * 3] * 2 if what[:8] != "a choice" else [int(odd.SHOWN[what][1]) - 3] * 2)
        return
    with pytest.raises(UserError) as caught:  # before anything is written
        parts("env=gym", "env.id=Shows-v0", f"+env.kwargs.what='{what}'", "num_envs=2")
    assert "Shows-v0" in str(caught.value)
    assert "space says" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "what", ["one number", "a choice beyond", "a choice as float", "fractions as bytes", "nothing"]
)
def test_what_is_wrong_later_is_refused_too(what):
    env = adapter("Shows-v0", backend="sync", kwargs={"what": what, "late": True})
    env.reset(0)
    env.step(torch.zeros(2, dtype=torch.long))
    with pytest.raises(UserError, match="space says"):
        env.step(torch.zeros(2, dtype=torch.long))
    env.close()


@pytest.mark.filterwarnings("ignore")
def test_one_number_is_not_broadcast_by_worker_processes():
    env = adapter("Shows-v0", num_envs=1, backend="async", kwargs={"what": "one number", "late": True})
    env.reset(0)
    env.step(torch.zeros(1, dtype=torch.long))
    with pytest.raises(UserError, match=r"shape \(1,\)"):
        env.step(torch.zeros(1, dtype=torch.long))
    env.close()


def test_numbers_out_of_a_box_arrive_and_are_told_of(caplog):
    odd.SHOWN["beyond"] = (odd.BOX, np.full(3, 11.0, np.float32))
    env = adapter("Shows-v0", backend="sync", kwargs={"what": "beyond"})
    assert env.reset(0).tolist() == [[11.0] * 3] * 2
    assert sum("holds 11.0" in record.message for record in caplog.records) == 1


def test_a_hundred_thousand_states_are_kept_as_numbers():
    odd.SHOWN["many"] = (spaces.Discrete(100_000), 99_999)
    env = adapter("Shows-v0", backend="sync", kwargs={"what": "many"})
    assert env.reset(0).tolist() == [99_999] * 2
    assert env.obs_space == spaces.Discrete(100_000)


def first_draws(backend, seed, num_envs=2):
    env = adapter("Global-v0", num_envs=num_envs, backend=backend, seed=seed)
    obs = [env.reset(seed)] + [env.step(torch.zeros(num_envs, dtype=torch.long)).obs for _ in range(7)]
    env.close()
    return torch.stack(obs)


def test_one_seed_makes_the_global_generators_of_worker_processes():
    one, again, other = first_draws("async", 3), first_draws("async", 3), first_draws("async", 4)
    assert torch.equal(one, again)
    for generator in range(3):  # NumPy's, Python's, torch's
        drawn = torch.cat([one[..., generator].flatten(), other[..., generator].flatten()])
        assert len(drawn.unique()) == len(drawn)  # no two copies share a draw, nor do two seeds


def test_worker_processes_go_on_with_their_global_generators():
    env = adapter("Global-v0", backend="async", seed=3)
    env.reset(3)
    act = torch.zeros(2, dtype=torch.long)
    env.step(act)
    state = env.snapshot()
    on = [env.step(act).obs for _ in range(6)]
    env.restore(state)
    again = [env.step(act).obs for _ in range(6)]
    env.close()
    assert torch.equal(torch.stack(on), torch.stack(again))


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (1e6, 1), (1e9, 1), (0, 1e-6), (0, 1e-9), (0, 1e9), (1e9, 1e-2)])
def test_64_bit_observations_are_centred_before_they_are_rounded(offset, scale):
    words = ("env=gym", "env.id=Odd-v0", f"+env.kwargs.offset={offset:f}", f"+env.kwargs.scale={scale:.12f}")
    made = parts(*words, "network.normalize_obs=true", "num_envs=2", "algo.rollout=100")
    rollout = made.collector.collect(made.algorithm)
    encoder = made.algorithm.model.actor.encoder
    flat = map_obs(lambda x: x.flatten(0, 1), rollout.obs)
    encoder.observe(flat, rollout.valid.flatten())
    seen = encoder.flatten.run(flat)
    sign = torch.where(flat[:, 0] > offset, 1.0, -1.0)
    assert seen.dtype == torch.float32
    assert torch.allclose(seen[:, 0].sign(), sign)
    assert bool((seen[:, 0].abs() > 0.5).all())
    assert bool((seen[:, 1] == 0).all())  # a constant
    assert make_env(compose(*words), 1).obs_space.dtype == np.float32  # where nothing is taken off, nothing is kept


def test_bounds_that_are_hardly_meant_are_told_of_once(caplog):
    class Wide(odd.Shows):
        def __init__(self, high: float) -> None:
            super().__init__("right")
            self.action_space = gym.spaces.Box(-high, high, (1,), np.float32)  # type: ignore[assignment]

    gym.register("Wide-v0", entry_point=Wide)  # type: ignore[arg-type]
    for high in (100.0, 1e38, np.inf):
        adapter("Wide-v0", kwargs={"high": high})
    assert not [record for record in caplog.records if "bounds" in record.message]
    for _ in range(2):
        adapter("Wide-v0", kwargs={"high": 1e6})
    (said,) = [record.message for record in caplog.records if "bounds" in record.message]
    assert "2e+06 apart" in said
    assert "env.wrappers=[ClipAction]" in said
    wrappers = [gym.wrappers.ClipAction]
    assert adapter("Wide-v0", kwargs={"high": 1e6}, wrappers=wrappers).action_space.high == np.inf
