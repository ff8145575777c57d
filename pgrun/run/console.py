"""Messages of the command line about runs, jobs and errors."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any


def fail(line: str, code: int = 2) -> int:
    """Print an error in one line, and return the exit code."""
    remark(f"pgrun: {line}")
    return code


def on_stderr(line: str) -> None:
    """Print a line on stderr, unless the terminal is gone."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


# who takes remarks to the user
SPEAKER: ContextVar[Callable[[str], None]] = ContextVar("SPEAKER")


def remark(line: str) -> None:
    """Say a line to the user: on stderr, or as `remarks_by` says."""
    SPEAKER.get(on_stderr)(line)


@contextmanager
def remarks_by(speak: Callable[[str], None], *, unless_said: bool = False) -> Iterator[None]:
    """Give the remarks of the block to a function; with `unless_said`, only if nobody has said yet who takes them."""
    before = SPEAKER.set(SPEAKER.get(speak) if unless_said else speak)
    try:
        yield
    finally:
        SPEAKER.reset(before)


def say(line: str) -> None:
    """Print a line of a command's result on stdout.

    A closed terminal is ignored, since nobody reads it; a broken pipe is raised, since its reader stopped early.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        pass


@contextmanager
def patience(jobs: int, doing: str, after: float = 0.2) -> Iterator[None]:
    """Announce what is being done with a sweep's jobs, if they are many and it takes longer than `after` seconds."""
    timer = threading.Timer(after, remark, [f"{jobs} jobs: {doing} them"])
    timer.daemon = True
    if jobs > 20:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def tell(folder: Path, result: dict[str, Any], count: str = "", note: str = "") -> None:
    """Report the result of a sweep's job as soon as it ends."""
    name = f"{count} {folder.name}".strip() + (f" ({note})" if note else "")
    if "error" in result:
        if trace := result.get("traceback"):
            remark(trace.rstrip("\n"))
        fail(f"{name}: {result['error']}")
    elif result["status"] == "interrupted":
        say(f"{name}: interrupted")
    else:
        pruned = "pruned after " if result["status"] == "pruned" else ""
        say(f"{name}: {pruned}{figures(result)}")


def figures(result: dict[str, Any]) -> str:
    """Format what a run took and what its evaluation came to, as far as its result says it."""
    evaluated = evaluation(result)
    return f"{spent(result)}, evaluation {evaluated}" if evaluated else spent(result)


def spent(result: dict[str, Any]) -> str:
    """Format what a run took: steps, time and speed."""
    text = f"{result['env_steps']:,} steps in {duration(result['wall_seconds'])}"
    if len(result.get("sessions") or ()) > 1:
        text += f" and {len(result['sessions'])} sessions"
    if trained := result.get("train_seconds"):
        text += f", {duration(trained)} of training"
    rate = result["steps_per_second"]
    return f"{text} ({rate:,.0f} steps/s)" if rate else text


def evaluation(result: dict[str, Any]) -> str:
    """Format the final evaluation of a run; empty if there was none."""
    if result["eval_return_mean"] is None:
        return ""
    spread, episodes = result["eval_return_std"], result["eval_episodes"]
    return f"{result['eval_return_mean']:.1f} ± {spread:.1f} over {episodes} episodes"


def duration(seconds: float) -> str:
    """Format a time: 4.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours / 24:.0f} days"


def above_bar(line: str) -> None:
    """Print a line from a signal handler, above a progress bar if there is one."""
    from tqdm import tqdm

    with suppress(OSError):
        try:
            tqdm.write(line, file=sys.stderr)
            sys.stderr.flush()
        except RuntimeError:  # the signal came while another line was being written
            os.write(2, f"{line}\n".encode())


def summary(folder: Path, result: dict[str, Any]) -> None:
    """Print a few lines at a run's end: its figures, where its files are, and what to do next."""
    say(f"\n{result['algo']} on {result['env']}: {spent(result)}")
    if evaluated := evaluation(result):
        say(f"evaluation     {evaluated}")
    say(f"run directory  {shown(folder)}")
    runs = here() / "runs"  # the default place of runs, where TensorBoard can compare them
    say(f"curves         tensorboard --logdir {pasted(runs if folder.parent.parent == runs else folder)}")
    say(f"evaluate       pgrun eval {pasted(folder)}")


def abridged(text: str, length: int = 160) -> str:
    """Shorten a text so that it fits into a line."""
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-length // 4 :]}"


def shown(path: Path) -> Path:
    """Return a path as short as possible: relative to the shell's folder if it lies there."""
    return path.relative_to(here()) if path.is_relative_to(here()) else path


def pasted(path: Path) -> str:
    """Return a path in a form that can be pasted into a command line."""
    text = str(shown(path))
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def here() -> Path:
    """Return the shell's folder, which `hydra.job.chdir=true` leaves for the run's."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized() and HydraConfig.get().job.chdir:
        return Path(HydraConfig.get().runtime.cwd)
    return Path.cwd()
