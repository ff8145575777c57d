"""The card of an exported policy, a JSON file: what it takes and gives, how to call it, and where it is from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pgrun import __version__
from pgrun.after.exported_file import KIND
from pgrun.after.loading import Loaded
from pgrun.envs.graph_codecs import Port
from pgrun.run.origin import env_id, versions

if TYPE_CHECKING:
    from pgrun.after.policy_graph import PolicyGraph

MOST = 64  # numbers of a bound or a state that are listed
FIGURES = ("status", "env_steps", "eval_return_mean", "eval_return_std", "eval_episodes", "best_eval_return_mean")

ONNX_CALL = """\
import onnxruntime
session = onnxruntime.InferenceSession("{file}")
{outputs} = session.run([{names}], {{{feed}}})  # NumPy arrays with a leading axis of copies"""
TORCH_CALL = """\
import torch
policy = torch.export.load("{file}").module()
{outputs} = policy({order})  # tensors with a leading axis of copies, by position"""


def card(
    folder: Path, path: Path, run: Loaded, graph: PolicyGraph, checkpoint: Path, *, stochastic: bool, off: float
) -> dict[str, Any]:
    """Make the card of an exported policy.

    Args:
        folder: the run directory.
        path: the exported file.
        run: the policy and its run.
        graph: what was exported.
        checkpoint: the checkpoint that was exported.
        stochastic: whether it samples its actions.
        off: the largest difference from the policy in the comparison.
    """
    result = folder / "result.json"
    figures = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    return {
        "kind": KIND,
        "file": path.name,
        "algo": run.names["algo"],
        "env": run.names["env"],
        "env_id": env_id(run.config.env),
        "actions": "sampled, from noise that is an input" if stochastic else "the best known",
        "inputs": [described(port) for port in graph.inputs],
        "outputs": [described(port) for port in graph.outputs],
        "call": calling(path, graph),
        "episode_start": beginning(graph),
        "precision": precision(run, off),
        "run": str(folder.absolute()),
        "checkpoint": checkpoint.resolve().name,
        "env_steps": int(run.clock["steps"]),
        "result": {key: figures[key] for key in FIGURES if key in figures},
        "versions": {**versions(), "pgrun": __version__},
    }


def described(port: Port) -> dict[str, Any]:
    """Describe an input or output."""
    found = {"name": port.name, "shape": ["batch", *port.shape], "type": str(port.dtype).removeprefix("torch.")}
    found["meaning"] = port.meaning
    if port.low is not None:
        found |= {"low": bound(port.low), "high": bound(port.high)}
    return found


def bound(values: np.ndarray) -> Any:
    """Write a bound: one number where all are the same, null where there is none."""
    numbers = [None if abs(x) > 1e10 else x for x in np.asarray(values).flatten().tolist()]
    if len(set(numbers)) == 1:
        return numbers[0]
    return numbers if len(numbers) <= MOST else f"{len(numbers)} numbers"


def beginning(graph: PolicyGraph) -> dict[str, Any]:
    """Say what state an episode begins with, by input: one number where all are the same."""
    states = graph.inputs[len(graph.inputs) - len(graph.kept) :]
    return {port.name: bound(graph.start(i, 1)[0].numpy()) for port, i in zip(states, graph.kept, strict=True)}


def calling(path: Path, graph: PolicyGraph) -> str:
    """Write how the policy is called."""
    inputs, outputs = ([port.name for port in ports] for ports in (graph.inputs, graph.outputs))
    plain = [name.replace(".", "_") for name in inputs]
    return (ONNX_CALL if path.suffix == ".onnx" else TORCH_CALL).format(
        file=path.name,
        outputs=", ".join(name.replace(".", "_") for name in outputs) + ("," if len(outputs) == 1 else ""),
        names=", ".join(f'"{name}"' for name in outputs),
        feed=", ".join(f'"{name}": {word}' for name, word in zip(inputs, plain, strict=True)),
        order=", ".join(plain),
    )


def precision(run: Loaded, off: float) -> str:
    """Say how near the graph is to the policy."""
    rounded = any(getattr(layer, "rounds", False) for layer in run.algorithm.modules())
    text = f"float32; off by {off:.1e} at most from the policy on made-up observations"
    if not rounded:
        return text
    return (
        f"{text}, which is computed in float32 here: the run rounds products between hidden layers to bfloat16, which "
        "the graph does not, so that its actions differ by that rounding"
    )
