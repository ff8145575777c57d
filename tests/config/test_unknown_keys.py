"""An unknown key is told where it belongs, or how it is spelt, the keys of one's own parts included."""

import importlib
import sys
from pathlib import Path

import pytest
from shell import pgrun_inside

import pgrun
from pgrun.config.templates import write
from pgrun.errors import UserError

WRONG = [
    ("algo.entropy_coff=0.1", "there is no key algo.entropy_coff; did you mean algo.entropy_coef?"),
    ("algo.value_coeff=0.1", "there is no key algo.value_coeff; did you mean algo.value_coef?"),
    ("algo.gama=0.1", "there is no key algo.gama; did you mean algo.gamma?"),
    ("network.hiden=[3]", "there is no key network.hiden; did you mean network.hidden?"),
    ("network.block=3", "there is no key network.block; did you mean network.blocks?"),
    (
        "algo.entropy_coef=0.1",
        "my_own_key.MyOwnKey takes entropy_coef, but conf/algo/my_own_key.yaml doesn't give it: "
        "add it there, or type +algo.entropy_coef=0.1",
    ),
    ("+network.normalize_obs=true", "there is no key network.normalize_obs: my_own_keys_net.MyOwnKeysNet takes no "),
    ("algo/advantge=gae", "there is no key algo/advantge; did you mean algo/advantage?"),
]
ELSEWHERE = [
    (
        ("algo=ppo", "demonstrations=demos.csv"),
        "demonstrations is not among the keys of algo=ppo; it belongs to algo=behaviour_cloning, gps",
    ),
    (("algo=ppo", "memory.capacity=4"), "not among the keys of memory=latest; it belongs to memory=guided, prior"),
    (("algo=sac", "algo.clip_range=0.1"), "algo.clip_range is not among the keys of algo=sac; it belongs to algo=dppo"),
    (
        ("algo=ppo", "algo/advantage=nstep", "algo.advantage.lambda_=0.9"),
        "is not among the keys of algo/advantage=nstep; it belongs to algo/advantage=a, gae",
    ),
]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with an own algorithm, whose class takes more than its file gives, and a network."""
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    write("algo", "my_own_key", Path())
    write("network", "my_own_keys_net", Path())
    code = Path("my_own_key.py")
    code.write_text(code.read_text().replace("value_coef: float,", "value_coef: float, entropy_coef: float = 0.0,"))
    yield tmp_path
    for name in ("my_own_key", "my_own_keys_net"):
        sys.modules.pop(name, None)


LONGER = ("algo.value_coeff=0.1", "algo.gama=0.1", "network.block=3", "algo/advantge=gae")


@pytest.mark.parametrize(
    ("word", "says"),
    [pytest.param(*case, id=case[0], marks=[pytest.mark.slow] if case[0] in LONGER else []) for case in WRONG],
)
def test_a_key_of_ones_own(word, says, own):
    with pytest.raises(UserError) as refused:
        pgrun.compose("algo=my_own_key", "network=my_own_keys_net", word, config_dir="conf")
    assert str(refused.value).startswith(says)


@pytest.mark.parametrize(("words", "says"), ELSEWHERE, ids=[words[-1] for words, _ in ELSEWHERE])
def test_a_key_of_another_member_of_a_group(words, says):
    with pytest.raises(UserError) as refused:
        pgrun.compose(*words)
    assert says in str(refused.value)


def test_a_sweep_s_own_keys(own):
    refused = pgrun_inside("-m", "--config-dir", "conf", "algo=my_own_key,ppo", "algo.value_coeff=1,2", cwd=own)
    assert "did you mean algo.value_coef?" in refused.line


@pytest.mark.slow
def test_an_argument_that_came_later(own):
    small = ("total_steps=32", "num_envs=2", "eval.every=null", "eval.final_episodes=1", "eval.max_steps=5")
    line = ("--config-dir", "conf", "algo=my_own_key", *small, "hydra.run.dir=run")
    assert pgrun_inside(*line, cwd=own).code == 0
    code = own / "my_own_key.py"
    code.write_text(code.read_text().replace("entropy_coef: float = 0.0", "entropy_coef: float, more: float"))
    for words in (["eval", "run"], ["resume", "run", "total_steps=64"]):
        refused = pgrun_inside(*words, cwd=own)
        assert (refused.code, refused.line) == (
            2,
            "pgrun: run was made before my_own_key.MyOwnKey took entropy_coef, more: give entropy_coef, more a default",
        )
    refused = pgrun_inside(*line[:-1], "hydra.run.dir=again", cwd=own)
    says = "my_own_key.MyOwnKey needs entropy_coef, more, which its YAML does not give (conf/algo/my_own_key.yaml)"
    assert refused.line == f"pgrun: {says}"
    assert not (own / "again").exists()


def test_a_field_that_is_only_annotated(own):
    code = own / "my_own_keys_net.py"
    text = code.read_text()
    assert "@dataclass(kw_only=True)\n" in text
    code.write_text(text.replace("@dataclass(kw_only=True)\n", ""))
    with pytest.raises(UserError) as refused:
        pgrun.compose("algo=ppo", "network=my_own_keys_net", config_dir="conf")
    assert str(refused.value) == (
        "there is no key network.blocks: my_own_keys_net.MyOwnKeysNet takes no 'blocks', which it annotates only: "
        "write @dataclass(kw_only=True) above class MyOwnKeysNet (conf/network/my_own_keys_net.yaml, line 3)"
    )


def test_a_class_of_another_kind(own):
    for target in ("my_own_keys_net.MyOwnKeysNetEncoder", "torch.nn.Linear"):
        with pytest.raises(UserError) as refused:
            pgrun.compose("algo=ppo", "network=my_own_keys_net", f"network._target_={target}", config_dir="conf")
        assert str(refused.value) == (
            f"network._target_={target} is no class of the kind that this takes: one that is a "
            "pgrun.nn.encoders.Network; use network=cnn, gru, lstm, mlp, mlp_agents or mlp_large"
        )
