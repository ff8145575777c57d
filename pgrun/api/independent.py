"""Calls from Python leave the process as they found it."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from pgrun.compat.hydra import hydra_kept
from pgrun.run.console import remarks_by
from pgrun.trust.finder import kept

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("pgrun")
ONE_AT_A_TIME = threading.RLock()  # two calls would draw from the same generators, and compose with the same Hydra


def independent(call: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that leaves the process as it found it; of several threads' calls, one runs at a time."""

    @wraps(call)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with ONE_AT_A_TIME, undisturbed(), torch_kept():
            return call(*args, **kwargs)

    return alone


@contextmanager
def undisturbed_alone() -> Iterator[None]:
    """Keep other calls out of the block, and leave the process after it as it was; torch isn't touched in it."""
    with ONE_AT_A_TIME, undisturbed():
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore after the block what it may change in this process.

    These are: sys.argv, sys.path, environment variables, the working directory, warnings' filters, whether garbage is
    collected, Hydra and OmegaConf's resolvers. What pgrun would say on stderr becomes a warning of the logger `pgrun`.
    """
    argv, path, words, places = sys.argv, sys.path, list(sys.argv), list(sys.path)
    environ, folder, collects = dict(os.environ), os.getcwd(), gc.isenabled()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(hydra_kept())
        stack.enter_context(kept())
        stack.enter_context(remarks_by(remarked, unless_said=True))
        try:
            yield
        finally:
            sys.argv, sys.path = argv, path
            argv[:], path[:] = words, places
            (gc.enable if collects else gc.disable)()
            restore_environment(environ)
            if os.getcwd() != folder:
                os.chdir(folder)


@contextmanager
def torch_kept() -> Iterator[None]:
    """Restore torch's settings and the generators of random, NumPy and torch after the block.

    The settings are threads, precision, determinism, default type and whether gradients are computed.
    """
    import torch

    from pgrun.system.randomness import generators_kept

    threads, precision, dtype = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    grad = torch.is_grad_enabled()
    try:
        with generators_kept(), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.set_grad_enabled(grad)


def restore_environment(before: dict[str, str]) -> None:
    """Put the environment variables back that have changed."""
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def remarked(line: str) -> None:
    """Log what a command would say on stderr."""
    log.warning("%s", line.removeprefix("pgrun: "))
