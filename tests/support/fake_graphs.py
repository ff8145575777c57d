"""Graphs without a GPU: operations that are replayed into the memory that they had when they were captured."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from running import parts

from pgrun.compat.torch import memory_of
from pgrun.errors import CantRecord
from pgrun.optim.cuda_graphs import CaptureFailed
from pgrun.optim.recording import tensors
from pgrun.optim.rehearsal import Rehearsal
from pgrun.run.build import Parts


class FakeGraphs:
    """Has a CUDA graph's semantics on the CPU: fixed addresses, no Python in a replay, a capture computes nothing."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.busy = self.rehearsing = False
        self.captured = self.replays = 0
        self.aside = nullcontext

    def capture(
        self, function: Callable[[], Any], generators: Sequence[torch.Generator]
    ) -> tuple[Callable[[], None], Any]:
        tape = Tape(self.device, generators)
        try:
            with tape:
                result = function()
        except CantRecord as why:  # what a rehearsal didn't see
            raise CaptureFailed(f"operation not permitted when stream is capturing ({why})") from why
        finally:
            tape.undo()
        tape.poison()
        self.captured += 1

        @torch.no_grad()
        def replay() -> None:
            self.replays += 1
            tape.replay()

        return replay, result


class Tape(Rehearsal):
    """The operations of a capture, with the very tensors that they used."""

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]) -> None:
        super().__init__(device)
        self.registered = [torch.default_generator, *generators]
        self.operations: list[tuple[Any, ...]] = []

    def __torch_dispatch__(
        self, name: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_dispatch__(name, types, args, kwargs)
        self.operations.append((name, args, kwargs or {}, result))
        return result

    def keep(self, generator: torch.Generator) -> None:
        assert any(generator is known for known in self.registered), "drawn from, and not registered"
        super().keep(generator)

    def results(self) -> list[torch.Tensor]:
        """The memory that operations allocated, but for constants and views that repeat their numbers."""
        made = [(name, x) for name, *_, result in self.operations for x in tensors(result) if memory_of(x) in self.made]
        return [x for name, x in made if "lift_fresh" not in name.__name__ and 0 not in x.stride()]

    @torch.no_grad()
    def poison(self) -> None:
        """Nothing was computed: what lies in the graph's memory is no result."""
        for x in self.results():
            x.detach().fill_(float("nan") if x.is_floating_point() else 1)

    def replay(self) -> None:
        for name, args, kwargs, result in self.operations:
            for old, new in zip(tensors(result), tensors(name(*args, **kwargs)), strict=True):
                if memory_of(old) != memory_of(new):
                    old.copy_(new)


def captured_parts(*overrides: str) -> tuple[Parts, FakeGraphs]:
    """The parts of a run whose work is captured, and what captures it."""
    made, graphs = parts("device=cpu", *overrides), FakeGraphs()
    made.capture(graphs, acts=True)
    return made, graphs
