"""Race a run against another program: steps a second, pair by pair.

    python scripts/bench.py --pairs 3 --versus 'COMMAND' algo=ppo …    # steps/s in turn with COMMAND, and the ratio

The last line that COMMAND prints is JSON with "steps_per_second". The two programs of a pair run one after the other,
on an otherwise idle machine, with one thread each; the ratio is taken pair by pair. `pgrun profile` says where a run's
time goes.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Race a run against a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--versus", required=True, help="the command to race against")
    parser.add_argument("--pairs", type=int, default=3, help="how many pairs of runs (3)")
    parser.add_argument("overrides", nargs="*", help="as on pgrun's command line")
    args = parser.parse_args()
    return race(args.versus, args.pairs, args.overrides)


def race(versus: str, pairs: int, overrides: list[str]) -> int:
    """Run both programs in turn, and print the ratio of their steps/s."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ratios = []
    for i in range(pairs):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pgrun", *overrides, "eval.every=null", f"hydra.run.dir={folder}/run"]
            subprocess.run(command, check=True, capture_output=True, env=env)
            ours = json.loads((Path(folder) / "run" / "result.json").read_text())["steps_per_second"]
        said = subprocess.run(shlex.split(versus), check=True, capture_output=True, text=True, env=env).stdout
        theirs = json.loads(said.strip().splitlines()[-1])["steps_per_second"]
        ratios.append(ours / theirs)
        print(f"pair {i + 1}: {ours:,.0f} against {theirs:,.0f} steps/s, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
