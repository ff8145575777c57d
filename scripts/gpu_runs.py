"""Parts that the measurements on a GPU share: runs and other programs that are timed, a table, a CSV."""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from runs import execute

FIELDS = ("row", "steps_per_second", "with_all", "seconds_to_solved", "env_steps", "startup_seconds", "note", "command")
Line = dict[str, Any]


def arguments(description: str, seconds: int) -> argparse.ArgumentParser:
    """Make the parser of the arguments that all such scripts have.

    Args:
        description: the script's.
        seconds: after which a run is given up, unless another number is asked for.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--peer", action="append", default=[], metavar="COMMAND", help="its last line printed is JSON")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try it, without graphs")
    parser.add_argument("--seconds", type=int, default=seconds, help=f"after which a run is given up ({seconds})")
    return parser


def check_device(device: str) -> None:
    """End the script with one line where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU here; --device cpu tries the script without one", file=sys.stderr)
        sys.exit(2)


def timed(row: str, words: Sequence[str], seconds: int, threshold: float | None = None) -> Line:
    """Run pgrun, and return a line of the table.

    Args:
        row: the line's name.
        words: as on pgrun's command line.
        seconds: after which it is given up.
        threshold: the return of an evaluation from which the task counts as solved; None: that isn't measured.
    """
    command = ["pgrun", *words]
    line: Line = {"row": row, "command": shlex.join(command)}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        try:
            done = execute([*command, f"hydra.run.dir={place}"], Path(folder), seconds)
        except subprocess.TimeoutExpired:
            return {**line, "note": f"not over after {seconds} s"}
        if done.returncode or not (place / "result.json").exists():
            return {**line, "note": (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]}
        found = json.loads((place / "result.json").read_text())
        log = (place / "pgrun.log").read_text() if (place / "pgrun.log").exists() else ""
    looped = found["wall_seconds"] - found["startup_seconds"]
    best = found["best_eval_return_mean"]
    solved = threshold is not None and best is not None and best >= threshold
    told = [text.partition("graph=true: ")[2] for text in log.splitlines() if "graph=true: " in text]
    return {
        **line,
        "steps_per_second": found["steps_per_second"],
        "with_all": round(found["env_steps"] / looped, 1),
        "seconds_to_solved": round(looped, 2) if solved else None,
        "env_steps": found["env_steps"],
        "startup_seconds": found["startup_seconds"],
        "note": "; ".join(told),
    }


def peer(command: str, seconds: int) -> Line:
    """Run another program, and return its line: of the JSON that it prints last."""
    line: Line = {"row": f"peer: {command}", "command": command}
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=seconds)
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {**line, "note": f"{type(error).__name__}: its last line is no JSON, or it was not over in {seconds} s"}
    return {
        **line,
        "steps_per_second": found.get("steps_per_second", found.get("sps")),
        "seconds_to_solved": found.get("seconds_to_solved", found.get("to475")),
        "note": json.dumps(found),
    }


def finish(lines: Iterable[Line], out: Path) -> int:
    """Print lines as they come, write them to a CSV and print the table; return the exit code."""
    table: list[Line] = []
    for line in lines:
        table.append(line)
        print(told(line), flush=True)
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS, restval="")
            writer.writeheader()
            writer.writerows(table)
    print(
        "\n| | steps/s | with evaluations, curves, checkpoints | seconds to solved | |\n| --- | --- | --- | --- | --- |"
    )
    for line in table:
        cells = (line["row"], *(shown(line.get(key)) for key in FIELDS[1:4]), line.get("note") or "")
        print(f"| {' | '.join(cells)} |")
    print(f"\n{device_name()}, torch {torch.__version__}; {out}")
    return 0


def told(line: Line) -> str:
    """Say a line in words."""
    return f"{line['row']}: {shown(line.get('steps_per_second'))} steps/s {line.get('note') or ''}".rstrip()


def shown(x: float | None) -> str:
    """Write a number for people; nothing where there is none."""
    if x is None or x == "":
        return ""
    return f"{x:,.0f}" if x >= 100 else f"{x:g}"


def device_name() -> str:
    """Name the GPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
