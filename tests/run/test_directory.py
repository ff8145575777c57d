"""A run's directory is read though some of its files are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from running import compose

from pgrun.run.directory import hydra_of, names_of
from pgrun.run.origin import origin

WHOLE = {
    "runtime.cwd": "/somewhere",
    "runtime.config_sources": [{"path": "/somewhere/configs", "schema": "file", "provider": "main"}],
    "runtime.choices": {"algo": "ppo", "env": "cartpole"},
    "overrides.task": ["seed=1"],
    "overrides.hydra": ["hydra.mode=RUN"],
    "mode": "RUN",
    "job.config_name": "config",
}


def write(folder: Path, content: object) -> None:
    (folder / ".hydra").mkdir(exist_ok=True)
    (folder / ".hydra" / "hydra.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create({"hydra": content})))


@pytest.mark.parametrize("missing", [*WHOLE, "runtime", "overrides", "job"])
def test_a_file_of_hydra_s_in_which_something_is_missing(missing: str, tmp_path: Path) -> None:
    node = OmegaConf.create()
    for key, value in WHOLE.items():
        if key != missing and not key.startswith(f"{missing}."):
            OmegaConf.update(node, key, value)
    write(tmp_path, node)
    config = compose("algo=ppo", "env=cartpole")
    expected = "pgrun" if missing in ("overrides", "overrides.task") else "pgrun seed=1"
    no_choices = missing in ("runtime", "runtime.choices")
    assert (hydra_of(tmp_path) is None) == no_choices
    assert names_of(tmp_path, config) == {"algo": "ppo", "env": "CartPole-v1" if no_choices else "cartpole"}
    assert origin(hydra_of(tmp_path), config)["command"] == ("" if no_choices else expected)


@pytest.mark.parametrize("odd", [[], "text", {"runtime": []}, {"runtime": {"choices": ["algo"]}}, {"overrides": 3}])
def test_a_file_of_another_program_s_counts_as_lost(odd: object, tmp_path: Path) -> None:
    write(tmp_path, odd)
    assert hydra_of(tmp_path) is None
