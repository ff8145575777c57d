"""Hooks of the config: the base class of a user's own, and what a hook sees and may change.

`pgrun.loop.hooked` calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.collector import Collector
from pgrun.data.types import NOT_CHANGED, ChangeableEnv, VectorEnv
from pgrun.envs.infos import Over
from pgrun.errors import UserError
from pgrun.loop.evaluate import Evaluation
from pgrun.loop.train import Clock
from pgrun.optim.rules import Optimizer

MOMENTS = ("start", "update", "evaluation", "checkpoint", "end")


class MakeEnv(Protocol):
    """Makes one environment as evaluation's, or as training's, with arguments in place of those of the config."""

    def __call__(self, arguments: Mapping[str, Any], *, training: bool = False) -> VectorEnv:
        """Make it; whoever asked closes it.

        Raises:
            UserError: the environment takes no such argument.
        """


class RunHook:
    """A hook of a run, which the config adds: `hooks.NAME._target_=mine.MyHook hooks.NAME.key=value`.

    A subclass overrides the moments that it needs. Random numbers that it draws from the global generators are not
    missed by the run. Of several processes only the first one's hooks act.

    Attributes:
        reads: keys of `info` whose numbers become curves, and how each is reduced over an episode: last, mean or sum.
    """

    reads: ClassVar[Mapping[str, Over]] = {}

    def check(self, plan: Plan) -> None:
        """Refuse a run that this hook can't be part of, before anything is written.

        Raises:
            UserError: it can't, and why.
        """

    def start(self, view: RunView) -> None:
        """Act before the first rollout of each session; a resumed run has several."""

    def update(self, view: RunView) -> None:
        """Act after each rollout and the updates from it; `view.metrics` is {} where there was no update."""

    def evaluation(self, view: RunView) -> None:
        """Act after each evaluation during training, which is `view.evaluation`."""

    def checkpoint(self, view: RunView) -> None:
        """Act after a checkpoint is written, which is `view.checkpoint_file`.

        What this changes of the hook's state is not in that file; so a run that is resumed from it does it again.
        """

    def end(self, view: RunView) -> None:
        """Act when the session ends, however it does; `view.result` is the content of result.json."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: numbers, text, arrays, tensors, and lists and dicts of these."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned, before `start`."""


@dataclass(frozen=True)
class Plan:
    """The run as it is planned, for `RunHook.check`.

    Args:
        config: the config, as plain values.
        env: training's environments.
        workers: processes that run the loop.
        make_env: makes one environment.
    """

    config: Mapping[str, Any]
    env: VectorEnv
    workers: int
    make_env: MakeEnv

    def can_change_env(self) -> None:
        """Raise UserError if `RunView.change_env` can't be called in this run."""
        if self.workers > 1:
            raise UserError(
                f"it changes the environments of the first of {self.workers} processes alone: use parallel=none"
            )
        if why := getattr(self.env, "unchangeable", NOT_CHANGED):
            raise UserError(f"these environments can't change their arguments ({why})")


@dataclass
class Ground:
    """The parts of a run that a view shows.

    Args:
        algorithm: the policy that learns.
        collector: has the environments and the statistics of their episodes.
        clock: the run's.
        workers: processes that run the loop.
        folder: the run directory.
        config: the config, as plain values.
        seconds: returns the run's wall-clock seconds, over its sessions.
        record: takes a point of a curve: its name, the value, and the environment step.
        make_env: makes one environment.
    """

    algorithm: Algorithm
    collector: Collector
    clock: Clock
    workers: int
    folder: Path
    config: Mapping[str, Any]
    seconds: Callable[[], float]
    record: Callable[[str, float, int], None]
    make_env: MakeEnv


@dataclass
class Requests:
    """The requests of hooks.

    Args:
        stopped: who asked to stop, and why; None: nobody.
        write: whether a checkpoint is to be written now.
        rate: the factor of learning rates.
    """

    stopped: dict[str, str] | None = None
    write: bool = False
    rate: float = 1.0


@dataclass
class RunView:
    """The run as its hooks see it. All attributes are to be read; what can be changed has a method.

    Args:
        ground: the run's parts.
        name: of the hook that looks, as in the config.
        evaluation: the latest evaluation during training, or None: `mean`, `std`, `returns`, `lengths`, `info_means`.
        finished: the returns of training's episodes that ended in the latest rollout; of many, the last 100.
        points: points of curves that were written since the last `update`: name, value, environment step.
        checkpoint_file: the checkpoint that was written last in this session, or None.
        result: at the end, the content of result.json.
        resumed: whether this session goes on from a checkpoint.
    """

    ground: Ground
    requests: Requests = field(default_factory=Requests)
    name: str = ""
    evaluation: Evaluation | None = None
    finished: list[float] = field(default_factory=list)
    points: list[tuple[str, float, int]] = field(default_factory=list)
    checkpoint_file: Path | None = None
    result: dict[str, Any] = field(default_factory=dict)
    resumed: bool = False
    latest: dict[str, Tensor] = field(default_factory=dict)  # metrics of the latest updates, as tensors
    numbers: dict[str, float] | None = None  # the same as numbers, once they are asked for

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        return self.ground.clock.steps

    @property
    def total_steps(self) -> int:
        """Environment steps of the whole run."""
        return self.ground.clock.total_steps

    @property
    def updates(self) -> int:
        """Updates so far."""
        return self.ground.clock.updates

    @property
    def seconds(self) -> float:
        """Seconds of the run on the wall's clock, over all its sessions."""
        return self.ground.seconds()

    @property
    def metrics(self) -> dict[str, float]:
        """The mean metrics of the updates from the latest rollout, by their curves' names; on a GPU a sync point."""
        if self.numbers is None:
            self.numbers = {name: float(x) for name, x in self.latest.items()}
        return self.numbers

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.ground.folder

    @property
    def config(self) -> Mapping[str, Any]:
        """The run's config, as plain values."""
        return self.ground.config

    @property
    def policy(self) -> Algorithm:
        """The policy that learns: `act(obs, carry, explore)`, `initial_carry(num_envs)`."""
        return self.ground.algorithm

    def stop(self, why: str) -> None:
        """End the run after this rollout, as if it had come to its end; result.json says who asked, and why."""
        if self.requests.stopped is None:
            self.requests.stopped = {"by": self.name, "why": why}

    def write_checkpoint(self) -> None:
        """Have a checkpoint written before the next rollout."""
        self.alone("write a checkpoint out of turn")
        self.requests.write = True

    def log(self, name: str, value: float) -> None:
        """Add a point to a curve at the present environment step."""
        self.ground.record(name, float(value), self.steps)

    def scale_learning_rates(self, factor: float) -> None:
        """Multiply the learning rates of all gradient steps, as the config and its schedules give them, from now on."""
        self.alone("change learning rates")
        for step in self.policy.steps().values():
            if not isinstance(step.optimizer, Optimizer):
                name = type(step.optimizer).__name__
                raise UserError(f"{name} keeps its learning rate to itself: use optimizer=adam")
            step.optimizer.factor = factor
        self.requests.rate = factor

    def change_env(self, **arguments: Any) -> None:
        """Have training's next episodes begin in environments with these arguments (`env.kwargs`).

        Each copy changes where its own episode ends. Arguments that are not named are as the config has them.
        """
        plan = Plan(self.config, self.ground.collector.env, self.ground.workers, self.ground.make_env)
        plan.can_change_env()
        cast(ChangeableEnv, self.ground.collector.env).change(arguments)

    def make_env(self, **arguments: Any) -> VectorEnv:
        """Make one environment as evaluation has them, with these arguments in place of the config's; close it."""
        return self.ground.make_env(arguments)

    def alone(self, do: str) -> None:
        """Raise UserError where several processes learn together."""
        if self.ground.workers > 1:
            raise UserError(f"it can't {do} where {self.ground.workers} processes learn together: use parallel=none")
