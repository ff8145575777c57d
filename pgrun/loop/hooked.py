"""Call the hooks of the config at their moments, and keep their state."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from pgrun.data.plain import CantCapture, decode, encode
from pgrun.errors import HookFailed, UserError, told
from pgrun.loop.evaluate import Evaluation
from pgrun.loop.hooks import Evaluate
from pgrun.loop.moments import Ground, RunHook, RunView
from pgrun.loop.train import Clock
from pgrun.system.randomness import generators, restore_generators

log = logging.getLogger("pgrun")
STOPPED = "hook"  # why the clock stops, where a hook asked for it


@contextmanager
def calling(name: str, hook: RunHook, moment: str) -> Iterator[None]:
    """Turn what a hook raises in the block into HookFailed, and let an interrupt pass."""
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit, HookFailed):
        raise
    except BaseException as error:
        why = str(error) if isinstance(error, (UserError, CantCapture)) else told(error)
        kind = type(hook)
        who = f"hooks.{name} ({kind.__module__}.{kind.__qualname__})"
        trace = "".join(traceback.format_exception(error))
        raise HookFailed(f"{who} failed at {moment}: {why}{place(error, hook)}", trace) from error


def place(error: BaseException, hook: RunHook) -> str:
    """Say in which line a hook failed; where pgrun itself refused, nothing."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = getattr(sys.modules.get(type(hook).__module__), "__file__", None)
    inside = [frame for frame in frames if frame.filename == own]
    if not frames or (isinstance(error, (UserError, CantCapture)) and not inside):
        return ""
    frame = (inside or list(frames))[-1]
    return f" ({Path(frame.filename).name}:{frame.lineno})"


def state_of(name: str, hook: RunHook) -> Any:
    """Return a hook's state as plain values."""
    with calling(name, hook, "state_dict"):
        return encode(hook.state_dict(), "its state")


class Hooked:
    """The hooks of a run's config: each of its methods that takes the clock is a hook of the loop.

    Args:
        hooks: by name.
        ground: what they see of the run.
        evaluation: the hook that evaluates.
        resumed: whether the run goes on from a checkpoint.
    """

    def __init__(self, hooks: Mapping[str, RunHook], ground: Ground, evaluation: Evaluate, *, resumed: bool) -> None:
        self.hooks, self.clock, self.evaluation = dict(hooks), ground.clock, evaluation
        self.view = RunView(ground, resumed=resumed)
        self.evaluated_at = -1  # the environment step of the evaluation that they were told of
        self.told_of = ""  # the checkpoint that they were told of
        self.episodes = 0  # of training, that they were told of
        self.ended = False

    def __bool__(self) -> bool:
        return bool(self.hooks)

    def point(self, name: str, value: float, step: int) -> None:
        """Note a point of a curve, for the next update."""
        if self.hooks:
            self.view.points.append((name, value, step))

    def at(self, moment: str) -> None:
        """Call a moment of each hook; the run's random numbers stay as they are."""
        if not self.hooks:
            return
        before = generators()
        try:
            for name, hook in self.hooks.items():
                self.view.name = name
                with calling(name, hook, moment):
                    getattr(hook, moment)(self.view)
        finally:
            restore_generators(before)
        self.heed()

    def heed(self) -> None:
        """Stop the run if a hook has asked for it; a run that comes to its own end isn't stopped by a hook."""
        stopped = self.view.requests.stopped
        if stopped is None:
            return
        if self.clock.steps >= self.clock.total_steps:
            self.view.requests.stopped = None
        elif not self.clock.stop:
            self.clock.stop = STOPPED
            log.info("hooks.%s stopped the run: %s", stopped["by"], stopped["why"])

    def start(self) -> None:
        """Call `start`."""
        self.at("start")

    def update(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Call `update`."""
        if not self.hooks:
            return
        stats = self.view.ground.collector.stats
        new = min(stats.count - self.episodes, len(stats.recent))
        self.episodes = stats.count
        self.view.finished = list(stats.recent)[len(stats.recent) - new :]
        self.view.latest, self.view.numbers = metrics, None
        self.at("update")
        self.view.points.clear()

    def evaluate(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Call `evaluation` if there was one at this step."""
        if self.evaluation.latest_at != clock.steps or self.evaluated_at == clock.steps:
            return
        self.evaluated_at, self.view.evaluation = clock.steps, self.evaluation.result
        self.at("evaluation")

    def wants_checkpoint(self) -> bool:
        """Tell whether a hook has asked for a checkpoint, and count it as done."""
        wanted, self.view.requests.write = self.view.requests.write, False
        return wanted

    def checkpoint(self, path: Path) -> None:
        """Call `checkpoint` if they were not told of this file."""
        if path.name == self.told_of:
            return
        self.told_of, self.view.checkpoint_file = path.name, path
        self.at("checkpoint")

    def end(self, result: dict[str, Any]) -> None:
        """Call `end`, once."""
        if not self.ended:
            self.ended, self.view.result = True, result
            self.at("end")

    @property
    def stopped(self) -> dict[str, str] | None:
        """Who stopped the run, and why; None: no hook did."""
        return self.view.requests.stopped

    def snapshot(self) -> dict[str, Any]:
        """Return the state of hooks, and what they asked for, as plain values."""
        states = {name: state_of(name, hook) for name, hook in self.hooks.items()}
        latest = self.view.evaluation
        return {
            "states": states,
            "stopped": self.stopped,
            "rate": self.view.requests.rate,
            "evaluated_at": self.evaluated_at,
            "told_of": self.told_of,
            "evaluation": None if latest is None else {f.name: getattr(latest, f.name) for f in fields(latest)},
            "episodes": self.episodes,
            "points": [list(point) for point in self.view.points],
        }

    def restore(self, state: Mapping[str, Any], *, again: bool) -> None:
        """Restore a snapshot.

        Args:
            state: the snapshot; {} of a run that had no hooks.
            again: whether to go on although a hook had stopped the run: its settings are others now.
        """
        self.episodes = self.view.ground.collector.stats.count
        self.evaluated_at = self.evaluation.latest_at
        if not state:
            return
        for name, hook in self.hooks.items():
            if name in state["states"]:
                with calling(name, hook, "load_state_dict"):
                    hook.load_state_dict(decode(state["states"][name]))
        self.evaluated_at, self.episodes, self.told_of = state["evaluated_at"], state["episodes"], state["told_of"]
        self.view.evaluation = None if state["evaluation"] is None else Evaluation(**state["evaluation"])
        self.view.points[:] = [(name, value, step) for name, value, step in state["points"]]
        if state["rate"] != 1.0:
            self.view.scale_learning_rates(state["rate"])
        if state["stopped"] is not None and not again:
            self.view.requests.stopped = state["stopped"]
            self.clock.stop = STOPPED
