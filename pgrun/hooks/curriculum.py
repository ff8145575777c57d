"""A curriculum: arguments of training's environments that change as the run goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from pgrun.config.ranges import Count
from pgrun.errors import UserError
from pgrun.loop.moments import Plan, RunHook, RunView

KEYS = ("kwargs", "steps", "return")  # of a stage


class Curriculum(RunHook):
    """Changes the arguments of training's environments in stages, each copy where its next episode begins.

    A stage is `{kwargs: {length: 5}, steps: 20000}`: env.kwargs that take the place of the config's, from so many
    environment steps on; or `{kwargs: {length: 9}, return: 180}`: once the mean return of the last episodes of the
    stage before has reached that. Before the first stage the environments are as the config says. Evaluation's are so
    always.

    Args:
        stages: the stages in their order.
        episodes: how many of a stage's latest episodes a mean return is taken over.
    """

    def __init__(self, *, stages: Sequence[Mapping[str, Any]], episodes: Count) -> None:
        if not stages:
            raise UserError("it needs stages, as 'hooks.curriculum.stages=[{steps: 20000, kwargs: {length: 9}}]'")
        for i, stage in enumerate(stages):
            self.check_stage(i, stage)
        self.stages, self.stage = [dict(stage) for stage in stages], 0  # the number of stages that have begun
        self.returns: deque[float] = deque(maxlen=episodes)  # of the present stage's latest episodes

    @staticmethod
    def check_stage(i: int, stage: Any) -> None:
        """Raise UserError if a stage has other keys than it should."""
        example = "write {steps: 20000, kwargs: {length: 9}} or {return: 180, kwargs: {length: 9}}"
        if not isinstance(stage, Mapping):
            raise UserError(f"stages[{i}] is no mapping: {example}")
        if unknown := [key for key in stage if key not in KEYS]:
            raise UserError(f"stages[{i}] has a key {unknown[0]!r}: {example}")
        if not isinstance(stage.get("kwargs"), Mapping) or ("steps" in stage) == ("return" in stage):
            raise UserError(f"stages[{i}] needs kwargs, and either steps or return: {example}")
        begins = stage["steps"] if "steps" in stage else stage["return"]
        if isinstance(begins, bool) or not isinstance(begins, (int, float)):
            raise UserError(f"stages[{i}] begins at {begins!r}, which is no number: {example}")

    def check(self, plan: Plan) -> None:
        """Refuse environments that can't change, and arguments that they don't take or that change their spaces."""
        plan.can_change_env()
        for i, stage in enumerate(self.stages):
            try:
                env = plan.make_env(stage["kwargs"], training=True)
            except UserError as error:
                raise UserError(f"stages[{i}]: {error}") from error
            spaces = (env.obs_space, env.action_space)
            env.close()
            if spaces != (plan.env.obs_space, plan.env.action_space):
                raise UserError(f"stages[{i}] gives the environments other spaces, which the policy can't act in")

    def start(self, view: RunView) -> None:
        """Begin in the stage where the run stands."""
        self.move(view)
        if self.stage:
            view.change_env(**self.stages[self.stage - 1]["kwargs"])

    def update(self, view: RunView) -> None:
        """Begin the next stage if it is due, and log its number, from 1."""
        self.returns.extend(view.finished)
        if self.move(view):
            view.change_env(**self.stages[self.stage - 1]["kwargs"])
            view.log("curriculum/stage", self.stage)

    def move(self, view: RunView) -> bool:
        """Count the stages that have begun by now; tell whether there are more than before."""
        before = self.stage
        while self.stage < len(self.stages) and self.due(self.stages[self.stage], view):
            self.stage += 1
            self.returns.clear()
        return self.stage > before

    def due(self, stage: Mapping[str, Any], view: RunView) -> bool:
        """Tell whether a stage is to begin."""
        if "steps" in stage:
            return view.steps >= stage["steps"]
        full = len(self.returns) == self.returns.maxlen
        return full and sum(self.returns) / len(self.returns) >= stage["return"]

    def state_dict(self) -> dict[str, Any]:
        """Return the stage, and the returns in it."""
        return {"stage": self.stage, "returns": list(self.returns)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.stage = state["stage"]
        self.returns.extend(state["returns"])
