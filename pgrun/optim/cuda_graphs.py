"""CUDA graphs: operations that are captured once and then launched together."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Graphs(Protocol):
    """Makes graphs of operations on one device.

    A graph's operations use the addresses that they had when it was captured, and run no Python.
    """

    device: torch.device
    busy: bool  # a function is being rehearsed or captured: what it calls makes no graphs of its own
    rehearsing: bool  # it is rehearsed: its operations must be torch's own, which a rehearsal sees

    def aside(self) -> Any:
        """Return a context for what runs before a capture: on a stream of its own, ordered with the current one."""

    def capture(
        self, function: Callable[[], Any], generators: Sequence[torch.Generator]
    ) -> tuple[Callable[[], None], Any]:
        """Capture a function's operations; nothing is computed and nothing is drawn.

        Args:
            function: it must have run before.
            generators: those that it draws from. A replay draws on from where they stand, as the function would.

        Returns:
            What replays the operations, and what the function returned: tensors that each replay writes anew.

        Raises:
            CaptureFailed: an operation can't be captured.
        """


class CaptureFailed(Exception):
    """Raised for operations that can't be captured, with the device's reason."""


class CudaGraphs:
    """CUDA graphs on one GPU, which share one pool of memory.

    That is safe because they are replayed one after the other on one stream, and nothing in the pool is used after the
    replay that wrote it: arguments lie outside, and results are copied (see `Captured`).
    """

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cuda", index)
        self.busy = self.rehearsing = False
        self.pool: Any = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Run the block on another stream; see `Graphs.aside`."""
        with torch.cuda.device(self.device):
            here, other = torch.cuda.current_stream(), torch.cuda.Stream()
            other.wait_stream(here)
            try:
                with torch.cuda.stream(other):
                    yield
            finally:
                here.wait_stream(other)

    def capture(
        self, function: Callable[[], Any], generators: Sequence[torch.Generator]
    ) -> tuple[Callable[[], None], Any]:
        """Capture a function's operations; see `Graphs.capture`."""
        graph = torch.cuda.CUDAGraph()
        known = {id(torch.cuda.default_generators[self.device.index])}  # a capture registers it itself
        for generator in generators:
            if id(generator) not in known:
                graph.register_generator_state(generator)
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        gc.collect()  # tensors that are freed during a capture would end it
        try:
            # other threads, such as one that copies or waits, may go on meanwhile
            with (
                torch.cuda.device(self.device),
                torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"),
            ):
                result = function()
        except RuntimeError as error:
            raise CaptureFailed(str(error).strip().splitlines()[0]) from error
        return graph.replay, result
