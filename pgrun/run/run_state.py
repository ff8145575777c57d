"""The state of a run's parts, as a checkpoint holds it."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from pgrun.loop.hooked import Hooked
from pgrun.loop.hooks import Evaluate
from pgrun.loop.moments import Ground
from pgrun.loop.train import Clock
from pgrun.run.build import Parts
from pgrun.run.config_hooks import plain, stop_holds
from pgrun.run.provenance import Provenance
from pgrun.run.sessions import Sessions
from pgrun.run.tensorboard import TensorBoard
from pgrun.system.randomness import generators, restore_generators


class RunState:
    """Reads and restores the state of a run's parts.

    Args:
        parts: the parts that `build` made.
        config: the run's config.
        clock: the run's clock.
        evaluation: the evaluations during training.
        board: the curves.
        sessions: the durations.
        hooked: the hooks of the config.
        provenance: the record of what was learnt by when.
    """

    def __init__(
        self,
        parts: Parts,
        config: DictConfig,
        clock: Clock,
        evaluation: Evaluate,
        board: TensorBoard,
        sessions: Sessions,
        hooked: Hooked,
        provenance: Provenance,
    ) -> None:
        self.parts, self.config, self.clock, self.evaluation = parts, config, clock, evaluation
        self.board, self.sessions, self.hooked, self.provenance = board, sessions, hooked, provenance

    def restore(self, state: dict[str, Any]) -> list[str]:
        """Restore the state of a checkpoint, after the clock's; return lines to print about it."""
        parts, notes = self.parts, []
        parts.algorithm.restore(state["algorithm"])
        if not parts.collector.restore(state["collector"]):
            why = f" ({said})" if (said := state["why_stateless"]) else ""
            notes.append(f"the environments start fresh episodes: their state could not be saved{why}")
            parts.algorithm.forget_episodes()
        parts.memory.restore(state["memory"])
        parts.team.restore(state.get("ranks", []))
        self.evaluation.restore(state["evaluation"], self.clock.steps)
        if self.evaluation.reached:
            self.clock.stop = "stop_at"
        self.provenance.restore(state.get("provenance", []), self.clock.steps)
        self.board.restore(state["board"])
        self.sessions.restore(state)
        self.hooked.restore(state.get("hooks", {}), again=not stop_holds(state, self.config))
        restore_generators(state["generators"])
        return notes

    def snapshot(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the policy, as tensors and plain values."""
        parts = self.parts
        others = parts.team.snapshot()
        collector = parts.collector.snapshot()
        return {
            **({"ranks": others} if others else {}),
            "collector": collector,
            "why_stateless": getattr(parts.collector.env, "why_stateless", ""),
            "memory": parts.memory.snapshot(),
            "generators": generators(),
            "evaluation": self.evaluation.snapshot(),
            "provenance": list(self.provenance.evaluations),
            "board": self.board.snapshot(),
            "wall_seconds": self.sessions.whole()["wall_seconds"],
            "sessions": self.sessions.all(),
            **({"hooks": self.hooked.snapshot()} if self.hooked else {}),
        }


def ground(parts: Parts, clock: Clock, folder: Any, config: DictConfig, sessions: Sessions, board: TensorBoard) -> Any:
    """Return the parts of a run that the config's hooks see."""
    return Ground(
        parts.algorithm,
        parts.collector,
        clock,
        parts.team.workers,
        folder,
        plain(config) if parts.hooks else {},
        seconds=lambda: float(sessions.whole()["wall_seconds"]),
        record=board.scalar,
        make_env=parts.make_env,  # type: ignore[arg-type]
    )
