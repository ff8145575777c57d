"""torch's inside: fused Adam, the engine of gradients, trees of tensors, what is dispatched, compiled code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from inspect import signature
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef as StorageRef
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.dropout import _DropoutNd as Dropout
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import flop_registry

fused_adam = torch._fused_adam_
fused_adamw = torch._fused_adamw_

__all__ = [
    "BatchNorm",
    "DispatchMode",
    "Dropout",
    "InstanceNorm",
    "StorageRef",
    "backward",
    "compile_library",
    "compiler_cache",
    "compiles_loops",
    "flops_of",
    "fused_adam",
    "fused_adamw",
    "load_library",
    "memory_of",
    "of_numbers",
    "random_operation",
    "renamed_code",
    "tree_flatten",
    "tree_unflatten",
    "while_loop",
    "written_arguments",
]


class DispatchMode(TorchDispatchMode):
    """A mode that sees every operation on tensors in its block, and doesn't import torch's compiler for it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def random_operation(name: Any) -> bool:
    """Tell whether an operator draws from a generator."""
    return torch.Tag.nondeterministic_seeded in name.tags


def of_numbers(name: Any, args: tuple[Any, ...]) -> bool:
    """Tell whether an operator reads numbers out of its tensors on the host, to return them or to size its result.

    Args:
        name: torch's operator.
        args: its arguments.
    """
    if torch.Tag.data_dependent_output in name.tags:
        return True
    if name._schema.name in ("aten::index", "aten::index_put", "aten::index_put_"):  # by a mask, or by places
        return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])
    return torch.Tag.dynamic_output_shape in name.tags


def memory_of(x: Tensor) -> int:
    """Return the number of a tensor's memory: another memory has it only when nothing refers to this one."""
    return int(x.untyped_storage()._cdata)


def written_arguments(name: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """List the tensors among an operator's arguments that it writes to."""
    found: list[Tensor] = []
    if name._schema.is_mutable:
        for i, argument in enumerate(name._schema.arguments):
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            if argument.alias_info is not None and argument.alias_info.is_write and value is not None:
                found += value if isinstance(value, list | tuple) else [value]
    return found


def compile_library(graph: torch.fx.GraphModule, inputs: tuple[Tensor, ...], path: str) -> None:
    """Compile a graph of operators into a shared library for the CPU; it may write to its inputs.

    Args:
        graph: placeholders for the inputs, operators, and a tuple of outputs.
        inputs: tensors of the inputs' forms.
        path: of the library; it ends in .so.
    """
    from torch._inductor import aot_compile
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv())  # loops need one of shapes
    fake = tuple(mode.from_tensor(x, static_shapes=True) for x in inputs)
    # tanh by exp, to 1e-7: torch's own takes half of a small network's time
    options = {"aot_inductor.output_path": path, "size_asserts": False, "cpp.use_decompose_tanh": True}
    aot_compile(graph, fake, options=options)


@cache
def compiles_loops() -> bool:
    """Tell whether this version of torch can compile a loop whose body writes to tensors."""
    return "mutated_arg_indices" in signature(type(torch.ops.higher_order.while_loop).__call__).parameters


def while_loop(
    graph: torch.fx.Graph, go_on: str, body: str, carried: torch.fx.Node, more: Any, written: Sequence[int]
) -> torch.fx.Node:
    """Add a loop to a graph: `body` maps a carried value and `more` to the next carried one while `go_on` is true.

    Args:
        graph: of a module that has the graphs of both under these names.
        go_on: returns a 0-dim bool.
        body: returns a tuple of one.
        carried: node of a tensor that isn't written to.
        more: nodes of tensors.
        written: the places in `more` of those that `body` writes to.
    """
    functions = graph.get_attr(go_on), graph.get_attr(body)
    places = ",".join(str(1 + i) for i in written)
    args = (*functions, (carried,), tuple(more))
    return graph.call_function(torch.ops.higher_order.while_loop, args, {"mutated_arg_indices": places})


def load_library(path: str) -> Callable[[list[Tensor]], list[Tensor]]:
    """Load what `compile_library` made: a function of a list of inputs. This doesn't import the compiler."""
    run: Callable[[list[Tensor]], list[Tensor]] = torch._C._aoti.AOTIModelContainerRunnerCpu(path, 1).run
    return run


def backward(loss: Tensor, parameters: Sequence[Tensor]) -> None:
    """Add a 0-dim loss's gradient to these parameters' `.grad`, as `loss.backward(inputs=parameters)` does.

    On a CPU it calls the engine itself: what `Tensor.backward` does around that takes as long as ten small kernels.
    """
    if not loss.is_cpu:
        loss.backward(inputs=parameters)
        return
    engine: Any = torch.autograd.Variable._execution_engine
    # of one loss, with gradient 1: keep no graph, create none, pass by what the loss doesn't reach, add to .grad
    engine.run_backward((loss,), (loss.new_ones(()),), False, False, tuple(parameters), True, True)


def compiler_cache() -> str:
    """Name the folder in which torch's compiler keeps what it compiled."""
    from torch._inductor.runtime.runtime_utils import cache_dir

    return str(cache_dir())


def flops_of(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """Count the multiplications and additions of a dispatched matrix product or convolution; None of anything else.

    Args:
        operation: what a DispatchMode is given.
        args: its arguments.
        kwargs: its arguments by name.
        result: its result.
    """
    count = flop_registry.get(operation._overloadpacket)
    return None if count is None else int(count(*args, **kwargs, out_val=result))


def renamed_code(function: Callable[..., Any], name: str) -> FunctionType:
    """Copy a function under another code name, so that torch's compiler counts it separately.

    The compiler knows code by its file, line and name. Two functions that one `def` made are the same code to it: it
    counts the compilations of both together, and gives a size that differs between them no fixed value.
    """
    code = function.__code__.replace(co_name=name)
    return FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
