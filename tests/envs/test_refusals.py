"""Settings that can't be had are refused in one line that says what would be right."""

import builtins

import gymnasium as gym
import pytest
import worlds
from running import compose, parts
from transitions import adapter

from pgrun.errors import UserError
from pgrun.run.build import build


def line(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parts(*overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


REFUSED = {
    "a Tuple of observations": (["env=gym", "env.id=TupleWorld-v0"], ["Tuple", "use Box, Discrete"]),
    "actions in words": (["env=gym", "env.id=TextWorld-v0"], ["Text", "use Discrete"]),
    "an unknown id": (["env=gym", "env.id=CartPoel-v1"], ["CartPoel-v1", "did you mean CartPole-v1"]),
    "an unknown version": (["env=gym", "env.id=CartPole-v7"], ["CartPole-v7", "CartPole-v1"]),
    "an old version": (["env=gym", "env.id=LunarLander-v2"], ["LunarLander-v2", "LunarLander-v3"]),
    "no id at all": (["env=gym", "env.id='%%%'"], ["%%%", "not a registered"]),
    "an unknown backend": (["env.backend=fast"], ["env.backend=fast", "sync", "async", "envpool"]),
    "an unknown mode": (["env.autoreset=later"], ["env.autoreset=later", "next_step"]),
    "native where none exists": (["env=pendulum", "env.backend=native"], ["env.backend=native", "sync or async"]),
    "native with wrappers": (
        ["env.backend=native", "env.wrappers=[{_target_:gymnasium.wrappers.NormalizeReward,_partial_:true}]"],
        ["env.backend=native", "wrappers"],
    ),
    "envpool with wrappers": (
        ["env.backend=envpool", "env.wrappers=[{_target_:gymnasium.wrappers.NormalizeReward,_partial_:true}]"],
        ["envpool", "wrappers"],
    ),
    "what envpool has not": (["env=gym", "env.id=ObsBox-v0", "env.backend=envpool"], ["envpool", "ObsBox-v0"]),
    "a wrong argument": (["env=pendulum", "+env.kwargs.gravity=1"], ["env.kwargs", "Pendulum-v1", "gravity"]),
    "a wrong argument, native": (["env.backend=native", "+env.kwargs.gravity=1"], ["env.kwargs", "gravity"]),
    "a wrong argument, envpool": (["env.backend=envpool", "+env.kwargs.gravity=1"], ["env.kwargs", "gravity"]),
    "a module that is not there": (["env=gym", "env.id=no_such_module:Thing-v0"], ["no_such_module"]),
    "SAC on discrete actions": (["algo=sac", "env=cartpole"], ["SAC", "Box"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    overrides, words = REFUSED[name]
    said = line(*overrides)
    assert all(word in said for word in words), said


def test_gym_without_an_id():
    from pgrun.config.values import validate

    config = compose("env=gym")
    with pytest.raises(UserError, match=r"env\.id has no value: give it one, env\.id=…"):
        validate(config)


@pytest.mark.parametrize(
    ("env", "package", "install"),
    [
        ("lunar_lander", "Box2D", "pip install 'pgrun[box2d]'"),
        ("halfcheetah", "mujoco", "pip install 'pgrun[mujoco]'"),
        ("atari", "ale_py", "pip install 'pgrun[atari]'"),
    ],
)
def test_a_missing_package_is_named(env, package, install, monkeypatch):
    import sys

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *args, **kwargs)

    for loaded in [
        m
        for m in sys.modules
        if m.split(".")[0] == package or m.startswith(("gymnasium.envs.box2d", "gymnasium.envs.mujoco"))
    ]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError) as caught:
        build(compose(f"env={env}", "network=cnn" if env == "atari" else "network=mlp"))
    assert install in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_envpool_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "envpool", None)
    assert "pip install 'pgrun[envpool]'" in line("env.backend=envpool")


def test_an_environment_of_a_module_in_a_folder(tmp_path, monkeypatch):
    (tmp_path / "my_worlds.py").write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gym.register('Mine-v0', entry_point=CartPoleEnv, max_episode_steps=13)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for backend in ("auto", "async"):
        made = parts("env=gym", "env.id=my_worlds:Mine-v0", "num_envs=2", f"env.backend={backend}")
        assert made.collector.collect(made.algorithm).reward.shape[1] == 2
        made.collector.env.close()
    assert "did you mean Mine-v0" in line("env=gym", "env.id=my_worlds:Mien-v0")


def test_a_native_environment_that_does_not_reset_itself():
    class Idle(gym.vector.VectorEnv):
        metadata = {"autoreset_mode": gym.vector.AutoresetMode.DISABLED}  # noqa: RUF012
        single_observation_space = observation_space = worlds.VECTOR
        single_action_space = action_space = gym.spaces.Discrete(2)

        def __init__(self, num_envs: int = 1) -> None:
            self.num_envs = num_envs

    gym.register("Idle-v0", entry_point=worlds.SelfKeeping, vector_entry_point=Idle)
    with pytest.raises(UserError, match=r"env\.backend=sync or async"):
        adapter("Idle-v0")
    assert adapter("Idle-v0", backend="sync").stateful == "copies"


def test_a_failing_environment_is_not_called_unknown(monkeypatch):
    class Broken(worlds.SelfKeeping):
        def __init__(self) -> None:
            raise gym.error.Error("the licence has run out\nand so on")

    gym.register("Broken-v0", entry_point=Broken)
    with pytest.raises(UserError) as caught:
        adapter("Broken-v0")
    assert str(caught.value) == "env.id=Broken-v0: the licence has run out"
