"""A package with configs of its own, built and installed by pip into a folder, as a user's would be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from guess import GUESS

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0"

[project.entry-points."pgrun.configs"]
{point} = "{value}"

[tool.hatch.build.targets.wheel]
packages = [{packages}]
"""

ALGO = '''
from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.data.types import mask_mean


class Bold(OnPolicy):
    """Actor-critic in one loss.

    Args:
        boldness: weight of the critic, boldly.
    """

    def __init__(self, *, boldness: float, **common):
        super().__init__(**common)
        self.boldness = boldness
        self.step = self.gradient_step(self.model.parameters(), self.loss)

    def update(self, batch):
        return self.step(self.estimate(batch))

    def loss(self, batch):
        pi, value = self.model(batch)
        policy = -mask_mean(pi.log_prob(batch.action) * batch.extras["psi"], batch.valid)
        critic = mask_mean((value - batch.extras["target"]).square(), batch.valid)
        return policy + self.boldness * critic, {"loss/policy": policy.detach()}
'''

ENV = GUESS + 'gym.register("BoldGuess-v0", Guess)\n'

ALGO_YAML = """\
# @package _global_
# Actor-critic, but bold
defaults:
  - advantage@algo.advantage: gae
  - baseline@algo.baseline: value
  - /memory: latest
  - /collector: rollouts
  - _self_

algo:
  _target_: bold_algos.algo.Bold
  _partial_: true
  gamma: 0.9
  rollout: 8
  boldness: 0.5
  max_grad_norm: 0.5
  normalize_reward: false
"""

CONFIGS = {
    "algo/bold": ALGO_YAML,
    "env/bold_guess": "# Five guesses\ndefaults:\n  - gym\n  - _self_\nid: bold_algos.env:BoldGuess-v0\n",
    "network/bold_mlp": "# Two small layers\ndefaults:\n  - mlp\n  - _self_\nhidden: [8, 8]\n",
    "optimizer/bold_adam": "# Adam, fast\ndefaults:\n  - adam\n  - _self_\nlr: 0.02\n",
    "memory/bold_latest": "# The latest rollout\ndefaults:\n  - latest\n  - _self_\n",
    "sweep/bold": (
        "# @package _global_\n# Two boldnesses\ndefaults:\n  - override /algo: bold\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      algo.boldness: 0.25,0.75\n"
    ),
    "tuned/bold_bold_guess": (
        "# @package _global_\nnum_envs: 3\nalgo:\n  gamma: 0.5\nwhere:\n  optimizer=bold_adam: {lr: 0.03}\n"
    ),
}


def build(
    at: Path,
    name: str = "bold-algos",
    value: str = "bold_algos.configs",
    configs: Mapping[str, str] = CONFIGS,
    point: str = "bold",
) -> Path:
    """Write a package's sources into a folder."""
    module = name.replace("-", "_")
    (at / module / "configs").mkdir(parents=True)
    (at / "pyproject.toml").write_text(PYPROJECT.format(name=name, point=point, value=value, packages=f'"{module}"'))
    for file, text in {"__init__": "", "algo": ALGO, "env": ENV}.items():
        (at / module / f"{file}.py").write_text(text)
    for config, text in configs.items():
        path = at / module / "configs" / f"{config}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return at


def install(sources: Path, target: Path) -> None:
    """Install a package by pip into a folder; PYTHONPATH then makes it an installed one."""
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile")
    command = [sys.executable, *pip, "--target", str(target), str(sources.resolve())]
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
