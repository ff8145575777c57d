"""Export of a run's policy: a graph that needs no pgrun, and a card that says how to call it.

The file is compared with the policy before it is written.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgrun.after.card import card
from pgrun.after.exported_file import card_of, check_path
from pgrun.after.loading import Loaded, loaded
from pgrun.after.policy_graph import Draws, PolicyGraph, traced
from pgrun.data.types import Carry
from pgrun.envs.graph_codecs import Port, codec_of
from pgrun.envs.masks import KEY
from pgrun.errors import UserError
from pgrun.nn.precision import in_full
from pgrun.run.directory import find_checkpoint
from pgrun.system.atomic import replace, told

TOLERANCE = 1e-5
STEPS, COPIES = 6, 5  # of the comparison with the policy
Call = Callable[[Sequence[Tensor]], list[np.ndarray]]  # an exported graph


def export_policy(
    folder: Path,
    path: Path,
    *,
    which: str = "latest",
    stochastic: bool = False,
    force: bool = False,
    trust: bool = False,
) -> dict[str, Any]:
    """Export a run's policy.

    Args:
        folder: the run directory.
        path: the file, FILE.onnx or FILE.pt2; its card is FILE.onnx.json or FILE.pt2.json. Its folder is made.
        which: the checkpoint: `latest`, `best` or a file.
        stochastic: sample actions, from noise that is an input; else take the best.
        force: replace a file that is there.
        trust: use its code although it was not made here.

    Returns:
        The card.

    Raises:
        UserError: the run, the checkpoint or a package is missing, the file can't be written, or the policy can't be
            exported.
    """
    check_path(path, force=force)
    with loaded(folder, which, episodes=1, trust=trust) as run, torch.no_grad():
        make = getattr(run.env, "outside", None)
        if make is None:
            raise UserError(
                f"{type(run.env).__name__} has no method outside(), which a graph needs: see docs/your-own.md"
            )
        torch.set_float32_matmul_precision("highest")
        outside = make()
        name = f"algo={run.names['algo']} can't be exported{' with --stochastic' if stochastic else ''}"
        try:
            codec = codec_of(outside, run.env.obs_space)
            graph = PolicyGraph(run.algorithm, codec, rows=outside.rows, explore=stochastic)
            with quiet():
                program = traced(graph)
                data, call = (onnx_file if path.suffix == ".onnx" else torch_file)(program, graph)
            off = compare(call, graph, run, outside)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        content = card(folder, path, run, graph, find_checkpoint(folder, which), stochastic=stochastic, off=off)
    with told("can't write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data)
        replace(card_of(path), (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return content


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch's exporters say about themselves from the user."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def torch_file(program: Any, graph: PolicyGraph) -> tuple[bytes, Call]:
    """Return a .pt2 file's bytes, and what they compute."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    module = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return buffer.getvalue(), lambda inputs: [x.numpy() for x in module(*inputs)]


def onnx_file(program: Any, graph: PolicyGraph) -> tuple[bytes, Call]:
    """Return an .onnx file's bytes, and what ONNX Runtime computes of them.

    Raises:
        UserError: the policy does something that ONNX, or ONNX Runtime, has no operator for.
    """
    import onnxruntime

    inputs, outputs = ([port.name for port in ports] for ports in (graph.inputs, graph.outputs))
    try:
        exported: Any = torch.onnx.export(
            program, (), input_names=inputs, output_names=outputs, dynamo=True, verbose=False, external_data=False
        )
        model = exported.model_proto
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        data = model.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever the exporter or the runtime raises
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"ONNX can't express it: {line[:200]}; try a .pt2 file") from error
    taken = {value.name for value in session.get_inputs()}  # one that nothing depends on may be left out

    def call(tensors: Sequence[Tensor]) -> list[np.ndarray]:
        feed = {name: x.numpy() for name, x in zip(inputs, tensors, strict=True) if name in taken}
        return session.run(outputs, feed)

    return data, call


def compare(call: Call, graph: PolicyGraph, run: Loaded, outside: Any) -> float:
    """Compare a graph with the policy over some steps, with its state carried.

    Returns:
        The largest difference of a number.

    Raises:
        UserError: they differ.
    """
    rng = np.random.default_rng(0)
    carry: Carry = run.algorithm.initial_carry(COPIES * graph.rows)
    state = list(graph.example(COPIES)[len(graph.inputs) - len(graph.kept) :])
    worst, wrong, choices = 0.0, 0, 0
    for _ in range(STEPS):
        obs = [made_up(port, rng) for port in graph.codec.inputs]
        noise = [made_up(port, rng) for port in graph.inputs[len(obs) : len(obs) + len(graph.noise)]]
        got = call([*obs, *noise, *state])
        rows = [graph.merge(x).movedim(0, draw.axis) for x, draw in zip(noise, graph.noise, strict=True)]
        with in_full(run.algorithm), Draws(rows):
            due, carry = answer(graph, run, outside, obs, carry)
        for x, y in zip(got, due, strict=True):
            if np.issubdtype(y.dtype, np.floating):
                error = np.abs(x.astype(np.float64) - y) / np.maximum(1.0, np.abs(y.astype(np.float64)))
                worst = max(worst, float(error.max(initial=0.0)))
            else:
                wrong, choices = wrong + int((x != y).sum()), choices + y.size
        state = [torch.from_numpy(np.array(x)) for x in got[len(graph.codec.outputs) :]]
    if not worst <= TOLERANCE or wrong > 0.1 * choices:  # choices may differ where two are equally good
        raise UserError(f"the graph does not compute what the policy does (off by {worst:.2g}, {wrong} choices differ)")
    return worst


def answer(
    graph: PolicyGraph, run: Loaded, outside: Any, obs: Sequence[Tensor], carry: Carry
) -> tuple[list[np.ndarray], Carry]:
    """Ask the policy itself, by the way that arrays go: its actions and its next state, as the graph returns them."""
    named = {port.name: x.numpy() for port, x in zip(graph.codec.inputs, obs, strict=True)}
    mask = named.pop(KEY, None)
    seen = nested(named)["obs"]
    if mask is not None and outside.inside:
        seen, mask = {**seen, KEY: mask}, None
    question = outside.ask(seen, mask)
    action, carry, _ = run.algorithm.act(question.obs, carry, graph.explore)
    own = outside.answer(action, question)
    actions = list(own.values()) if isinstance(own, dict) else [own]
    kept = [carry[i] if graph.rows == 1 else carry[i].unflatten(0, (-1, graph.rows)) for i in graph.kept]
    return [np.asarray(x) for x in (*actions, *kept)], carry


def nested(named: dict[str, np.ndarray]) -> dict[str, Any]:
    """Turn dotted names into dicts of dicts."""
    found: dict[str, Any] = {}
    for name, x in named.items():
        *path, last = name.split(".")
        at = found
        for key in path:
            at = at.setdefault(key, {})
        at[last] = x
    return found


def made_up(port: Port, rng: np.random.Generator) -> Tensor:
    """Make up values of an input for some copies, within its bounds."""
    shape = (COPIES, *port.shape)
    if port.name == KEY:
        mask = rng.random(shape) < 0.7
        mask[:, 0] = True
        return torch.from_numpy(mask).to(port.dtype)
    if port.meaning.startswith("noise"):
        kind = port.meaning.partition(", ")[2]
        draw: dict[str, Any] = {"standard normal": rng.standard_normal, "uniform on [0, 1)": rng.random}
        return torch.from_numpy(draw.get(kind, rng.standard_exponential)(shape)).to(port.dtype)
    if port.low is None:
        assert port.space is not None
        return torch.from_numpy(np.stack([np.asarray(port.space.sample()) for _ in range(COPIES)])).to(port.dtype)
    low, high = np.maximum(port.low, -10.0 if port.low.dtype.kind == "f" else port.low), np.minimum(port.high, 10.0)
    if port.low.dtype.kind != "f":
        return torch.from_numpy(rng.integers(port.low, port.high, shape, endpoint=True)).to(port.dtype)
    return torch.from_numpy(low + (high - low) * rng.random(shape)).to(port.dtype)
