"""The provenance of a run: what it was started with, on what machine, of which code, and what it had learnt by when."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from pgrun.loop.hooks import Evaluate
from pgrun.loop.train import Clock
from pgrun.run.manifest import delete_known, enter, write_known
from pgrun.run.origin import versions
from pgrun.run.result_file import write_result
from pgrun.system.machine import machine
from pgrun.system.repository import code_of
from pgrun.system.secrets import masked, masked_values

FILE, DIFF = "provenance.json", "code.diff"
# packages beside torch, Gymnasium and NumPy on which a run's numbers may depend
OTHERS = (
    *("hydra-core", "omegaconf", "mujoco", "box2d", "ale-py", "envpool", "pettingzoo", "mpe2", "minari"),
    *("opencv-python-headless", "ray"),
)


class Provenance:
    """A hook that hashes the parameters at each evaluation, and keeps provenance.json.

    Args:
        folder: the run directory.
        config: the run's.
        command: the line that makes the run.
        told: the changes that `pgrun resume` was told.
        evaluation: the hook that evaluates, which comes before this one.
    """

    def __init__(
        self, folder: Path, config: DictConfig, command: str, told: Sequence[str], evaluation: Evaluate
    ) -> None:
        self.folder, self.config, self.evaluation, self.algorithm = folder, config, evaluation, evaluation.algorithm
        self.first_step, self.begun = 0, False
        self.evaluations: list[dict[str, Any]] = []
        self.session = here(self.algorithm.device, diff=config.log.get("diff", True))
        self.session |= {"command": masked(command), "changes": [masked(text) for text in told]}

    def reopen(self) -> None:
        """Delete the result.json that an earlier session left."""
        delete_known(self.folder, "result.json")

    def restore(self, evaluations: list[dict[str, Any]], steps: int) -> None:
        """Go on from a checkpoint at this step, with the evaluations up to it."""
        self.evaluations, self.first_step = list(evaluations), steps

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Note the parameters that were evaluated at this step, if any were."""
        done, noted = self.evaluation, {entry["env_steps"] for entry in self.evaluations}
        if done.latest is not None and done.latest_at == clock.steps and clock.steps not in noted:
            self.note(clock, done.latest)
        if not self.begun:
            self.write()

    def note(self, clock: Clock, mean: float, **more: bool) -> None:
        """Add an evaluation's entry."""
        entry = {"env_steps": clock.steps, "updates": clock.updates, "return": mean}
        self.evaluations.append({**entry, "parameters": parameters_hash(self.algorithm), **more})

    def write(self) -> None:
        """Write provenance.json, as far as the disk takes it: that is no reason to end a run."""
        with suppress(OSError):
            if not self.begun:
                self.begin()
            write_result(self.folder, {**self.known, "evaluations": self.evaluations}, FILE)

    def begin(self) -> None:
        """Read what earlier sessions wrote, and enter Hydra's files in the manifest."""
        before = read(self.folder)
        sessions = [session for session in before.get("sessions", []) if session["first_step"] < self.first_step]
        session = {"begun": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "first_step": self.first_step, **self.session}
        diff = session.pop("diff_text")
        name = DIFF if not sessions else f"code_{len(sessions) + 1}.diff"
        if diff:
            write_known(self.folder, name, diff.encode())
            session["code"]["diff"]["file"] = name
        config = masked_values(OmegaConf.to_container(self.config, resolve=True))
        self.known = {"config": before.get("config", config) if sessions else config}
        self.known["sessions"] = [*sessions, session]
        enter(self.folder, [f".hydra/{path.name}" for path in sorted((self.folder / ".hydra").glob("*.yaml"))])
        self.begun = True


def here(device: torch.device, *, diff: bool) -> dict[str, Any]:
    """Describe the present process: versions, machine and code.

    Args:
        device: where it learns.
        diff: keep how the code differs from its commit.
    """
    code = code_of(Path.cwd())
    facts = None if code is None else {**code.facts}
    if facts is not None and not diff:
        facts.pop("diff", None)
    return {
        "versions": {**versions(), **other_versions()},
        "machine": machine(device),
        "code": facts,
        "diff_text": code.diff if code is not None and diff else "",
    }


@cache
def other_versions() -> dict[str, str]:
    """List the versions of further packages that are installed."""
    found = {}
    for name in OTHERS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def parameters_hash(module: nn.Module) -> str:
    """Compute the SHA-256 of a module's parameters and buffers, with their names, types and shapes."""
    found = hashlib.sha256()
    for name, x in module.state_dict().items():
        if isinstance(x, Tensor):
            found.update(f"{name} {x.dtype} {tuple(x.shape)}\n".encode())
            found.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def read(folder: Path) -> dict[str, Any]:
    """Read a run's provenance; empty where there is none, or it can't be read."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
