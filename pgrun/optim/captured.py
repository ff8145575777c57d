"""Captured functions: their operations are launched together, as one CUDA graph."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pgrun.compat.torch import memory_of
from pgrun.errors import CantRecord
from pgrun.optim.compiled import FORMS, MOST, Slot, form_of, maker, same
from pgrun.optim.cuda_graphs import CaptureFailed, Graphs
from pgrun.optim.recording import mapped
from pgrun.optim.rehearsal import Rehearsal
from pgrun.optim.surroundings import Place, Surroundings, values

TRIES = 3  # calls that may set attributes, as first calls do, before a function counts as one that always does


class Captured:
    """A function that is captured as a CUDA graph at its first call, and replayed from then on.

    It may write to tensors, take gradients and draw random numbers: a replay does what the call would do, to rounding,
    with the same draws. What it returns is the caller's own: no later replay writes to it. Arguments of another form,
    and numbers that change in what it reads, are captured anew. While an outer function is captured, it is a part of
    that one. `seconds` is the time that capturing has taken.

    Args:
        function: of tensors, in tuples, lists and dicts. Those that it doesn't write to may come from another device.
        graphs: makes the graphs.
        roots: the objects whose attributes it reads, beside its arguments.
        passed: types whose objects hold nothing that it reads.
        warm: run it once more before it is captured: compiled code in it must be made first.

    Raises:
        CantRecord: what the function does depends on numbers in a tensor, on numbers or sizes that keep changing, or it
            keeps track of its calls. It was not called then, and nothing was changed.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        graphs: Graphs,
        roots: Sequence[Any] = (),
        passed: tuple[type, ...] = (),
        warm: bool = False,
    ) -> None:
        self.function, self.graphs, self.roots, self.warm = function, graphs, roots, warm
        self.passed = (*passed, Captured, type(graphs))
        self.plans: dict[Any, list[CapturedPlan]] = {}
        self.tries = 0
        self.seconds = 0.0

    def __call__(self, *args: Any) -> Any:
        """Replay the call's graph; capture it first if this is the first call of its form."""
        if self.graphs.busy:
            return self.function(*args)
        leaves: list[Tensor] = []
        form = form_of(args, leaves), tuple(same(leaves)), torch.is_grad_enabled()
        if form not in self.plans and len(self.plans) == FORMS:
            raise CantRecord("the sizes of what it is given keep changing")
        plan = next((plan for plan in self.plans.get(form, ()) if plan.holds()), None)
        if plan is None:
            begin = time.perf_counter()
            plan = self.plan(args, leaves)
            self.seconds += time.perf_counter() - begin
            if plan is None:
                return self.function(*mapped(lambda x: x.to(self.graphs.device), args, Tensor))
            self.plans.setdefault(form, []).append(plan)
        return plan(leaves)

    def plan(self, args: tuple[Any, ...], leaves: list[Tensor]) -> CapturedPlan | None:
        """Rehearse the function and capture it; None where that set attributes, so that it has to run first."""
        if sum(map(len, self.plans.values())) == MOST:
            raise CantRecord("it reads numbers that keep changing")
        graphs, fixed = self.graphs, {id(x): x.detach().to(self.graphs.device, copy=True) for x in leaves}
        given = mapped(lambda x: fixed[id(x)], args, Tensor)
        around, rehearsal = Surroundings(self.roots or (self.function,), self.passed), Rehearsal(graphs.device)
        graphs.busy = graphs.rehearsing = True
        try:
            with graphs.aside():
                read, changed = self.rehearse(given, around, rehearsal)
                if changed:
                    self.unsettled(changed)
                    return None
                check_memory(leaves, [fixed[id(x)] for x in leaves], rehearsal)
                graphs.rehearsing = False
                if self.warm:
                    try:
                        self.function(*given)
                    finally:
                        rehearsal.undo()
            drawn = [generator for generator, _ in rehearsal.generators]
            replay, result = graphs.capture(lambda: self.function(*given), drawn)
        except CaptureFailed as error:
            raise CantRecord(str(error)) from error
        finally:
            graphs.busy = graphs.rehearsing = False
        return CapturedPlan(replay, result, [fixed[id(x)] for x in leaves], around, read, rehearsal)

    def rehearse(
        self, given: tuple[Any, ...], around: Surroundings, rehearsal: Rehearsal
    ) -> tuple[list[Place], list[str]]:
        """Run the function and undo it; return the numbers that it read, and the names of attributes that it set."""
        before = around.kept()
        try:
            with around.watching() as read, rehearsal:
                self.function(*given)
        finally:
            rehearsal.undo()
            changed = before.put_back()
        return read, changed

    def unsettled(self, changed: list[str]) -> None:
        """Count a rehearsal that set attributes; raise CantRecord after too many."""
        self.tries += 1
        if self.tries == TRIES:
            raise CantRecord(f"each call sets {changed[0]!r}, which is no tensor's content")


def check_memory(leaves: list[Tensor], fixed: list[Tensor], rehearsal: Rehearsal) -> None:
    """Raise CantRecord where a function writes to memory that two of its tensors have in common.

    Args:
        leaves: the tensors that it is given.
        fixed: copies in their place.
        rehearsal: of the function with these copies.
    """
    for x, copy in zip(leaves, fixed, strict=True):
        others = [y for y in leaves if y is not x and memory_of(y) == memory_of(x)]
        if rehearsal.writes_to(x) or (others and rehearsal.writes_to(copy)):
            raise CantRecord("it writes to memory that two of the tensors which it reads have in common")


class CapturedPlan:
    """How a call of one form is made.

    Args:
        replay: launches the graph.
        result: what the captured call returned, which a replay writes anew.
        fixed: the graph's own tensors in the place of the call's arguments.
        around: where the tensors are kept that are no arguments.
        numbers: the numbers that the function read.
        rehearsal: what it reads and writes to.
    """

    def __init__(
        self,
        replay: Callable[[], None],
        result: Any,
        fixed: list[Tensor],
        around: Surroundings,
        numbers: list[Place],
        rehearsal: Rehearsal,
    ) -> None:
        self.replay, self.fixed, self.numbers, self.values = replay, fixed, numbers, values(numbers)
        own = {id(x): i for i, x in enumerate(fixed)}
        self.taken = list(own.values())  # one place of each
        self.written = [i for i in self.taken if rehearsal.writes_to(fixed[i])]
        self.kept = [x for x in rehearsal.inputs.values() if id(x) not in own]  # alive: the graph has their addresses
        self.places = around.places(self.kept)
        arguments, outside = {memory_of(x) for x in fixed}, {memory_of(x) for x in self.kept}
        self.made: list[Tensor] = []  # to be copied after a replay
        self.same: list[Tensor] = []  # to be returned as they are

        def slot(x: Tensor) -> tuple[str, int]:
            if id(x) in own:
                return "argument", own[id(x)]
            held = memory_of(x) in outside - arguments
            found = self.same if held else self.made
            found.append(x.detach() if not held else x)
            return "kept" if held else "made", len(found) - 1

        marked = mapped(lambda x: Mark(*slot(x)), result, Tensor)
        start = {"argument": 0, "kept": len(fixed), "made": len(fixed) + len(self.same)}
        self.result = maker(mapped(lambda mark: Slot(start[mark.kind] + mark.number), marked, Mark))

    def holds(self) -> bool:
        """Tell whether the numbers that it read are the same, and the tensors that it keeps still their owners'."""
        return values(self.numbers) == self.values and all(held.get(key) is x for held, key, x in self.places)

    @torch.no_grad()
    def __call__(self, leaves: list[Tensor]) -> Any:
        """Replay on the tensors of a call's arguments; return what the function returns."""
        fixed = self.fixed
        copy_all([fixed[i] for i in self.taken], [leaves[i] for i in self.taken])
        self.replay()
        copy_all([leaves[i] for i in self.written], [fixed[i] for i in self.written])
        found = [torch.empty_like(x) for x in self.made]
        copy_all(found, self.made)
        return self.result([*leaves, *self.same, *found])


class Mark:
    """The place of a result: which kind of tensor it is, and its number among those."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind, self.number = kind, number


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy tensors into others of the same shapes, those of one type by one launch; a tensor isn't copied to itself."""
    alike: dict[Any, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    for target, source in zip(targets, sources, strict=True):
        if target is not source:
            into, of = alike[target.dtype, target.device, source.device]
            into.append(target)
            of.append(source)
    for into, of in alike.values():
        torch._foreach_copy_(into, of)
