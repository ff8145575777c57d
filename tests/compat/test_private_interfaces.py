"""The private interfaces that pgrun uses are as it takes them to be: a new version that changes one is noticed here."""

from __future__ import annotations

import inspect
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from pgrun.compat import hydra as inside
from pgrun.compat.loky import BrokenProcessPool, ProcessPoolExecutor, process_numbers
from pgrun.compat.processes import kill_at_exit
from pgrun.compat.tensorboard import add_summary, put_before
from pgrun.compat.torch import (
    BatchNorm,
    Dropout,
    InstanceNorm,
    StorageRef,
    backward,
    compiler_cache,
    compiles_loops,
    fused_adam,
    fused_adamw,
    memory_of,
    of_numbers,
    renamed_code,
    tree_flatten,
    tree_unflatten,
)


def names(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_hydra_is_started_with_these_arguments() -> None:
    wanted = ["args", "args_parser", "task_function", "config_path", "config_name", "caller_stack_depth"]
    assert names(inside.run_hydra) == wanted
    parsed = inside.get_args_parser().parse_args(["a=1", "--config-dir", "x"])
    assert (parsed.overrides, parsed.config_dir, parsed.config_name) == (["a=1"], "x", None)
    assert parsed.experimental_rerun is None


def test_hydra_composes_jobs_with_these_methods() -> None:
    assert names(inside.ConfigLoaderImpl.load_sweep_config) == ["self", "master_config", "sweep_overrides"]
    assert names(inside.ConfigLoaderImpl._apply_overrides_to_config) == ["overrides", "cfg"]
    assert names(inside.get_overrides_dirname) == ["overrides", "exclude_keys", "item_sep", "kv_sep"]


def test_hydras_grid_sweeper_has_these_fields() -> None:
    fields = {"overrides", "batch_index", "max_batch_size", "params", "hydra_context", "config", "launcher"}
    sweeper = sys.modules[inside.BasicSweeper.__module__].BasicSweeper  # a search for plugins imports its module again
    assert fields <= vars(sweeper(max_batch_size=None)).keys()
    assert names(inside.BasicSweeper.validate_batch_is_legal)[0] == "self"


@pytest.mark.parametrize(("kernel", "decay"), [(fused_adam, 0.0), (fused_adamw, 0.1)])
def test_the_fused_kernels_make_adams_step(kernel: Any, decay: float) -> None:
    theta, g = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    want = theta * (1.0 - 0.01 * decay) - 0.01 * g / (g.abs() + 1e-8)  # the first step: m̂ = g, v̂ = g²
    m, v, t = torch.zeros(2), torch.zeros(2), torch.ones(())
    kernel(
        *([theta], [g], [m], [v], [], [t]),
        **{"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "weight_decay": decay, "eps": 1e-8},
        **{"amsgrad": False, "maximize": False},
    )
    torch.testing.assert_close(theta, want)


def test_backward_adds_the_gradient_to_the_parameters_asked_for_alone():
    a, b, unused = (torch.tensor([x, 2.0], requires_grad=True) for x in (1.0, 3.0, 5.0))
    for x in (a, unused):
        x.grad = torch.ones(2)
    backward((a.square() * b).sum(), [a, unused])
    assert b.grad is None
    assert [x.grad.tolist() for x in (a, unused)] == [[7.0, 9.0], [1.0, 1.0]]  # 1 + 2ab


def test_backward_takes_one_number_with_a_gradient_alone() -> None:
    a = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="shape"):
        backward(a * 2.0, [a])
    with pytest.raises(RuntimeError, match="does not require grad"):
        backward(torch.zeros(()), [a])


def test_trees_of_tensors_come_apart_and_together() -> None:
    tree = {"a": [torch.zeros(1), (torch.ones(2), None)]}
    leaves, spec = tree_flatten(tree)
    assert [x if x is None else len(x) for x in leaves] == [1, 2, None]
    assert tree_unflatten(leaves, spec)["a"][1][1] is None


def test_bases_of_layers_are_those_of_torchs_layers() -> None:
    assert issubclass(torch.nn.BatchNorm2d, BatchNorm)
    assert issubclass(torch.nn.Dropout1d, Dropout)
    assert issubclass(torch.nn.InstanceNorm1d, InstanceNorm)


def test_the_compilers_cache_has_a_place() -> None:
    assert Path(compiler_cache()).is_absolute()


def test_the_compiler_takes_code_of_another_name_for_other_code() -> None:
    from torch._dynamo.pgo import CodeId

    def plus(n: int) -> Any:
        def add(x: int) -> int:
            return x + n

        return add

    one, two = plus(1), plus(2)
    assert one.__code__ is two.__code__
    renamed = renamed_code(two, "add_2")
    assert CodeId.make(renamed.__code__) != CodeId.make(one.__code__)
    assert (renamed(3), two(3), two.__code__.co_name) == (5, 5, "add")


def _end() -> None:
    import os

    os._exit(9)


def test_lokys_executors_name_their_processes_and_say_when_one_dies() -> None:
    executor = ProcessPoolExecutor(max_workers=1)
    try:
        assert executor.submit(len, "abc").result() == 3
        (number,) = process_numbers(executor)
        assert number > 0
        with pytest.raises(BrokenProcessPool):
            executor.submit(_end).result()
    finally:
        executor.shutdown(wait=False, kill_workers=True)


def test_a_daemon_is_killed_at_exit_and_not_asked() -> None:
    process = multiprocessing.get_context("fork").Process(target=_sleep, daemon=True)
    process.start()
    kill_at_exit(process)
    process._popen.terminate()  # type: ignore[attr-defined]  # as multiprocessing does at the parent's end
    process.join(5.0)
    assert process.exitcode == -9


def _sleep() -> None:
    import signal
    import time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60.0)


def test_a_summary_comes_into_the_event_file(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    for summary in hparams({"lr": 0.1}, {"x": 0.0}):
        add_summary(writer, summary)
    writer.close()
    (events,) = tmp_path.glob("events.*")
    assert b"_hparams_" in events.read_bytes()


def test_rays_inside_has_what_is_set_and_called() -> None:
    worker = pytest.importorskip("ray")._private.worker
    assert isinstance(worker._worker_logs_enabled, bool)
    from ray._private.authentication.authentication_token_setup import _enable_token_auth
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError

    assert issubclass(AuthenticationError, Exception)
    assert names(_enable_token_auth) == []
    assert callable(GcsClient)


@pytest.mark.parametrize("ahead", [0, 3600])
def test_event_files_of_a_clock_that_was_ahead_come_first(ahead: int, tmp_path: Path) -> None:
    now = 1_700_000_000.5
    assert not put_before(tmp_path, now)
    older = [f"events.out.tfevents.{int(now) - 9}.host.1.0", f"events.out.tfevents.{int(now) + ahead}.host.1.9"]
    for name in older:
        (tmp_path / name).write_text(name)
    assert put_before(tmp_path, now)
    (tmp_path / f"events.out.tfevents.{int(now)}.host.1.10").write_text("now")
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == [*older, "now"]


def test_event_files_in_order_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1699999999.host.1.0").touch()
    assert put_before(tmp_path, 1_700_000_000.0)
    assert [path.name for path in tmp_path.iterdir()] == ["events.out.tfevents.1699999999.host.1.0"]


def test_an_event_file_s_name_begins_with_its_second(tmp_path: Path) -> None:
    SummaryWriter(str(tmp_path)).close()
    (path,) = tmp_path.iterdir()
    assert re.fullmatch(r"events\.out\.tfevents\.\d{10}\..*", path.name)


DISPATCHED = """
import sys, torch
from pgrun.compat.torch import DispatchMode, flops_of
class Mode(DispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        found.append(flops_of(func, args, kwargs or {}, result))
        return result
found = []
with Mode():
    (torch.ones(2, 3) @ torch.ones(3, 5)).tanh()
print([n for n in found if n is not None], "torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_products_are_counted_as_they_are_dispatched_without_the_compiler() -> None:
    said = subprocess.run([sys.executable, "-c", DISPATCHED], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["[60]", "False"]


def test_torchs_loops_may_write_to_tensors() -> None:
    """Else each compiled step is a program of its own, which takes longer."""
    assert compiles_loops()


def test_memory_has_a_number_that_views_share_and_that_is_not_given_again_while_a_reference_is_left() -> None:
    x = torch.zeros(4)
    assert memory_of(x[1:]) == memory_of(x.detach().view(2, 2)) == memory_of(x) != memory_of(x.clone())
    number, left = memory_of(x), StorageRef(x.untyped_storage())
    del x
    assert left.expired()
    assert all(memory_of(torch.zeros(4)) != number for _ in range(20))


def test_operators_say_whether_they_read_numbers() -> None:
    aten, x, mask = torch.ops.aten, torch.zeros(3), torch.ones(3, dtype=torch.bool)
    assert of_numbers(aten._local_scalar_dense.default, (x,))
    assert of_numbers(aten.nonzero.default, (x,))
    assert of_numbers(aten.index.Tensor, (x, [mask]))
    assert of_numbers(aten.index_put_.default, (x, [mask], x))
    assert not of_numbers(aten.index.Tensor, (x, [None, torch.tensor([0])]))
    assert not of_numbers(aten.add.Tensor, (x, x))
