"""Kill runs or let their disk fail, resume them, and compare their ends bit for bit with undisturbed runs.

    python scripts/kills.py --minutes 30 --csv scripts/results/kills.csv

There are three kinds of cases: SIGKILL to all of a run's processes at a random moment; SIGKILL inside a call that a
checkpoint makes (half of a write is done); an I/O error from such a call. After each, the last checkpoint has to load,
every file has to match the SHA-256 beside it, and an error has to be one line. Then the run has to go on to the same
end as the undisturbed one (a3c, whose workers race, only to an end). The exit code is 1 if one of these fails.
"""

from __future__ import annotations

import argparse
import csv
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from faults import Disk
from forks import OUT, die, start, wait

from pgrun.run import checkpoint
from pgrun.run.directory import hydra_of

SHORT = ("eval.episodes=2", "eval.final_episodes=2", "log.every=64", "checkpoint.keep=2")
PPO = (
    *("algo=ppo", "network.hidden=[16]", "env.num_envs=4", "algo.rollout=32", "algo.minibatch=64", *SHORT),
    *("total_steps=1536", "checkpoint.every=128", "eval.every=256"),
)
REPLAY = (
    *("network.hidden=[16]", "num_envs=2", "memory.warmup=64", "memory.capacity=200", "memory.batch_size=16", *SHORT),
    *("total_steps=320", "checkpoint.every=40", "eval.every=80"),
)
RUNS = {
    "ppo": PPO,
    "sac": ("algo=sac", "env=pendulum", "env.max_episode_steps=30", *REPLAY),
    "ppo lstm": (*(word for word in PPO if "hidden" not in word), "network=lstm", "network.size=8"),
    "maddpg": ("algo=maddpg", "env=simple_speaker_listener", "env.max_episode_steps=7", "algo.rollout=4", *REPLAY),
    "a3c": (*("algo=a3c", "workers=2", "network.hidden=[16]", *SHORT), *PPO[-3:]),
    "ddp": (*PPO, "parallel=ddp", "workers=2"),
    "sweep": (*PPO, "+sweep=joblib", "hydra.launcher.n_jobs=2", "seed=0,1"),
}
RACING = ("a3c",)  # no two runs are equal
MOMENTS = {"ppo": 3, "sac": 3, "ppo lstm": 3, "maddpg": 2, "a3c": 1, "ddp": 1, "sweep": 1}  # how often each is drawn
PLACES = {"ppo": 4, "sac": 4, "ppo lstm": 3, "maddpg": 2, "a3c": 1, "ddp": 1}
CODES = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT)
TIMES = {"seconds", "wall_seconds", "sessions"}


@dataclass
class Row:
    """The outcomes of all cases of one kind."""

    cases: int = 0
    disturbed: int = 0  # kills and errors: of a case whose run was over before there are none, of others several
    different: int = 0  # ended otherwise than the undisturbed run
    unloadable: int = 0  # the last checkpoint did not load
    hashes: int = 0  # a file had another's SHA-256, or none
    other: int = 0  # a traceback, more or less than one line, an end that was none, something left behind
    lines: list[str] = field(default_factory=list)


def command(name: str) -> tuple[str, ...]:
    """Return the words that begin a run of this name, or a sweep."""
    return (*RUNS[name], "hydra.sweep.dir=run" if name == "sweep" else "hydra.run.dir=run")


def jobs(folder: Path) -> list[Path]:
    """List the checkpoint folders of a run or of a sweep's jobs."""
    return sorted(folder.glob("run/**/checkpoints"))


def end_of(checkpoints: Path) -> dict[str, Any]:
    """Read a run's last checkpoint, without times."""
    state = checkpoint.load(checkpoint.latest(checkpoints))
    for part in (state, state["clock"], state["board"], *state.get("ranks", [])):
        for key in TIMES & set(part):
            del part[key]
    return {key: value for key, value in state.items() if key != "config"}


def difference(a: Any, b: Any, path: str = "") -> str:
    """Find where two nested values differ by a bit; empty if they don't."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape
        return "" if same and a.numpy().tobytes() == b.numpy().tobytes() else path
    if isinstance(a, dict) and isinstance(b, dict) and list(a) == list(b):
        return next((found for key in a if (found := difference(a[key], b[key], f"{path}/{key}"))), "")
    if isinstance(a, (list, tuple)) and type(a) is type(b) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((found for i, (x, y) in pairs if (found := difference(x, y, f"{path}/{i}"))), "")
    return "" if type(a) is type(b) and (a == b or (a != a and b != b)) else path or "/"


def look(folder: Path, row: Row, name: str) -> None:
    """Count the faults in the checkpoints of a run that was disturbed."""
    for checkpoints in jobs(folder):
        for path in checkpoints.glob("*.pt"):
            if not path.is_symlink():
                want = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
                sums = path.with_name(f"{path.name}.sha256")
                if not sums.exists() or sums.read_text() != want:
                    row.hashes += 1
                    row.lines.append(f"{name}: {path.name} has not its own SHA-256")
        last = checkpoint.latest(checkpoints)
        if last.exists() or any(checkpoints.glob("step_*.pt")):
            try:
                checkpoint.load(last)
            except Exception as error:
                row.unloadable += 1
                row.lines.append(f"{name}: {error}")


def go_on(name: str, folder: Path) -> tuple[str, ...]:
    """Return the words that go on with a run, or begin it anew if it left no whole file."""
    if name == "sweep":
        return command(name)
    if hydra_of(folder / "run") is None:
        shutil.rmtree(folder / "run", ignore_errors=True)
        return command(name)
    return ("resume", "run")


def finish(name: str, folder: Path, ends: list[dict[str, Any]], row: Row) -> None:
    """Let a run go on to its end, and compare that with the end of the undisturbed run."""
    out = folder / OUT
    out.unlink(missing_ok=True)
    code = wait(start(go_on(name, folder), folder))
    if code != 0:
        row.other += 1
        row.lines.append(f"{name}: ended with {code} when it was resumed: {out.read_text()[-300:]!r}")
        return
    look(folder, row, name)
    left = list(folder.rglob("*.pgrun-tmp"))
    if left or len(jobs(folder)) != len(ends):
        row.other += 1
        row.lines.append(f"{name}: {len(jobs(folder))} runs, left behind {[path.name for path in left]}")
    for checkpoints, want in zip(jobs(folder), ends, strict=False):
        found = "" if name in RACING else difference(end_of(checkpoints), want)
        if found:
            row.different += 1
            row.lines.append(f"{name}: {found} differs")


class Undisturbed:
    """An undisturbed run: its end, its duration, and the calls that its checkpoints made."""

    def __init__(self, name: str, work: Path) -> None:
        folder = work / f"undisturbed {name}"
        folder.mkdir()
        begin = time.monotonic()
        code = wait(start(command(name), folder, Disk(die, at=None)))
        self.seconds = time.monotonic() - begin
        if code != 0:
            raise SystemExit(f"{name} can't run here: {(folder / OUT).read_text()[-2000:]}")
        self.ends = [end_of(checkpoints) for checkpoints in jobs(folder)]
        self.calls: list[str] = json.loads((folder / "calls.json").read_text())


def at_a_moment(name: str, whole: Undisturbed, folder: Path, row: Row, rng: random.Random) -> str:
    """Kill a run at a random moment, and perhaps again when it goes on."""
    words = command(name)
    while True:
        process = start(words, folder)
        if wait(process, rng.random() * whole.seconds) is not None:
            break
        row.disturbed += 1
        look(folder, row, name)
        words = go_on(name, folder)
        if rng.random() < 0.7:
            break
    return ""


def pick_call(whole: Undisturbed, rng: random.Random) -> tuple[int, str]:
    """Draw one of a checkpoint's calls: first its kind, so that rare kinds are drawn, too."""
    kind = rng.choice(sorted(set(whole.calls)))
    return rng.choice([i for i, call in enumerate(whole.calls) if call == kind]), kind


def in_a_call(name: str, whole: Undisturbed, folder: Path, row: Row, rng: random.Random) -> str:
    """Kill a run inside a call that a checkpoint makes, and return the call."""
    at, kind = pick_call(whole, rng)
    row.disturbed += wait(start(command(name), folder, Disk(die, at=at))) == -signal.SIGKILL
    look(folder, row, f"{name}, {kind}")
    return kind


def by_an_error(name: str, whole: Undisturbed, folder: Path, row: Row, rng: random.Random) -> str:
    """Let a call that a checkpoint makes fail, once or from then on; return the error and the call."""
    at, kind = pick_call(whole, rng)
    number, lasting = rng.choice(CODES), rng.random() < 0.5

    def fail() -> NoReturn:
        raise OSError(number, os.strerror(number))

    code = wait(start(command(name), folder, Disk(fail, at=at, lasting=lasting)))
    what = f"{errno.errorcode[number]} {kind}"
    row.disturbed += 1
    look(folder, row, f"{name}, {what}")
    said = (folder / OUT).read_text()
    lines = [line for line in said.splitlines() if os.strerror(number) in line]
    result = folder / "run" / "result.json"
    status = json.loads(result.read_text())["status"] if result.exists() else "none"
    # an old file stays; a folder is there; where there are no links, there is a copy
    harmless = code == 0 and status == "finished" and kind in ("unlink", "mkdir", "link")
    ended = (code == 2 and status == "failed") or harmless
    warned = [line for line in lines if line.startswith("can't delete the old checkpoint")]
    in_silence = harmless and kind == "unlink" and not warned
    if not ended or len(lines) - len(warned) != (code == 2) or in_silence or "Traceback" in said:
        row.other += 1
        row.lines.append(f"{name}, {what} at {at}: exit code {code}, status {status}, {said[-300:]!r}")
    return what


KINDS = {
    "killed at a moment": (at_a_moment, MOMENTS),
    "killed in a call": (in_a_call, PLACES),
    "an error in a call": (by_an_error, PLACES),
}
HEADER = ("what", "run", "cases", "disturbed", "different", "unloadable", "hashes", "other")


def main(argv: list[str] | None = None) -> int:
    """Disturb runs until the time is over or there were enough; return 1 if one failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="end after so long (30)")
    parser.add_argument("--count", type=int, default=None, help="or after so many cases")
    parser.add_argument("--seed", type=int, default=None, help="draw the same cases again")
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS), help="of which runs (all)")
    parser.add_argument("--csv", type=Path, default=None, help="write the table to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    seed = random.randrange(10**6) if args.seed is None else args.seed
    rng, end = random.Random(seed), time.monotonic() + 60.0 * args.minutes
    rows: dict[tuple[str, str], Row] = {}
    calls: Counter[str] = Counter()
    work = Path(tempfile.mkdtemp(prefix="kills-"))
    print(f"seed {seed}", flush=True)
    try:
        wholes = {name: Undisturbed(name, work) for name in args.runs}
        count = 0
        while time.monotonic() < end and (args.count is None or count < args.count):
            what = list(KINDS)[count % len(KINDS)]
            disturb, weights = KINDS[what]
            names = [name for name in args.runs if name in weights]
            if not names:
                count += 1
                continue
            (name,) = rng.choices(names, [weights[name] for name in names])
            row, folder = rows.setdefault((what, name), Row()), work / f"{count}"
            folder.mkdir()
            calls[disturb(name, wholes[name], folder, row, rng)] += 1
            finish(name, folder, wholes[name].ends, row)
            row.cases, count = row.cases + 1, count + 1
            for line in row.lines:
                print(f"  case {count}, {what}: {line}", flush=True)
            row.lines.clear()
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    table = [(what, name, *[getattr(row, key) for key in HEADER[2:]]) for (what, name), row in sorted(rows.items())]
    table.append(("all", "", *[sum(row[i] for row in table) for i in range(2, len(HEADER))]))
    for cells in (HEADER, *table):
        print(f"{cells[0]:20} {cells[1]:10}" + "".join(f"{x!s:>12}" for x in cells[2:]))
    print("calls: " + ", ".join(f"{call} {n}" for call, n in sorted(calls.items()) if call))
    if args.csv is not None:
        with open(args.csv, "w", newline="") as file:
            csv.writer(file).writerows([HEADER, *table])
    return int(any(table[-1][4:]))


if __name__ == "__main__":
    sys.exit(main())
