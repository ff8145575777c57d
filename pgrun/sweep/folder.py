"""The directory of a sweep: its name, its list of jobs, and the states of its jobs."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from pgrun.config.tuning import overrides_of
from pgrun.errors import UserError
from pgrun.run.claim import holds_run, impossible, unmakeable
from pgrun.trust.files import LARGEST_LIST, links_away, read_object, read_text

WORST = -1e9  # the objective of a run that diverged or failed: finite, so that every sampler can rank it
OVER = ("finished", "pruned")  # the states of jobs that are not run again
LAUNCHERS = ("joblib", "ray", "slurm")  # members of the group sweep that set where jobs run, not which jobs
RUNNING = ("n_trials", "n_jobs", "storage", "max_batch_size")  # keys of hydra.sweeper that set how far a sweep goes
BEGUN = "sweep.json"  # the file with a sweep's command line
JOBS = "jobs.jsonl"  # the file with the folders of a sweep's jobs, one a line


def size(config: DictConfig) -> int:
    """Count a sweep's jobs from its composed config; return 0 if the command line can't be read that far."""
    if "n_trials" in config.hydra.sweeper:
        return int(config.hydra.sweeper.n_trials)
    try:
        loader = GlobalHydra.instance().config_loader()
        given = OverridesParser.create(config_loader=loader).parse_overrides(overrides_of(config.hydra))
        swept = [override for override in given if override.is_sweep_override()]
        return math.prod(sum(1 for _ in override.sweep_string_iterator()) for override in swept)
    except Exception:  # a wrong override is reported when its values are checked
        return 0


def key_of(argument: str) -> str:
    """Return the key of `+key=value`."""
    return argument.partition("=")[0].lstrip("+~")


def identity(argv: Sequence[str]) -> list[str]:
    """List what a command line sweeps over, in an order that doesn't depend on that of its arguments.

    Where jobs run, and how many at a time, is left out: it changes no result, so it may differ when the sweep goes on.
    So is the number of trials, which may grow.
    """
    parts, rest = [], list(argv)
    while rest:
        argument = re.sub(r"\s*,\s*", ",", rest.pop(0).strip())
        key = key_of(argument)
        if argument in ("", "-m", "--multirun"):
            continue
        if argument.startswith("-"):
            value = rest.pop(0) if "=" not in argument and rest and "=" not in rest[0] and rest[0][:1] != "-" else ""
            parts.append(f"{argument} {value}".strip())
        elif key == "sweep":
            spaces = [name for name in argument.partition("=")[2].strip("[]").split(",") if name not in LAUNCHERS]
            parts += [f"sweep={','.join(sorted(spaces))}"] if spaces else []
        elif not key.startswith(("hydra.", "hydra/")) or (
            key.startswith(("hydra.sweeper", "hydra/sweeper")) and key.split(".")[-1] not in RUNNING
        ):
            parts.append(argument)
    return sorted(parts)


def sweep_name(argv: Sequence[str]) -> str:
    """Name a sweep's folder by its command line: a readable beginning, and a hash of the whole."""
    parts = identity(argv)
    plain = (re.sub(r"[^\w.,=+-]+", "-", part.removeprefix("hydra.sweeper.")).strip("-.") for part in parts)
    readable = "_".join(plain)[:70].rstrip("-.,_") or "sweep"
    return f"{readable}-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:8]}"


def in_first_order(argv: Sequence[str]) -> list[str]:
    """Order a command line as it was when the sweep began, so that its jobs keep their numbers.

    Returns:
        The flags, then the overrides in that order.

    Raises:
        UserError: the folder holds another sweep.
    """
    given = [arg.partition("=")[2] for arg in argv if arg.startswith("hydra.sweep.dir=")]
    begun = (Path(given[-1]) if given else Path("multirun") / sweep_name(argv)) / BEGUN
    first = arguments_of(begun) or list(argv)
    check_same(begun.parent, first, argv)
    place = {key_of(arg): i for i, arg in enumerate(first)}
    flags = [i for i, arg in enumerate(argv) if arg.startswith("-") or "=" not in arg]
    overrides = [arg for i, arg in enumerate(argv) if i not in flags]
    return [argv[i] for i in flags] + sorted(overrides, key=lambda arg: place.get(key_of(arg), len(first)))


def arguments_of(path: Path) -> list[str] | None:
    """Read the command line that a sweep began with; None if it has not begun.

    Raises:
        UserError: the file can't be read, or holds anything else.
    """
    content = read_object(path)
    if content is None:
        return None
    arguments = content.get("arguments")
    if not isinstance(arguments, list) or not all(isinstance(text, str) for text in arguments):
        raise UserError(f'{path} holds no sweep\'s command line, as {{"arguments": […]}}')
    return arguments


def check_same(folder: Path, first: Sequence[str], argv: Sequence[str]) -> None:
    """Raise UserError if a folder holds another sweep than this command line's."""
    if identity(first) != identity(argv):
        raise UserError(f"{folder} holds another sweep (pgrun {shlex.join(first)}): choose another hydra.sweep.dir")


def enlist(folder: Path, names: Iterable[str]) -> None:
    """Add these folders to the list of a sweep's jobs, before the jobs begin."""
    known = jobs_of(folder) or set()
    new = [name for name in names if name not in known]
    if new:
        # one write call, since others may append too; a new line first, since a kill may have torn the last one
        with open(folder / JOBS, "a", encoding="utf-8") as file:
            file.write("\n" + "".join(f"{json.dumps(name)}\n" for name in new))


def jobs_of(folder: Path) -> set[str] | None:
    """Read the list of a sweep's jobs, of all its sessions; None if an earlier version kept no list."""
    text = read_text(folder / JOBS, LARGEST_LIST, errors="replace")
    if text is None:
        return None
    names = set()
    for line in text.splitlines():
        with suppress(ValueError, RecursionError):  # torn, or empty
            name = json.loads(line)
            if isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts:
                names.add(name)
    return names


def job_name(number: int, overrides: Sequence[str], constant: set[str]) -> str:
    """Name a job's folder: its number, and the overrides that distinguish it from other jobs.

    Args:
        number: the job's.
        overrides: the job's.
        constant: the keys that have the same value in all jobs.
    """
    varied = ",".join(sorted(arg for arg in overrides if key_of(arg) not in constant))
    text = no_slash(f"{number}_{varied}" if varied else str(number))
    text = rounded(text)
    return text if len(text) <= 120 else f"{text[:111]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def rounded(text: str) -> str:
    """Shorten the numbers in a text that a sampler drew."""
    return re.sub(r"\d+\.\d{6,}(e[+-]\d+)?", lambda match: f"{float(match[0]):.4g}", text)


def no_slash(text: str) -> str:
    """Remove spaces from a folder's name, and replace slashes by dots."""
    return text.replace("/", ".").replace(" ", "")


def found(folder: Path) -> dict[str, Any]:
    """Read the result of the job in a folder.

    Returns:
        The content of result.json; without that file, {"status": "interrupted"} or {"status": "new"}.
    """
    from pgrun.run import checkpoint

    result = read_object(folder / "result.json")
    if result is not None:
        return {**result, "status": str(result.get("status"))}
    begun = checkpoint.latest(folder / "checkpoints").exists()
    return {"status": "interrupted" if begun else "new"}


def goes_on(folder: Path, config: DictConfig, *, own: bool = True) -> str:
    """Describe in words how an earlier job in this folder goes on; empty if there was none.

    Args:
        folder: the job's.
        config: the job's, as it is composed now.
        own: whether the folder, if it exists, belongs to one of this sweep's jobs.

    Raises:
        UserError: the folder was made with another config, holds a run that is no job of this sweep, or can't be made.
    """
    from pgrun.run import checkpoint

    if (error := impossible(folder)) is not None:
        raise UserError(unmakeable(f"the job's folder {folder}", error) + " hydra.sweep.subdir")
    if not own and holds_run(folder):
        raise UserError(f"{folder} holds a run that is no job of this sweep: choose another hydra.sweep.dir or subdir")
    if away := links_away(folder):
        raise UserError(f"{folder}: {away[0]} leads out of it; put what it leads to in its place, or move it away")
    status = found(folder)["status"]
    kept = checkpoint.latest(folder / "checkpoints").exists()
    if status in OVER or (kept and status != "diverged"):
        check_config(folder, config)
    if status in OVER:
        return f"{status} before"
    if status == "interrupted":
        return "interrupted before: goes on from its checkpoint" if kept else "interrupted before: starts again"
    if status in ("failed", "diverged"):
        from_where = "from its checkpoint" if kept and status == "failed" else "from the start"
        return f"{status} before: tried again, {from_where}"
    return ""


def check_config(folder: Path, config: DictConfig) -> None:
    """Raise UserError if a job was made with another config than the one that is composed now."""
    from pgrun.run import checkpoint
    from pgrun.run.directory import flat_of, written_config

    before = written_config(folder / ".hydra" / "config.yaml")
    if not before:  # killed while the file was written
        latest = checkpoint.latest(folder / "checkpoints")
        before = flat_of(checkpoint.load(latest)) if latest.exists() else {}
    if before:
        check_unchanged(before, config, str(folder), f"with another hydra.sweep.dir or without {folder.parent}")


def check_unchanged(before: dict[str, Any], config: DictConfig, what: str, over: str) -> None:
    """Raise UserError if a config has changed since it was run.

    Args:
        before: the values that were run, by dotted key.
        config: the config as it is composed now.
        what: what was run, for the message.
        over: how to start over, for the message.
    """
    from pgrun.run.directory import differences, flat

    if said := differences(before, flat(config), "then", "now"):
        raise UserError(
            f"{what} was run with another config ({said}): put the configs back as they were, or start over, {over}"
        )


def objective(result: dict[str, Any]) -> float:
    """Return what a sweeper maximizes: the mean return of the final evaluation, or `WORST` if there is none."""
    value = result.get("eval_return_mean")
    return float(value) if isinstance(value, int | float) else WORST


def failed(folder: Path, line: str, trace: str = "") -> dict[str, Any]:
    """Write into a job's result.json why it failed, and keep what the file already holds.

    Args:
        folder: the job's.
        line: the error in one line.
        trace: the traceback, if there is one.

    Returns:
        The content of result.json.
    """
    from pgrun.run.result_file import write_result

    result = found(folder)
    if result["status"] not in ("failed", "diverged"):
        result = {"status": "failed"}
    result |= {"error": line, "traceback": trace}
    with suppress(OSError):  # a full disk must not stop the other jobs
        folder.mkdir(parents=True, exist_ok=True)
        write_result(folder, result)
    return result
