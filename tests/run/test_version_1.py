"""Run directories, config files and code of version 0.1 go on.

tests/support/version_1 was made by version 0.1.0: two short runs, what `pgrun eval RUN --episodes 3` said of each, the
hash of what `pgrun resume RUN total_steps=128` ended with, and every target of its configs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fingerprints import hash_checkpoint
from hydra.utils import get_object
from omegaconf import OmegaConf
from shell import pgrun_inside

from pgrun.config.renamed import MODULES, NAMES, new_name, renew
from pgrun.config.resolve import renew_targets

DATA = Path(__file__).parents[1] / "support" / "version_1"
EXPECTED = json.loads((DATA / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_an_old_run_evaluates_and_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / name, tmp_path / name, symlinks=True)
    again = ("--config-dir", f"{name}/.hydra", "hydra.run.dir=again")
    assert pgrun_inside(*again, cwd=tmp_path).code == 0
    latest = Path("checkpoints", "latest.pt")
    same_machine = hash_checkpoint(tmp_path / "again" / latest) == hash_checkpoint(tmp_path / name / latest)
    said = pgrun_inside("eval", name, "--episodes", "3", "--json", cwd=tmp_path)
    assert said.code == 0, said.err
    found = json.loads(said.out)
    exactly: dict[str, Any] = {} if same_machine else {"rel": 1e-3}  # another processor rounds in another way
    for key in ("mean", "std"):
        assert found[f"eval_return_{key}"] == (
            pytest.approx(EXPECTED[name][key], **exactly) if exactly else EXPECTED[name][key]
        )
    said = pgrun_inside("resume", name, "total_steps=128", cwd=tmp_path)
    assert said.code == 0, said.err
    if same_machine:
        assert hash_checkpoint(tmp_path / name / latest) == EXPECTED[name]["end"]


def test_every_target_of_version_1_is_still_there() -> None:
    targets = [name for name in (DATA / "targets.txt").read_text().split() if name.startswith(("pgrun.", "hydra_"))]
    assert len(targets) > 80
    for target in targets:
        assert get_object(new_name(target)) is not None, target


def test_the_table_leads_to_what_is_there() -> None:
    for old, new in {**MODULES, **NAMES}.items():
        assert get_object(new) is not None, old
        assert new_name(old) == new
        assert new_name(new) == new, "a new name must not be an old one, too"


def test_targets_of_a_config_are_renewed() -> None:
    node = {"a": {"_target_": "pgrun.optim.Adam", "b": [{"_target_": "pgrun.replay.Replay"}]}, "c": "pgrun.optim.Adam"}
    new = {"_target_": "pgrun.optim.rules.Adam", "b": [{"_target_": "pgrun.memory.replay.Replay"}]}
    assert renew(node) == {"a": new, "c": "pgrun.optim.Adam"}
    config = OmegaConf.create({**node, "x": "${c}", "y": None, "z": {"_target_": "???"}})
    renew_targets(config)
    assert config.a == new
    assert (config.x, config.y) == ("pgrun.optim.Adam", None)


CODE = """
from pgrun.algos.base import Algorithm
from pgrun.algos.on_policy import OnPolicy
from pgrun.collect import Episodes
from pgrun.envs.tensor import World
import pgrun.gradient_step
import pgrun.algos.base
import pgrun.optim.gradient_step as new
assert pgrun.gradient_step is new and new.__spec__.name == "pgrun.optim.gradient_step"
"""


def test_old_imports_are_told_their_new_place_once() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        "pgrun: pgrun.algos.base is pgrun.algos.parts.base now",
        "pgrun: pgrun.algos.on_policy is pgrun.algos.parts.on_policy now",
        "pgrun: pgrun.collect.Episodes is pgrun.collect.episodes.Episodes now",
        "pgrun: pgrun.gradient_step is pgrun.optim.gradient_step now",
    ]


def test_a_name_that_never_was_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Nobody'"):
        from pgrun.collect import Nobody  # noqa: F401
