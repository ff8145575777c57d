"""The devices that settings name."""

from __future__ import annotations

import re

import torch
from omegaconf import DictConfig

from pgrun.errors import UserError
from pgrun.nn.encoders import CNN, Network

WORTH_IT = 50_000  # gradient steps from which compiling pays off


def learn_device(device: str, network: Network) -> torch.device:
    """Choose the device to learn on.

    `auto` is a GPU for convolutions and wide layers. Small MLPs are faster on the CPU.
    """
    if device == "auto":
        large = isinstance(network, CNN) or max(getattr(network, "hidden", [0]), default=0) >= 1024
        device = "cuda" if large and torch.cuda.is_available() else "cpu"
    return pick(device, torch.device("cpu"))


def compiles(config: DictConfig) -> bool:
    """Decide whether to compile; with `compile=auto` by the config alone, so that numbers depend on nothing else."""
    return gradient_steps(config) >= WORTH_IT if config.compile == "auto" else bool(config.compile)


def captures(config: DictConfig, device: torch.device) -> bool:
    """Decide whether to capture CUDA graphs on the device where a run learns.

    Raises:
        UserError: the config asks for them, and they can't be had.
    """
    wanted = config.get("graph", False)
    if wanted == "auto":
        return device.type == "cuda" and config.workers == 1 and gradient_steps(config) >= WORTH_IT
    if wanted and device.type != "cuda":
        raise UserError(
            f"graph=true captures CUDA graphs, and this run learns on the {device.type.upper()}: use device=cuda, or "
            "graph=auto"
        )
    if wanted and config.workers > 1:
        raise UserError("graph=true is for a run of one process: use workers=1, or graph=auto")
    return bool(wanted)


def gradient_steps(config: DictConfig) -> float:
    """Estimate how many gradient steps a run takes."""
    rows = config.algo.get("rollout", 0) * config.env.get("num_envs", 1)
    if not rows:
        return 0.0
    epochs, minibatch = config.algo.get("epochs") or 1, config.algo.get("minibatch") or rows
    steps: float = config.memory.get("updates") or epochs * max(rows // minibatch, 1)
    return config.total_steps / rows * steps


def pick(device: str, default: torch.device, key: str = "device") -> torch.device:
    """Return the device that a setting names.

    Args:
        device: auto, cpu, cuda or cuda:N.
        default: the device for `auto`.
        key: the setting's key, for messages.

    Raises:
        UserError: there is no such device.
    """
    if device == "auto":
        return default
    if device not in ("cpu", "cuda") and not re.fullmatch(r"cuda:\d+", device):
        raise UserError(f"{key}={device} is not known; choose auto, cpu or cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"{key}={device}: torch sees no GPU here; use {key}=cpu or {key}=auto")
    return torch.device(device)
