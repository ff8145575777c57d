"""Hooks as a user may write them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from pgrun.loop.moments import Plan, RunHook, RunView


class Diary(RunHook):
    """Writes down each moment, with what it sees."""

    written: list[tuple[Any, ...]] = []  # noqa: RUF012  (of the last run in this process)

    def __init__(self) -> None:
        self.written.clear()

    def start(self, view: RunView) -> None:
        self.written.append(("start", view.steps, view.resumed))

    def update(self, view: RunView) -> None:
        self.written.append(("update", view.steps, dict(view.metrics), list(view.points), list(view.finished)))

    def evaluation(self, view: RunView) -> None:
        assert view.evaluation is not None
        self.written.append(("evaluation", view.steps, view.evaluation.mean))

    def checkpoint(self, view: RunView) -> None:
        assert view.checkpoint_file is not None
        assert view.checkpoint_file.is_file()
        self.written.append(("checkpoint", view.steps, view.checkpoint_file.name))

    def end(self, view: RunView) -> None:
        self.written.append(("end", view.steps, dict(view.result)))


class Noisy(RunHook):
    """Draws from every global generator, and counts each moment."""

    def __init__(self, unit: int = 1) -> None:
        self.counts: dict[str, int] = {}
        self.seen = np.zeros(2)
        self.unit = unit

    def count(self, moment: str) -> None:
        torch.rand(3)
        np.random.rand(3)
        random.random()
        self.counts[moment] = self.counts.get(moment, 0) + self.unit

    def update(self, view: RunView) -> None:
        self.count("update")
        self.seen += [len(view.finished), len(view.points)]
        view.log("noisy/updates", self.counts["update"])

    def evaluation(self, view: RunView) -> None:
        self.count("evaluation")

    def checkpoint(self, view: RunView) -> None:
        self.count("checkpoint")

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts, self.seen = state["counts"], state["seen"]


class Changes(RunHook):
    """Changes what may be changed, at the update with this number."""

    def __init__(self, at: int, what: str) -> None:
        self.at, self.what, self.n = at, what, 0

    def update(self, view: RunView) -> None:
        self.n += 1
        if self.n != self.at:
            return
        if self.what == "stop":
            view.stop("it has had enough")
        elif self.what == "rate":
            view.scale_learning_rates(0.25)
        elif self.what == "write":
            view.write_checkpoint()
        elif self.what == "env":
            view.change_env(length=7)
        elif self.what == "raise":
            raise ZeroDivisionError("no\nway")

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n = state["n"]


class Ends(RunHook):
    """Fails at the end."""

    def end(self, view: RunView) -> None:
        raise OSError("the archive is full")


class Misnamed(RunHook):
    def on_update(self, view: RunView) -> None: ...


class Fewer(RunHook):
    def update(self) -> None: ...  # type: ignore[override]


class Empty(RunHook):
    def helper(self) -> None: ...


class NoHook:
    def update(self, view: RunView) -> None: ...


class Breaks(RunHook):
    def __init__(self) -> None:
        raise ValueError("there is no key\nat all")

    def update(self, view: RunView) -> None: ...


class Refuses(RunHook):
    def check(self, plan: Plan) -> None:
        raise KeyError(plan.config["seed"])


class Keeps(RunHook):
    def update(self, view: RunView) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {"file": open}
