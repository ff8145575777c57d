"""TensorBoard: the one place that imports it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from pgrun.atomic import told
from pgrun.episodes import EpisodeStats
from pgrun.hooks import Every
from pgrun.train import Clock

FAILED = "can't write curves into"


def without_disk_errors(excepthook: Any) -> Any:
    """Leave out what the thread that writes events says of an I/O error, which its next call raises here, too."""

    def hook(args: Any) -> None:
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__name__ == "_AsyncWriterThread"):
            excepthook(args)

    return hook


threading.excepthook = without_disk_errors(threading.excepthook)


class TensorBoard:
    """Writes scalars over environment steps; a hook. An I/O error is a UserError.

    Args:
        folder: the run directory.
        every: environment steps between two points.
        start: the step it goes on from; points after it that an earlier, killed run wrote are dropped.
        stats: where finished episodes come from.
    """

    def __init__(self, folder: Path, *, every: int, start: int, stats: EpisodeStats) -> None:
        again = any(folder.glob("events.out.tfevents.*"))
        self.folder = folder
        with told(FAILED, folder):
            self.writer = SummaryWriter(str(folder), purge_step=start + 1 if again else None, flush_secs=10)
        self.due = Every(every, start)
        self.stats = stats
        self.pending: list[dict[str, Tensor]] = []
        self.steps = start
        self.seconds: dict[str, float] = {}

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        if metrics:
            self.pending.append(metrics)
        if self.due(clock.steps):
            with told(FAILED, self.folder):
                self.write(clock)

    def write(self, clock: Clock) -> None:
        """One point of every curve: means since the last one."""
        step = clock.steps
        if episodes := self.stats.take():
            n = len(episodes)
            self.writer.add_scalar("train/return", sum(r for r, _ in episodes) / n, step)
            self.writer.add_scalar("train/episode_length", sum(length for _, length in episodes) / n, step)
        for name, returns in self.stats.take_streams().items():
            if returns:
                self.writer.add_scalar(f"train/{name}", sum(returns) / len(returns), step)
        if self.pending:
            for key in {key: None for each in self.pending for key in each}:
                self.writer.add_scalar(key, float(self.column(key).mean()), step)  # sync point
            self.pending.clear()
        since = {part: clock.seconds[part] - self.seconds.get(part, 0.0) for part in clock.seconds}
        if (total := sum(since.values())) > 0 and self.seconds:
            self.writer.add_scalar("time/steps_per_second", (step - self.steps) / total, step)
            self.writer.add_scalar("time/collect", since["collect"] / total, step)
            self.writer.add_scalar("time/learn", since["learn"] / total, step)
        self.steps, self.seconds = step, dict(clock.seconds)

    def column(self, key: str) -> Tensor:
        """The values of one metric since the last point; of a resumed run, those of its checkpoint are on the CPU."""
        values = [each[key] for each in self.pending if key in each]
        return torch.stack([x.to(values[-1].device) for x in values])

    def scalar(self, tag: str, value: float, step: int) -> None:
        """One point of one curve."""
        with told(FAILED, self.folder):
            self.writer.add_scalar(tag, value, step)

    def snapshot(self) -> dict[str, Any]:
        """What goes into the next point, so that a resumed run's curves are the undisturbed run's."""
        keys = {key: None for each in self.pending for key in each}
        return {"pending": {key: self.column(key) for key in keys}, "steps": self.steps, "seconds": dict(self.seconds)}

    def restore(self, state: dict[str, Any]) -> None:
        """Put it back."""
        columns = {key: values.unbind() for key, values in state["pending"].items()}
        rows = max((len(values) for values in columns.values()), default=0)
        self.pending = [{key: values[i] for key, values in columns.items() if i < len(values)} for i in range(rows)]
        self.steps, self.seconds = state["steps"], dict(state["seconds"])

    def flush(self) -> None:
        """Put everything on disk: done with each checkpoint, so that a killed run's curves reach its last one."""
        with told(FAILED, self.folder):
            self.writer.flush()

    def close(self, config: dict[str, Any], final: dict[str, float], step: int) -> None:
        """Write hyperparameters and final figures into the same event file, for the HParams tab, and close."""
        plain = {k: v for k, v in config.items() if isinstance(v, (bool, int, float, str))}
        figures = {f"final/{key}": value for key, value in final.items()}
        # add_hparams would open a second run beside this one
        for summary in hparams(plain, figures):
            self.writer._get_file_writer().add_summary(summary)
        for tag, value in figures.items():
            self.writer.add_scalar(tag, value, step)
        self.writer.close()
