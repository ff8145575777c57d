"""Programs: recordings compiled into libraries for the CPU, which are kept for later runs."""

from __future__ import annotations

import hashlib
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
from pgrun.optim.draws import drawer, repeated
from pgrun.optim.graphs import graph, looped
from pgrun.optim.products import quicken
from pgrun.optim.recording import Like, Recording, Value, mapped
from pgrun.system.artifacts import Artifacts, libraries_folder
from pgrun.system.machine import cpu_model


class Program:
    """A recording as a compiled function of its inputs.

    Args:
        recording: it is compiled if no library of it is kept yet.
        rows: the inputs of which each call of a loop has another row; without a loop there are none.
        n: calls in the loop; 0: one, without a loop.
    """

    def __init__(self, recording: Recording, rows: Sequence[Value] = (), n: int = 0) -> None:
        given = set(recording.places)
        self.results = [value for value in unique(recording.result) if value not in given]
        draws = [(draw, like) for _, draw, like in recording.draws]
        self.draw = (repeated(draws, n) if n else drawer(draws)) if draws else None
        forms = {value: Like.of(x) for value, x in zip(recording.places, recording.inputs, strict=True)}
        if n:
            forms |= {value: forms[value].repeated(n) for value in rows}
            made = looped(recording, self.results, rows, n)
        else:
            made = graph(recording, self.results)
        text = f"{n} calls, rows {sorted(rows)}\n{recording.text()}"
        drawn = [like.repeated(n) if n else like for *_, like in recording.draws]
        self._run = library(text, made, [*forms.values(), *drawn])

    def __call__(self, inputs: list[Tensor]) -> list[Tensor]:
        """Run on tensors in the places of the recording's inputs; return those of its results that are no inputs."""
        if self.draw is not None:
            inputs = [*inputs, *self.draw()]
        return self._run(inputs)[: len(self.results)]


def unique(result: Any) -> list[Value]:
    """List the values in a result, each once."""
    found: dict[Value, None] = {}
    mapped(lambda value: found.setdefault(value), result, Value)
    return list(found)


def library(text: str, made: fx.GraphModule, forms: Sequence[Like]) -> Callable[[list[Tensor]], list[Tensor]]:
    """Load the library of a graph; compile it if it isn't kept.

    Args:
        text: all that decides the graph.
        made: the graph.
        forms: of its inputs.
    """
    decides = "\n".join([*this_machine(), f"{torch.get_num_threads()} threads", text])
    key = hashlib.blake2b(decides.encode(), digest_size=16).hexdigest()

    def make(path: Path) -> None:
        quicken(made)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on torch's own settings
            compile_library(made, tuple(like.empty().zero_() for like in forms), str(path))

    return load_library(str(libraries().get(key, make)))


def libraries() -> Artifacts:
    """Return the folder of compiled libraries."""
    return Artifacts(libraries_folder(), ".so")


@cache
def this_machine() -> tuple[str, ...]:
    """List what decides a library beside its recording and torch's threads: torch, processor, compiler."""
    compiler = shutil.which(os.environ.get("CXX", "g++")) or ""
    when = str(os.stat(compiler).st_mtime_ns) if compiler else ""
    return (
        *("5", torch.__version__, cpu_model(), torch.backends.cpu.get_cpu_capability()),
        *(os.path.realpath(compiler), when),
    )
