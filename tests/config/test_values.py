"""Every key of a composed config is checked against what the class that gets it takes."""

import sys

import pytest
from omegaconf import OmegaConf
from running import compose

from pgrun.config.paths import config_dir
from pgrun.config.values import WrongSetting, validate
from pgrun.config.walk import every_key, make_absolute

GYM = ("env=gym", "env.id=CartPole-v1")
WRONG = [
    ((*GYM, "total_steps=abc"), "total_steps=abc should be a whole number"),
    ((*GYM, "algo.epochs=2.5"), "algo.epochs=2.5 should be a whole number"),
    ((*GYM, "network.hidden=64"), "network.hidden=64 should be a list"),
    ((*GYM, "seed=1.5"), "seed=1.5 should be a whole number"),
    (("seed=18446744073709551616",), "seed=18446744073709551616 is out of range"),
    ((*GYM, "algo.minibatch=null"), "algo.minibatch=null should be a whole number"),
    (("agents=joint", "algo=maddpg", "env=simple_spread", "env.num_envs=0"), "env.num_envs=0 is out of range"),
    (("algo.advantage=gae",), "algo.advantage=gae should be a part.*algo/advantage=gae"),
    (("eval=false",), "eval=false should be keys of its own: every"),
    (("env.kwargs=5",), "env.kwargs=5 should be a mapping"),
    (("+foo=1",), "there is no key foo"),
    (("+eval.evry=3",), "there is no key eval.evry; did you mean eval.every"),
    (("+optimizer.foo=1",), "there is no key optimizer.foo: Adam takes no 'foo'"),
    (("+algo.obs_space=1",), "algo.obs_space is no key: the run itself gives obs_space to PPO"),
    (("optimizer._target_=pgrun.optim.rules.SGD",), "there is no key optimizer.betas: SGD takes no 'betas'"),
    (
        ("network._target_=nowhere.Net",),
        "network._target_=nowhere.Net can't be had .there is no module nowhere; a module of",
    ),
    (("++eval.env.num_env=3",), "there is no key eval.env.num_env: make takes no 'num_env'"),
    (("+eval.env.max_episode_steps=0",), "eval.env.max_episode_steps=0 is out of range"),
    (("~algo.gamma",), "algo.gamma is missing: PPO needs it"),
    (("env.shaping=distance",), "env.shaping=distance should be a part.*env/shaping=distance"),
    (("algo/advantage=mixture", "algo.advantage.terms.gae.lambda_=2"), r"algo.advantage.terms.gae.lambda_=2 is out of"),
    (("algo/advantage=mixture", "algo.advantage.weights.gae=x"), "algo.advantage.weights.gae=x should be a number"),
]
RIGHT = [
    ("+env.kwargs.temperature=-5", "+env.kwargs.backend=egl", "+env.kwargs.size=[1,2]"),
    ("+lr=0.001", "optimizer.lr=${lr}"),
    ("++eval.env.max_episode_steps=5", "++eval.env.wrappers=[]"),
    ("env=lqr", "env.world.noise=0.5"),
    ("hydra.run.dir=x",),
]


@pytest.mark.parametrize(("overrides", "says"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_values_are_told(overrides, says):
    with pytest.raises(WrongSetting, match=says):
        validate(compose(*overrides))


@pytest.mark.parametrize("overrides", RIGHT, ids=[" ".join(words) for words in RIGHT])
def test_right_values_pass(overrides):
    validate(compose(*overrides))


def test_an_own_class_is_judged_by_what_it_takes(tmp_path, monkeypatch):
    (tmp_path / "mine_of_values.py").write_text(
        "from pgrun.algos.ppo import PPO\n"
        "class Mine(PPO):\n"
        "    def __init__(self, *, step, gamma=1, **rest):\n"
        "        super().__init__(gamma=gamma, **rest)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = ("algo._target_=mine_of_values.Mine", "+algo.step=euler")
    validate(compose(*own, "algo.gamma=7"))  # its own argument, which it has without a range
    with pytest.raises(WrongSetting, match=r"algo.epochs=0 is out of range"):
        validate(compose(*own, "algo.epochs=0"))
    with pytest.raises(WrongSetting, match=r"there is no key algo.stp: mine_of_values.Mine takes no 'stp'.*algo.step"):
        validate(compose(*own, "+algo.stp=1"))
    assert "mine_of_values" in sys.modules


def test_every_key_of_every_recipe_is_declared_and_has_a_meaning():
    for path in sorted((config_dir() / "algo").glob("*.yaml")):
        env = "simple_spread" if path.stem in ("maddpg", "iddpg") else "cartpole"
        for key, setting, _ in every_key(compose(f"algo={path.stem}", f"env={env}")):
            assert setting is not None, (path.stem, key)
            assert setting.meaning, (path.stem, key)


def test_files_are_kept_as_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = compose("algo=gps", "env=sparse_reach", "demonstrations=demos.npz")
    make_absolute(config)
    assert config.demonstrations == str(tmp_path / "demos.npz") == config.memory.demonstrations
    assert OmegaConf.is_interpolation(config.memory, "demonstrations")
    other = compose("algo=gps", "env=sparse_reach", "demonstrations=minari:D4RL/x")
    make_absolute(other)
    assert other.demonstrations == "minari:D4RL/x"


OWN = ("algo=a2c", "algo._target_=own_ranges.Own", "+algo.label=x")


@pytest.mark.parametrize(
    ("weight", "line"),
    [
        ("-1", "algo.weight=-1 is out of range: it must be at least 0"),
        ("lots", "algo.weight=lots should be a number"),
        ("liner:1:0", "algo.weight=liner:1:0"),
    ],
)
def test_a_range_that_a_user_declares_is_checked(weight, line):
    with pytest.raises(WrongSetting) as refused:
        validate(compose(*OWN, f"+algo.weight={weight}"))
    assert str(refused.value).startswith(line)


def test_a_user_s_other_types_are_the_user_s():
    validate(compose(*OWN, "+algo.weight=linear:1:0"))
