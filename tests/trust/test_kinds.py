"""A slot of a config takes classes of its kind, and nothing else, also in a run of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from shell import pgrun_inside

from pgrun.config.paths import config_dir
from pgrun.errors import UserError
from pgrun.trust.code import modules_of, needs_trust, top_names
from pgrun.trust.kinds import HARMLESS, check_kinds, is_shipped, named, shipped, slot_of, targets
from pgrun.trust.references import Unresolved, escaped, resolve

TERM = {"_target_": "pgrun.core.advantages.TD"}
REFUSED: dict[str, tuple[str, Any, str]] = {
    "a function": ("network", {"_target_": "torch.load"}, "is a function: this takes a class"),
    "a method": ("network", {"_target_": "pathlib.Path.write_text"}, "is a function: this takes a class"),
    "a module": ("memory", {"_target_": "os.path"}, "is a module"),
    "another kind": (
        "env",
        {"_target_": "pgrun.envs.TensorEnv", "world": {"_target_": "logging.FileHandler"}},
        "World",
    ),
    "another slot": (
        "optimizer",
        {"_target_": "pgrun.nn.MLP"},
        "an optimizer that is a pgrun.optim.rules.Optimizer or",
    ),
    "no wrapper": (
        "env",
        {"_target_": "pgrun.envs.make", "wrappers": [{"_target_": "collections.OrderedDict"}]},
        "wrap",
    ),
    "a function as a wrapper": (
        "env",
        {"_target_": "pgrun.envs.make", "wrappers": [{"_target_": "os.system"}]},
        "wrap",
    ),
    "a part of an argument": (
        "env",
        {"_target_": "pgrun.envs.make", "kwargs": {"a": {"_target_": "os.system"}}},
        "class",
    ),
    "an annotated argument": (
        "algo",
        {"_target_": "pgrun.algos.ppo.PPO", "advantage": {"_target_": "pgrun.core.baselines.Zero"}},
        "Advantage",
    ),
    "a term": (
        "algo.advantage",
        {"_target_": "pgrun.core.mixture.Mixture", "terms": {"a": TERM, "b": {"_target_": "builtins.dict"}}},
        "Advantage",
    ),
    "a protocol": ("collector", {"_target_": "pgrun.memory.latest.Latest"}, "pgrun.collect.collector.Collector"),
    "nothing": ("algo", {"_target_": "nowhere.Thing"}, "can't be had"),
    "a number": ("algo", {"_target_": 3}, "should be the name of a class"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_slot_refuses(name: str) -> None:
    path, node, words = REFUSED[name]
    with pytest.raises(UserError, match=words) as caught:
        check_kinds(node, path)
    assert "\n" not in str(caught.value)


def test_every_shipped_part_is_of_its_slot_s_kind() -> None:
    for path in sorted(config_dir().rglob("*.yaml")):
        group = path.parent.relative_to(config_dir()).as_posix()
        if group.split("/")[0] in (".", "hydra", "sweep", "tuned"):
            continue
        text = path.read_text(encoding="utf-8")
        content: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False) if text.strip() else {}
        at_root = text.startswith("# @package _global_")
        for where, node in content.items() if at_root else ((group.replace("/", "."), content),):
            if isinstance(node, dict) and "???" not in str(node):
                check_kinds(node, where)


def test_what_is_harmless_is_there() -> None:
    for names in HARMLESS.values():
        for name in names:
            assert isinstance(named("", name), type), name


def test_slots() -> None:
    assert slot_of("eval.env.wrappers[2]") == "env.wrappers"
    assert slot_of("algo.advantage.terms.gae") == "algo.advantage"
    assert is_shipped("algo.advantage.terms.x", "pgrun.core.advantages.GAE")
    assert not is_shipped("network", "pgrun.core.advantages.GAE")
    assert not is_shipped("network", ["pgrun.nn.MLP"])
    assert is_shipped("env.wrappers[0]", "ClipAction")
    assert not is_shipped("env.wrappers[0]", "RecordVideo")
    assert is_shipped("optimizer", "pgrun.optim.Adam")  # the name of version 0.1
    assert "???" not in str(shipped()["network"])
    assert [*targets({"env": {"wrappers": ["a.B", {"_target_": "c.D"}]}})] == [
        ("env.wrappers[0]", "a.B"),
        ("env.wrappers[1]", "c.D"),
    ]


def test_modules_that_a_config_names() -> None:
    config = {
        "algo": {"_target_": "mine.algos.Mine", "x": [{"_target_": "other.A"}]},
        "env": {"_target_": "pgrun.envs.make", "id": "games.all:Go-v0", "wrappers": ["ClipAction", "wrap.Clip"]},
        "eval": {"env": {"id": "test_games:Go-v0"}},
    }
    assert modules_of(config) == {"mine.algos", "other", "games.all", "wrap", "test_games"}
    assert top_names(config) == {"mine", "other", "games", "wrap", "test_games"}
    assert top_names({"env": {"id": "mpe2.simple_tag_v3"}, "eval": 3}) == {"mpe2"}
    (first, *_) = needs_trust(config, ())
    assert first == "call mine.algos.Mine (algo) from a mine that is not found"


def test_references() -> None:
    config: dict[str, Any] = {"a": {"b": 3}, "c": "${a.b}", "d": ["${c}"], "e": "${oc.select:a.x,false}", "f": "x"}
    assert resolve(config) == {"a": {"b": 3}, "c": 3, "d": [3], "e": False, "f": "x"}
    for value in ("${oc.env:HOME}", "a${f}", "${a}", "${nothing}", "${now:%Y}", "${oc.select:a.x,${oc.env:HOME}}"):
        with pytest.raises(Unresolved) as caught:
            resolve({**config, "x": value})
        assert "HOME" not in str(caught.value)
    assert OmegaConf.create(escaped({"a": "${oc.env:HOME}"})).a == "${oc.env:HOME}"


OWN = ("algo=ppo", "env=gym", "env.id=CartPole-v1", "total_steps=64", "hydra.run.dir=run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "word",
    [
        "network={_target_: shutil.copyfile, src: a, dst: b}",
        "++env.kwargs.render_mode={_target_: shutil.copyfile, src: a, dst: b}",
        "env.wrappers=[{_target_: shutil.copyfile, src: a, dst: b}]",
        "+hydra.callbacks.x={_target_: shutil.copyfile, src: a, dst: b}",
    ],
)
def test_one_line_before_anything_is_called(word: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    said = pgrun_inside(*OWN, word, cwd=tmp_path)
    assert said.code == 2
    assert "shutil.copyfile" in said.line
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
