"""Compose a config, build its parts, run it: what tests of whole runs share."""

import pickle
import time
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from pgrun.config.paths import config_dir
from pgrun.run import checkpoint
from pgrun.run.build import Parts, build
from pgrun.run.checkpoint_files import beside, sha256, sum_line
from pgrun.run.run import Run
from pgrun.sweep.resolvers import register_resolvers


def compose(*overrides: str) -> DictConfig:
    """The config that these overrides compose to, as the shell would have it; each call gets its own."""
    register_resolvers()
    return pickle.loads(composed(*overrides))


@cache
def composed(*overrides: str) -> bytes:
    """The same, pickled: a copy takes a hundredth of the time that Hydra takes to compose it once more."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return pickle.dumps(hydra.compose("config", overrides=list(overrides)))


def parts(*overrides: str) -> Parts:
    """The parts of a run."""
    return build(compose(*overrides))


def acting_eagerly(made: Parts) -> Parts:
    """The same parts, whose policy acts by eager code even where steps are compiled."""
    made.collector.compiled.able = False  # type: ignore[attr-defined]
    return made


def new_run(folder: Path, *overrides: str, resume: dict[str, Any] | None = None) -> Run:
    """A run in a folder, built from scratch, perhaps from a checkpoint's content."""
    config = compose(*overrides)
    names = {"algo": "algo", "env": "env"}
    return Run(config, build(config), folder, names=names, begin=time.perf_counter(), quiet=True, resume=resume)


def change_config(path: Path, config: DictConfig) -> None:
    """Give a checkpoint another config, as if the run had been trained with it."""
    path = path.resolve()
    content = {**checkpoint.load(path), "config": OmegaConf.to_container(config, resolve=True)}
    path.write_bytes(checkpoint.dump(content))
    beside(path).write_bytes(sum_line(sha256(path), path.name))


def same(a: Any, b: Any) -> bool:
    """Whether two nested values are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b
