"""Environment states: captured, put into fresh environments, and what follows is what would have followed."""

import collections
import io
import random
import types

import gymnasium as gym
import numpy as np
import pytest
import torch
import worlds  # noqa: F401 (registers the test environments)
from recipes import sampled
from running import same
from transitions import adapter

from pgrun.collect.random_actions import random_actions
from pgrun.data.plain import CantCapture, decode, encode
from pgrun.envs.state import Stateful, capture, capture_object
from pgrun.errors import UserError

WORLDS = {
    "native cartpole": ("CartPole-v1", {"backend": "native"}),
    "cartpole": ("CartPole-v1", {"backend": "sync"}),
    "cartpole next step": ("CartPole-v1", {"backend": "sync", "autoreset": "next_step"}),
    "cartpole in processes": ("CartPole-v1", {"backend": "async"}),
    "pendulum in processes": ("Pendulum-v1", {"backend": "async", "limit": 40}),
    "acrobot": ("Acrobot-v1", {"limit": 40}),
    "mountain car": ("MountainCar-v0", {"limit": 40}),
    "mountain car continuous": ("MountainCarContinuous-v0", {"limit": 40}),
    "pendulum": ("Pendulum-v1", {"limit": 40}),
    "pendulum next step": ("Pendulum-v1", {"limit": 40, "autoreset": "next_step", "backend": "sync"}),
    "halfcheetah": ("HalfCheetah-v5", {"limit": 150}),
    "hopper": ("Hopper-v5", {}),
    "walker2d": ("Walker2d-v5", {}),
    "ant": ("Ant-v5", {"limit": 400}),
    "ant in processes": ("Ant-v5", {"limit": 400, "backend": "async"}),
}


def restored(state: object) -> object:
    """A snapshot as it comes back from a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


QUICK = ("native cartpole", "cartpole next step", "cartpole in processes", "mountain car", "pendulum", "ant")


@pytest.mark.parametrize("name", sampled(list(WORLDS), QUICK))
def test_a_fresh_environment_goes_on_exactly(name):
    id, options = WORLDS[name]
    env = adapter(id, **options)
    env.reset(3)
    draw = random_actions(env.action_space)
    script = [draw(2) for _ in range(500)]
    for action in script[:137]:
        env.step(action)
    snapshot = restored(env.snapshot())
    want = [env.step(action) for action in script[137:]]
    assert same(env.snapshot(), env.snapshot())  # reading it changes nothing
    env.close()
    fresh = adapter(id, **options)
    fresh.reset(77)
    for action in script[:5]:
        fresh.step(action)
    fresh.restore(snapshot)
    got = [fresh.step(action) for action in script[137:]]
    fresh.close()
    assert all(sum(int(step.last[i]) for step in want) >= 1 for i in range(2))  # across an episode's end
    for t, (mine, theirs) in enumerate(zip(got, want, strict=True)):
        assert same(tuple(mine), tuple(theirs)), f"{t} steps after the restore"


def test_ant_with_contacts():
    """Ant's reward and observation read contact forces of the step before; they must be there to be read."""
    env = adapter("Ant-v5", limit=400)
    env.reset(3)
    draw = random_actions(env.action_space)
    script, touching = [draw(2) for _ in range(400)], 0
    steps = []
    for t, action in enumerate(script):
        if t == 200:
            snapshot = restored(env.snapshot())
        steps.append(env.step(action))
        touching += int(env.env.envs[0].unwrapped.data.ncon > 0)
    assert touching > 100
    fresh = adapter("Ant-v5", limit=400)
    fresh.reset(4)
    fresh.restore(snapshot)
    assert all(
        same(tuple(fresh.step(action)), tuple(step)) for action, step in zip(script[200:], steps[200:], strict=True)
    )


@pytest.mark.parametrize("backend", ["native", "sync", "async"])
def test_a_pending_reset_is_part_of_the_state(backend):
    env = adapter("CartPole-v1", backend=backend, autoreset="next_step")
    env.reset(3)
    push = torch.ones(2, dtype=torch.int64)
    while not env.step(push).last.any():
        pass
    snapshot = restored(env.snapshot())
    want = env.step(push)
    fresh = adapter("CartPole-v1", backend=backend, autoreset="next_step")
    fresh.reset(8)
    fresh.restore(snapshot)
    got = fresh.step(push)
    assert not want.valid.all()
    assert same(tuple(got), tuple(want))


@pytest.mark.parametrize(
    ("id", "options", "reason"),
    [
        ("LunarLander-v3", {}, "LunarLander.world is a b2World"),
        ("ale_py:ALE/Pong-v5", {"backend": "sync"}, "AtariEnv.ale is a ALEInterface"),
        ("CartPole-v1", {"backend": "envpool"}, "envpool"),
        ("Opaque-v0", {}, "Opaque.hidden is a range_iterator"),
    ],
)
def test_what_gives_no_state_says_why(id, options, reason):
    env = adapter(id, **options)
    env.reset(0)
    assert env.snapshot() is None
    assert reason in env.why_stateless
    assert "\n" not in env.why_stateless
    env.close()


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_an_environments_own_snapshot_is_used(backend):
    env = adapter("SelfKeeping-v0", backend=backend)
    env.reset(0)
    action = torch.zeros(2, dtype=torch.int64)
    for _ in range(9):
        env.step(action)
    snapshot = restored(env.snapshot())
    want = [env.step(action) for _ in range(30)]
    env.close()
    fresh = adapter("SelfKeeping-v0", backend=backend)
    fresh.reset(1)
    fresh.restore(snapshot)
    got = [fresh.step(action) for _ in range(30)]
    fresh.close()
    assert all(same(tuple(a), tuple(b)) for a, b in zip(got, want, strict=True))
    assert any(step.last.any() for step in want)


def test_wrappers_keep_their_state_too():
    def stacked(env: gym.Env) -> gym.Env:
        return gym.wrappers.FrameStackObservation(gym.wrappers.TimeAwareObservation(env), 3)

    env = adapter("Pendulum-v1", wrappers=[stacked], limit=20)
    env.reset(0)
    script = [random_actions(env.action_space)(2) for _ in range(60)]
    for action in script[:27]:
        env.step(action)
    snapshot = env.snapshot()
    assert snapshot is not None, env.why_stateless
    snapshot = restored(snapshot)
    want = [env.step(action) for action in script[27:]]
    fresh = adapter("Pendulum-v1", wrappers=[stacked], limit=20)
    fresh.reset(5)
    fresh.restore(snapshot)
    assert all(same(tuple(fresh.step(a)), tuple(step)) for a, step in zip(script[27:], want, strict=True))
    other = adapter("Pendulum-v1", limit=20)
    other.reset(5)
    with pytest.raises(UserError, match="other wrappers"):
        other.restore(snapshot)


# ---- single values


def plain(value: object) -> object:
    return decode(restored(encode(value)))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        2.5,
        "x",
        [1, [2.0, None]],
        (1, (2, "y")),
        {"a": 1, "b": {"c": (2,)}},
        {1: "one", (2, 3): [4]},
        torch.arange(3.0),
    ],
)
def test_plain_values_come_back(value):
    assert same(plain(value), value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.arange(6.0).reshape(2, 3).T,
        np.zeros((0, 3), np.float32),
        np.array(7, np.int16),
        np.array([True, False]),
        np.array(["a", "bcd"]),
        np.array([-0.0, np.nan, np.inf]),
    ],
)
def test_arrays_come_back(array):
    back = plain(array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable


@pytest.mark.parametrize("scalar", [np.float32(0.1), np.float64(0.1), np.int64(3), np.bool_(True)])
def test_numpy_scalars_stay_numpy_scalars(scalar):
    assert type(plain(scalar)) is type(scalar)
    assert plain(scalar) == scalar


def test_queues_come_back():
    back = plain(collections.deque([1, (2,)], maxlen=2))
    assert back == collections.deque([1, (2,)], maxlen=2)
    assert back.maxlen == 2


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_numpy_generators_go_on(kind):
    generator = np.random.Generator(getattr(np.random, kind)(5))
    generator.integers(7, dtype=np.int32)  # leaves half a word
    back = plain(generator)
    assert (
        back.integers(1000, size=9, dtype=np.int32).tolist()
        == generator.integers(1000, size=9, dtype=np.int32).tolist()
    )


def test_other_generators_go_on():
    python, legacy, torchs = random.Random(3), np.random.RandomState(3), torch.Generator().manual_seed(3)
    python.gauss(0, 1), legacy.randn(1)  # each keeps a second draw for later
    assert plain(python).gauss(0, 1) == python.gauss(0, 1)
    assert plain(legacy).randn() == legacy.randn()
    assert torch.equal(torch.rand(3, generator=plain(torchs)), torch.rand(3, generator=torchs))


class Odd:
    pass


@pytest.mark.parametrize(
    "value",
    [
        Odd(),
        {1, 2},
        iter([1]),
        np.array([Odd()]),
        np.zeros(2, dtype=[("a", "f8")]),
        [1, [Odd()]],
        {"a": Odd()},
        collections.OrderedDict(a=1),
        __import__("enum").IntEnum("Phase", "UP DOWN").UP,
    ],
)
def test_anything_else_is_named(value):
    with pytest.raises(CantCapture, match=r"Holder\.x"):
        capture_object(type("Holder", (), {"__init__": lambda self: setattr(self, "x", value)})())


def test_nothing_is_left_out_silently():
    class Callable:
        def __call__(self) -> None: ...

    for name, value in {"data": Odd(), "model": Odd(), "viewer": Odd(), "env": Odd(), "f": Callable()}.items():
        with pytest.raises(CantCapture, match=name):
            capture_object(types.SimpleNamespace(**{name: value}))
    for name in ("data", "model", "viewer", "env"):
        assert capture_object(types.SimpleNamespace(**{name: 3})) == {name: 3}

    class Slotted:
        __slots__ = ("__dict__", "count")

    with pytest.raises(CantCapture, match="count"):
        capture_object(Slotted())


def test_one_object_under_two_names_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(CantCapture, match="are one Generator"):
        capture_object(types.SimpleNamespace(a=rng, b=rng))
    env = gym.make("CartPole-v1", disable_env_checker=True)
    env.reset(seed=0)
    wrapped = Stateful(env, 0)
    assert isinstance(wrapped.capture_state(), dict)

    class Borrower(gym.Wrapper):
        def __init__(self, env: gym.Env) -> None:
            super().__init__(env)
            self.rng = env.unwrapped.np_random

    with pytest.raises(CantCapture, match="are one Generator"):
        capture(Borrower(env))
