"""The durations of a run: of this session, and of earlier ones that its checkpoint knows."""

from __future__ import annotations

import time
from typing import Any

from pgrun.loop.train import Clock

# figures that add up over the sessions of a run
SUMS = ("wall_seconds", "startup_seconds", "train_seconds", "compile_seconds", "eval_seconds")
Figures = dict[str, Any]


class Sessions:
    """The sessions of a run. A resumed run has several; each ends with the checkpoint that the next one goes on from.

    Args:
        clock: the run's, before anything is restored.
        begin: `time.perf_counter()` when this session began.
    """

    def __init__(self, clock: Clock, begin: float) -> None:
        self.clock, self.begin = clock, begin
        self.earlier: list[Figures] = []
        self.startup = 0.0
        self.after_loop = 0.0  # seconds of the final evaluation
        self.mark()

    def mark(self) -> None:
        """Start counting from the clock's present values."""
        self.steps, self.updates, self.trained = self.clock.steps, self.clock.updates, self.clock.train_seconds

    def restore(self, state: dict[str, Any]) -> None:
        """Read the earlier sessions from a checkpoint's content, after the clock was restored."""
        self.mark()
        whole = {"first_step": 0, "env_steps": self.steps, "updates": self.updates}
        unknown = dict.fromkeys((*SUMS, "steps_per_second"))  # an older version kept only their time
        self.earlier = list(state.get("sessions") or [{**whole, **unknown, "wall_seconds": state["wall_seconds"]}])

    def this(self) -> Figures:
        """Return this session's figures so far."""
        steps, trained = self.clock.steps - self.steps, round(self.clock.train_seconds - self.trained, 3)
        return {
            "first_step": self.steps,
            "env_steps": steps,
            "updates": self.clock.updates - self.updates,
            "wall_seconds": round(time.perf_counter() - self.begin, 3),
            "startup_seconds": round(self.startup, 3),
            "train_seconds": trained,
            "compile_seconds": round(self.clock.apart["compile"], 3),
            "eval_seconds": round(self.clock.apart["evaluate"] + self.after_loop, 3),
            "steps_per_second": round(steps / trained, 1) if trained > 0 else None,
        }

    def all(self) -> list[Figures]:
        """Return the figures of each session, this one's last."""
        return [*self.earlier, self.this()]

    def whole(self) -> Figures:
        """Return the run's figures: the sums over its sessions as far as known, and its speed in training."""
        sessions = self.all()
        sums = {key: round(sum(session[key] or 0.0 for session in sessions), 3) for key in SUMS}
        timed = [session for session in sessions if session["train_seconds"]]
        seconds = sum(session["train_seconds"] for session in timed)
        steps = sum(session["env_steps"] for session in timed)
        return {**sums, "steps_per_second": round(steps / seconds, 1) if seconds else None, "sessions": sessions}
