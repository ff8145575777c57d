"""Give pgrun wrong command lines and config files, made from right ones, and check its messages.

    python scripts/wrong_input.py --lines 300 --files 60 --right 100 --csv scripts/results/wrong_input.csv

Each wrong input has a single fault, so the key that the message must name is known. It has to end within 3 seconds with
exit code 2 and one line on stderr, nothing on stdout and nothing written; a right input has to run. The script's exit
code is 1 if one doesn't. The same seed gives the same cases.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from forks import start, wait
from wrong_cases import Case, cases


@dataclass
class Outcome:
    """The outcome of a case."""

    kind: str
    words: str
    code: int
    lines: int
    seconds: float
    fault: str  # what was not as it has to be; empty where all was
    said: str


def by_shell(words: list[str], folder: Path) -> tuple[int, str, str]:
    """Run `pgrun WORDS` in a folder, and return exit code, stdout and stderr."""
    end = subprocess.run([sys.executable, "-m", "pgrun", *words], cwd=folder, capture_output=True, text=True)
    return end.returncode, end.stdout, end.stderr


def by_fork(words: list[str], folder: Path) -> tuple[int, str, str]:
    """Do the same in a fork of this process.

    It has imported all that a run needs, which saves most of the time.
    """
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        code = wait(start(tuple(words), folder, out=str(out), err=str(err)))
        return -1 if code is None else code, out.read_text(), err.read_text()


def judge(case: Case, run: Callable[[list[str], Path], tuple[int, str, str]], folder: Path, limit: float) -> Outcome:
    """Run a case in an empty folder, and describe what was wrong."""
    for path, text in case.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    before = set(folder.rglob("*"))
    begin = time.perf_counter()
    code, out, err = run(case.words, folder)
    seconds = time.perf_counter() - begin
    lines, new = err.splitlines(), [str(path.relative_to(folder)) for path in folder.rglob("*") if path not in before]
    new = [name for name in new if "__pycache__" not in name]
    fault = ""
    if case.kind == "right":
        fault = "" if code == 0 else f"exit code {code}"
    elif code != 2:
        fault = f"exit code {code}"
    elif len(lines) != 1 or not lines[0].startswith("pgrun: "):
        fault = f"{len(lines)} lines"
    elif out:
        fault = "something on stdout"
    elif new:
        fault = f"wrote {new[0]}"
    elif case.names not in lines[0]:
        fault = f"does not name {case.names}"
    elif seconds > limit:
        fault = f"took {seconds:.1f} s"
    return Outcome(
        case.kind, " ".join(case.words), code, len(lines), round(seconds, 2), fault, lines[-1] if lines else ""
    )


def main() -> int:
    """Run the cases, print what was wrong, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lines", type=int, default=300, help="wrong command lines")
    parser.add_argument("--files", type=int, default=60, help="wrong config files")
    parser.add_argument("--right", type=int, default=100, help="right command lines")
    parser.add_argument("--limit", type=float, default=3.0, help="seconds that a refusal may take")
    parser.add_argument("--forks", action="store_true", help="run each in a fork, not in a Python that starts anew")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    outcomes = []
    for case in cases(args.seed, args.lines, args.files, args.right):
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(judge(case, by_fork if args.forks else by_shell, Path(folder), args.limit))
        if outcomes[-1].fault:
            print(
                f"{outcomes[-1].kind}: {outcomes[-1].fault}: {outcomes[-1].words}\n    {outcomes[-1].said}", flush=True
            )
    counts = Counter((outcome.kind, bool(outcome.fault)) for outcome in outcomes)
    for kind in sorted({outcome.kind for outcome in outcomes}):
        print(f"{kind:24} {counts[kind, False]:4} as it has to be, {counts[kind, True]} not")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(outcomes[0])))
            writer.writeheader()
            writer.writerows(asdict(outcome) for outcome in outcomes)
    return int(any(outcome.fault for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
