"""What the command line prints of runs and of errors."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def fail(line: str, code: int = 2) -> int:
    """Print an error's one line; -> its exit code."""
    remark(f"pgrun: {line}")
    return code


def remark(line: str) -> None:
    """Print a line for the user, if there is still a terminal to read it."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def say(line: str) -> None:
    """Print a line of what a command came to; where the terminal is gone nobody misses it, but a pipe's reader does."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        pass


def tell(folder: Path, result: dict[str, Any], count: str = "", note: str = "") -> None:
    """Tell of a sweep's job, as soon as it ends."""
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
    """What a run took and what came of it."""
    evaluated, rate = result["eval_return_mean"], result["steps_per_second"]
    text = f"{result['env_steps']:,} steps in {result['wall_seconds']:.1f} s"
    text += f" ({rate:,.0f} steps/s)" if rate else ""
    if evaluated is None:
        return text
    return (
        f"{text}, evaluation {evaluated:.1f} ± {result['eval_return_std']:.1f} over {result['eval_episodes']} episodes"
    )


def summary(folder: Path, result: dict[str, Any]) -> None:
    """A few lines at the end: the figures, where they are, what to do next."""
    say(f"\n{result['algo']} on {result['env']}: {figures(result)}")
    say(f"run directory  {shown(folder)}")
    runs = here() / "runs"  # where runs are that were given no directory: they are compared there
    say(f"curves         tensorboard --logdir {pasted(runs if folder.parent.parent == runs else folder)}")
    say(f"evaluate       pgrun eval {pasted(folder)}")


def abridged(text: str, length: int = 160) -> str:
    """A text that fits into a line."""
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-length // 4 :]}"


def shown(path: Path) -> Path:
    """A path as short as it can be said from the shell's folder."""
    return path.relative_to(here()) if path.is_relative_to(here()) else path


def pasted(path: Path) -> str:
    """A path as it can be pasted into a command line."""
    text = str(shown(path))
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def here() -> Path:
    """The folder that the shell is in, which `hydra.job.chdir=true` leaves for the run's."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized() and HydraConfig.get().job.chdir:
        return Path(HydraConfig.get().runtime.cwd)
    return Path.cwd()
