"""The operations and kernels of some iterations, as torch's profiler sees them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")
WORDS = {
    "addmm": "matrix product with bias",
    "mm": "matrix product",
    "bmm": "batched matrix product",
    "baddbmm": "batched matrix product with bias",
    "linear": "linear layer",
    "matmul": "matrix product",
    "copy_": "copying",
    "clone": "copying",
    "_to_copy": "changing type or device",
    "to": "changing type or device",
    "cat": "joining tensors",
    "stack": "stacking tensors",
    "index": "picking rows",
    "index_select": "picking rows",
    "gather": "picking entries",
    "mul": "multiplying",
    "mul_": "multiplying",
    "add": "adding",
    "add_": "adding",
    "sub": "subtracting",
    "div": "dividing",
    "sum": "sums",
    "mean": "means",
    "tanh": "tanh",
    "tanh_backward": "gradient of tanh",
    "relu": "relu",
    "threshold_backward": "gradient of relu",
    "zero_": "filling with zeros",
    "fill_": "filling",
    "where": "choosing by a condition",
    "_log_softmax": "log-softmax",
    "exp": "exponentials",
    "pow": "powers",
    "_fused_adam_": "Adam's update",
    "_fused_adamw_": "AdamW's update",
    "lerp_": "averaging",
    "linalg_vector_norm": "norms",
    "randperm": "random orders",
    "normal_": "normal noise",
    "uniform_": "uniform noise",
    "multinomial": "drawing choices",
    "_local_scalar_dense": "reading a number (waits for a GPU)",
    "empty": "memory for tensors",
    "empty_strided": "memory for tensors",
    "as_strided": "views",
    "view": "views",
    "t": "views",
    "transpose": "views",
    "detach": "views",
    "slice": "views",
    "select": "views",
    "unsqueeze": "views",
    "convolution": "convolution",
    "convolution_backward": "gradient of a convolution",
}


@dataclass(frozen=True)
class Operation:
    """An operation of torch's, over the iterations that were watched."""

    name: str
    words: str
    calls: float  # an iteration
    seconds: float  # an iteration, without the operations that it calls


@dataclass(frozen=True)
class Traced:
    """The operations of some iterations. Watching them takes time itself, so shares count, and not seconds."""

    iterations: int
    seconds: float  # an iteration, while it was watched
    operations: list[Operation]  # those that take longest
    launches: float | None  # kernels that an iteration launches on the GPU; None: it learns on the CPU
    kernel_seconds: float | None  # of an iteration on the GPU


class Trace:
    """Watches iterations of the loop by torch's profiler.

    Args:
        device: where the run learns.
    """

    def __init__(self, device: torch.device) -> None:
        self.gpu = device.type == "cuda"
        self.profiler: Any = profile(
            activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.gpu else [])], acc_events=True
        )
        self.begun = 0.0
        self.seconds = 0.0

    def begin(self) -> None:
        """Begin to watch."""
        with without_stderr():
            self.profiler.start()
        self.begun = time.perf_counter()

    def end(self) -> None:
        """Watch no more."""
        if self.gpu:
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.begun
        with without_stderr():
            self.profiler.stop()

    def result(self, iterations: int, most: int = 15) -> Traced:
        """Sum up what was seen.

        Args:
            iterations: how many were watched.
            most: operations that are kept.
        """
        table = self.profiler.key_averages()
        kernels = [event for event in table if event.device_type == torch.autograd.DeviceType.CUDA]
        operations = [event for event in table if event.device_type != torch.autograd.DeviceType.CUDA]
        of_gpu = "self_device_time_total" if self.gpu else "self_cpu_time_total"
        rows = [(float(getattr(event, of_gpu)), event) for event in operations if "::" in event.key]
        rows.sort(key=lambda row: -row[0])
        found = [
            Operation(event.key, words_of(event.key), event.count / iterations, micro / 1e6 / iterations)
            for micro, event in rows[:most]
        ]
        launches = sum(event.count for event in operations if event.key in LAUNCHES) / iterations
        seconds = sum(event.self_device_time_total for event in kernels) / 1e6 / iterations
        return Traced(
            iterations,
            self.seconds / iterations,
            found,
            launches if self.gpu else None,
            seconds if self.gpu else None,
        )


@contextmanager
def without_stderr() -> Iterator[None]:
    """Drop what is written to the process's stderr in the block: the profiler's C++ code says there that it runs."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def words_of(name: str) -> str:
    """Say in plain words what an operation does; "" where that is not known."""
    return WORDS.get(name.rpartition("::")[2], "")
