"""Curves, texts and hyperparameters for TensorBoard; no other module imports it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from pgrun.collect.episode_stats import EpisodeStats
from pgrun.compat.tensorboard import add_summary, put_before
from pgrun.loop.hooks import Every
from pgrun.loop.train import Clock
from pgrun.run.curve_file import FILE, FINAL, Curve, CurveRecorder
from pgrun.system.atomic import replace, told

FAILED = "can't write curves into"
DROPPED = ("_hparams_/", "final/")  # how tags of that tab begin, the latter of an older version
EVALUATION = "eval/"  # how tags of evaluations begin
LARGEST = 300_000_000  # bytes of an event file that is read to drop a few points from it
METRICS = (*FINAL, "time/steps_per_second")  # of the HParams tab


def without_disk_errors(excepthook: Any) -> Any:
    """Wrap `threading.excepthook` so that it ignores I/O errors of the thread that writes events.

    The next call to that thread raises the same error in the main thread.
    """

    def hook(args: Any) -> None:
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__name__ == "_AsyncWriterThread"):
            excepthook(args)

    return hook


threading.excepthook = without_disk_errors(threading.excepthook)


def unheard(tag: str, value: float, step: int) -> None:
    """Do nothing with a point of a curve."""


def nothing() -> dict[str, float]:
    """Return no figures."""
    return {}


class TensorBoard:
    """A hook that writes scalars over environment steps. I/O errors become UserErrors.

    Args:
        folder: the run directory.
        every: environment steps between two points.
        start: the step it goes on from; points after it that an earlier, killed run wrote are dropped.
        stats: the statistics of finished episodes.
        figures: returns further values by tag: learning rates, exploration, how full a replay is.
    """

    recorder: CurveRecorder  # of what becomes curves.npz, made with the writer

    def __init__(
        self,
        folder: Path,
        every: int,
        start: int,
        stats: EpisodeStats,
        figures: Callable[[], dict[str, float]] = nothing,
    ) -> None:
        self.folder, self.figures, self.start = folder, figures, start
        self.due = Every(every, start)
        self.stats = stats
        self.pending: list[dict[str, Tensor]] = []
        self.steps = start
        self.seconds: dict[str, float] = {}
        self.end_of_session: Any = None
        self.heard: Callable[[str, float, int], None] = unheard

    @cached_property
    def writer(self) -> SummaryWriter:
        """The writer of this session's event file, made when there is something to write."""
        with told(FAILED, self.folder):
            again = put_before(self.folder, time.time())
            (self.folder / FILE).unlink(missing_ok=True)  # an earlier session's, which ends where its checkpoint was
            self.recorder = CurveRecorder(earlier_curves(self.folder) if again else None, self.start)
            return SummaryWriter(str(self.folder), purge_step=self.start + 1 if again else None, flush_secs=10)

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Keep an update's metrics, and write a point if it is due."""
        if metrics:
            self.pending.append(metrics)
        if self.due(clock.steps):
            with told(FAILED, self.folder):
                self.write(clock)

    def write(self, clock: Clock) -> None:
        """Write one point of every curve: the means since the last one."""
        step = clock.steps
        points: dict[str, float] = {}
        if episodes := self.stats.take():
            n = len(episodes)
            points["train/return"] = sum(r for r, _ in episodes) / n
            points["train/episode_length"] = sum(length for _, length in episodes) / n
        for name, returns in {**self.stats.take_streams(), **self.stats.take_infos()}.items():
            if returns:
                points[f"train/{name}"] = sum(returns) / len(returns)
        points |= self.stats.steps.take()
        if self.pending:
            for key in {key: None for metrics in self.pending for key in metrics}:
                points[key] = float(self.column(key).mean())  # sync point
            self.pending.clear()
        points |= self.figures()
        points["time/train_seconds"] = clock.train_seconds
        since = {part: clock.seconds[part] - self.seconds.get(part, 0.0) for part in clock.seconds}
        if (total := sum(since.values())) > 0 and self.seconds:
            points["time/steps_per_second"] = (step - self.steps) / total
            points["time/collect"] = since["collect"] / total
            points["time/learn"] = since["learn"] / total
        self.points(points, step)
        self.steps, self.seconds = step, dict(clock.seconds)

    def column(self, key: str) -> Tensor:
        """Stack the values of one metric since the last point.

        In a resumed run, those from the checkpoint are on the CPU at first.
        """
        values = [metrics[key] for metrics in self.pending if key in metrics]
        return torch.stack([x.to(values[-1].device) for x in values])

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Write one point of one curve."""
        with told(FAILED, self.folder):
            self.points({tag: value}, step)

    def points(self, values: dict[str, float], step: int) -> None:
        """Write one point of each of these curves, and let others hear of it."""
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        add_summary(self.writer, Summary(value=scalars), step)  # add_scalar's events, one each, take 7 times as long
        for tag, value in values.items():
            self.recorder.add(tag, value, step)
            self.heard(tag, value, step)

    def describe(
        self, texts: dict[str, str], hyperparameters: dict[str, bool | float | str], step: int, *, evaluated: bool
    ) -> None:
        """Write what the run is: texts in Markdown for the text tab, and its row of the HParams tab.

        A row's figures are those that `close` writes last, so a run that is killed has a row, too.

        Args:
            texts: by tag.
            hyperparameters: by name.
            step: where the run stands.
            evaluated: whether the run knows of an evaluation at this step; if not, it will be made (again).
        """
        with told(FAILED, self.folder):
            forget(self.folder, None if evaluated else step)
            for tag, text in texts.items():
                self.writer.add_text(tag, text, step)
            # add_hparams would open a second run beside this one
            experiment, begin, self.end_of_session = hparams(hyperparameters, dict.fromkeys(METRICS, 0.0))
            for summary in (experiment, begin):
                add_summary(self.writer, summary)
            self.writer.flush()

    def snapshot(self) -> dict[str, Any]:
        """Return what goes into the next point, so that a resumed run has the curves of an undisturbed one."""
        keys = {key: None for metrics in self.pending for key in metrics}
        return {"pending": {key: self.column(key) for key in keys}, "steps": self.steps, "seconds": dict(self.seconds)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot."""
        columns = {key: values.unbind() for key, values in state["pending"].items()}
        rows = max((len(values) for values in columns.values()), default=0)
        self.pending = [{key: values[i] for key, values in columns.items() if i < len(values)} for i in range(rows)]
        self.steps, self.seconds = state["steps"], dict(state["seconds"])

    def flush(self) -> None:
        """Write everything to disk. Done at each checkpoint, so that a killed run's curves reach its last one."""
        with told(FAILED, self.folder):
            self.writer.flush()

    def close(self, result: dict[str, Any], step: int) -> None:
        """Write the final figures of the HParams tab into the same event file, close it, and write curves.npz."""
        if "writer" not in vars(self):  # the run ended before anything was written
            return
        for tag in FINAL:
            if result.get(tag) is not None:
                self.writer.add_scalar(tag, float(result[tag]), step)
        if self.end_of_session is not None:
            add_summary(self.writer, self.end_of_session)
        self.writer.close()
        self.recorder.write(self.folder)


def earlier_curves(folder: Path) -> dict[str, Curve]:
    """Read the curves that earlier sessions of a run wrote."""
    from pgrun.run.curves import read_curves

    return read_curves(folder)


def code_block(text: str, language: str = "") -> str:
    """Format a text as a code block in Markdown."""
    return f"```{language}\n{text.rstrip()}\n```"


def forget(folder: Path, unevaluated: int | None) -> None:
    """Drop what earlier sessions of a run wrote and this one writes again.

    That is the HParams tab: of several rows, TensorBoard shows the first's. And the evaluation of a step, of a run that
    was killed after it had its curves on disk and before a checkpoint knew of it.

    Args:
        folder: the run directory.
        unevaluated: the step whose evaluation is to come; None: there is none.
    """
    for path in sorted(folder.glob("events.out.tfevents.*")):
        if path.stat().st_size > LARGEST:
            continue
        data = path.read_bytes()
        if DROPPED[0].encode() not in data and (unevaluated is None or EVALUATION.encode() not in data):
            continue
        every = list(records(data))
        kept = [
            record
            for record, event in every
            if not is_hyperparameters(event) and (unevaluated is None or not is_evaluation(event, unevaluated))
        ]
        if len(kept) < len(every):
            with suppress(PermissionError):
                replace(path, b"".join(kept))


def records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Split an event file into its records, each with its event, up to where the file is torn."""
    at = 0
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 8], "little") + 4  # length, its checksum; event, its checksum
        if end > len(data):
            return
        yield data[at:end], data[at + 12 : end - 4]
        at = end


def parsed(event: bytes) -> Event:
    """Parse an event; one that is torn is empty."""
    try:
        return Event.FromString(event)
    except DecodeError:
        return Event()


def is_hyperparameters(event: bytes) -> bool:
    """Return whether an event belongs to the HParams tab: a row of it, or a final figure."""
    if not any(tag.encode() in event for tag in (*FINAL, *DROPPED)):
        return False
    tags = [value.tag for value in parsed(event).summary.value]
    return any(tag.startswith(DROPPED) or tag in FINAL for tag in tags)


def is_evaluation(event: bytes, step: int) -> bool:
    """Tell whether an event is a point of an evaluation at this step."""
    if EVALUATION.encode() not in event:
        return False
    found = parsed(event)
    return found.step == step and any(value.tag.startswith(EVALUATION) for value in found.summary.value)
