"""Programs: recordings compiled into libraries for the CPU, which are kept for later runs."""

from __future__ import annotations

import hashlib
import operator
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from pgrun.compat.torch import compile_library, load_library
from pgrun.optim.recording import Draw, Like, Recording, Value, mapped
from pgrun.system.artifacts import Artifacts, cache_folder
from pgrun.system.machine import cpu_model


class Program:
    """A recording as a compiled function of its inputs.

    Args:
        recording: it is compiled if no library of it is kept yet.
    """

    def __init__(self, recording: Recording) -> None:
        given = set(recording.places)
        self.results = [value for value in unique(recording.result) if value not in given]
        self.draws = [(draw, like) for _, draw, like in recording.draws]
        self._run = library(recording, self.results)

    def __call__(self, inputs: list[Tensor]) -> list[Tensor]:
        """Run on tensors in the places of the recording's inputs; return those of its results that are no inputs."""
        if self.draws:
            inputs = [*inputs, *(drawn(draw, like) for draw, like in self.draws)]
        return self._run(inputs)


def unique(result: Any) -> list[Value]:
    """List the values in a result, each once."""
    found: dict[Value, None] = {}
    mapped(lambda value: found.setdefault(value), result, Value)
    return list(found)


def drawn(draw: Draw, like: Like) -> Tensor:
    """Make a random draw."""
    result: Tensor = draw.name(*mapped(Like.empty, draw.args, Like), **mapped(Like.empty, draw.kwargs, Like))
    return result


def library(recording: Recording, results: Sequence[Value]) -> Callable[[list[Tensor]], list[Tensor]]:
    """Load the library of a recording; compile it if it isn't kept."""
    key = hashlib.blake2b("\n".join([*this_machine(), recording.text()]).encode(), digest_size=16).hexdigest()

    def make(path: Path) -> None:
        forms = [*(Like.of(x) for x in recording.inputs), *(like for *_, like in recording.draws)]
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on torch's own settings
            compile_library(graph(recording, results), tuple(like.empty().zero_() for like in forms), str(path))

    return load_library(str(libraries().get(key, make)))


def libraries() -> Artifacts:
    """Return the folder of compiled libraries."""
    return Artifacts(cache_folder() / "compiled", ".so")


@cache
def this_machine() -> tuple[str, ...]:
    """List what decides a library beside its recording: torch, processor, threads, compiler."""
    compiler = shutil.which(os.environ.get("CXX", "g++")) or ""
    when = str(os.stat(compiler).st_mtime_ns) if compiler else ""
    return (
        *("1", torch.__version__, cpu_model(), torch.backends.cpu.get_cpu_capability()),
        *(str(torch.get_num_threads()), os.path.realpath(compiler), when),
    )


def graph(recording: Recording, results: Sequence[Value]) -> fx.GraphModule:
    """Write a recording as a graph of torch's operators."""
    made = fx.Graph()
    nodes: dict[Value, Any] = {}
    places = [*recording.places, *(value for value, *_ in recording.draws)]
    for i, value in enumerate(places):
        nodes[value] = made.placeholder(f"input{i}")
    for name, args, kwargs, values in recording.operations:
        node = made.call_function(name, mapped(nodes.get, args, Value), mapped(nodes.get, kwargs, Value))
        if isinstance(values, Value):
            nodes[values] = node
        elif isinstance(values, tuple | list):
            for i, value in enumerate(values):
                if isinstance(value, Value):
                    nodes[value] = made.call_function(operator.getitem, (node, i))
    made.output(tuple(nodes[value] for value in results))
    return fx.GraphModule(torch.nn.Module(), made)
