"""A tuned file's sections hold with one member of a group alone, and are told where they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from pgrun.compat.hydra import FileConfigSource
from pgrun.config.config_source import ConfigFiles
from pgrun.config.tuned_file import asked_for, sections, split
from pgrun.errors import UserError

ROOT = """\
defaults:
  - rule: adam
  - algo: one
  - optional tuned: ${algo}_here
  - optional tuned/where: ${oc.select:tuned,${algo}_here}
  - _self_
"""
FILES = {
    "config": ROOT,
    "rule/adam": "lr: 1\neps: 2\n",
    "rule/sgd": "lr: 3\n",
    "algo/one": "# @package _global_\ndefaults:\n  - form@algo.form: gae\n  - _self_\nalgo: {gamma: 1}\n",
    "algo/two": "gamma: 2\n",
    "algo/three": "# @package _global_\ndefaults: [one, _self_]\nalgo: {gamma: 3}\n",
    "algo/form/gae": "lambda_: 1\n",
    "algo/form/td": "n: 1\n",
    "tuned/one_here": """\
# @package _global_
algo: {gamma: 10}
where:
  rule=adam: {lr: 1e-1, more: "${algo.gamma}"}
  rule=sgd: {lr: 30}
  algo/form=gae: {lambda_: 10}
""",
    "tuned/three_here": "# @package _global_\ndefaults: [one_here, _self_]\nwhere:\n  rule=adam: {lr: 0.2}\n",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def composed(folder: Path, *overrides: str, first: Path | None = None) -> DictConfig:
    """A config of this folder's files, and of another's that come first."""
    GlobalHydra.instance().clear()
    beyond = [f"hydra.searchpath=[file://{folder}]"] if first else []
    with hydra.initialize_config_dir(str(first or folder), version_base="1.3"):
        return hydra.compose("config", overrides=[*beyond, *overrides])


def plain(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=True)


TUNED = {"lr": 0.1, "eps": 2, "more": 10}
CASES = {
    (): {"rule": TUNED, "algo": {"gamma": 10, "form": {"lambda_": 10}}},
    ("rule=sgd",): {"rule": {"lr": 30}, "algo": {"gamma": 10, "form": {"lambda_": 10}}},
    ("algo/form=td",): {"rule": TUNED, "algo": {"gamma": 10, "form": {"n": 1}}},
    ("tuned=none",): {"rule": {"lr": 1, "eps": 2}, "algo": {"gamma": 1, "form": {"lambda_": 1}}},
    ("rule.lr=7",): {"rule": {**TUNED, "lr": 7}, "algo": {"gamma": 10, "form": {"lambda_": 10}}},
    ("algo=two",): {"rule": {"lr": 1, "eps": 2}, "algo": {"gamma": 2}},
    ("algo=two", "tuned=one_here"): {"rule": TUNED, "algo": {"gamma": 10}},  # a group that is not chosen at all
    ("algo=three",): {"rule": {**TUNED, "lr": 0.2}, "algo": {"gamma": 10, "form": {"lambda_": 10}}},
    ("algo=three", "rule=sgd"): {"rule": {"lr": 30}, "algo": {"gamma": 10, "form": {"lambda_": 10}}},
}


@pytest.mark.parametrize("overrides", CASES, ids=" ".join)
def test_a_section_holds_with_its_member_alone(overrides: tuple[str, ...], tmp_path: Path) -> None:
    write(tmp_path, FILES)
    assert plain(composed(tmp_path, *overrides)) == CASES[overrides]


def test_a_file_that_comes_first_leaves_nothing_of_one_of_its_name(tmp_path: Path) -> None:
    write(tmp_path / "shipped", FILES)
    write(tmp_path / "own", {"config": ROOT, "tuned/one_here": "# @package _global_\nwhere: {rule=sgd: {lr: 8}}\n"})
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    assert plain(composed(shipped, first=own)) == {
        "rule": {"lr": 1, "eps": 2},
        "algo": {"gamma": 1, "form": {"lambda_": 1}},
    }
    assert composed(shipped, "rule=sgd", first=own).rule.lr == 8
    write(own, {"tuned/two_here": "# @package _global_\ndefaults: [one_here]\n"})
    assert composed(shipped, "algo=two", first=own).rule == {"lr": 1, "eps": 2}  # by the own file, again


def test_a_file_of_ones_own_builds_on_a_shipped_one(tmp_path: Path) -> None:
    write(tmp_path / "shipped", FILES)
    write(tmp_path / "own", {"config": ROOT, "tuned/two_here": "# @package _global_\ndefaults: [one_here]\n"})
    assert composed(tmp_path / "shipped", "algo=two", first=tmp_path / "own").rule == TUNED


def test_hydra_reads_files_by_this_source_and_others_as_before(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    composed(tmp_path)
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        sources = GlobalHydra.instance().config_loader().get_sources()
    assert [type(source) for source in sources if source.provider == "main"] == [ConfigFiles]
    here, hydras = ConfigFiles("main", str(tmp_path)), FileConfigSource("main", str(tmp_path))
    assert here.list("", None) == hydras.list("", None)
    assert here.list("tuned", None) == ["one_here", "three_here"]
    for name in ("config", "rule/adam", "algo/one", "algo/form/td"):
        assert here.load_config(name) == hydras.load_config(name)
    assert here.is_config("tuned/where/one_here/rule=adam")
    assert not here.is_config("tuned/where/two_here/rule=adam")
    assert not here.is_config("rule/nothing")


def test_what_names_a_section() -> None:
    assert split("tuned/where/ppo_cartpole") == split("tuned/where/ppo_cartpole.yaml") == ("ppo_cartpole", "")
    assert split("tuned/where/a_b/algo/advantage=gae") == ("a_b", "algo/advantage=gae")
    assert split("tuned/a_b") == split("tuned/where") == split("optimizer/adam") == ("", "")


WRONG = {
    "no section": 3,
    "a group alone": {"optimizer": {"lr": 1}},
    "a member alone": {"=adam": {"lr": 1}},
    "no keys": {"optimizer=adam": 1e-3},
    "no name": {1: {"lr": 1}},
}


@pytest.mark.parametrize("where", WRONG.values(), ids=WRONG)
def test_what_is_no_section_is_refused_by_the_file_s_name(where: object) -> None:
    with pytest.raises(UserError, match=r"^conf/tuned/a_b.yaml: where takes sections, as optimizer=adam: \{lr: 1e-3\}"):
        sections({"where": where}, "conf/tuned/a_b.yaml")


def test_a_file_without_sections_asks_for_none() -> None:
    assert asked_for("a_b", {"seed": 1, "where": None}, "") == []
    assert asked_for("a_b", {"defaults": ["c_d", "_self_"]}, "") == ["c_d"]
