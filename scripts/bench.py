"""Measure where the time of a run goes, and how fast it is beside another program.

    python scripts/bench.py algo=ppo env=cartpole                      # start-up, env, act, learn, the rest
    python scripts/bench.py --pairs 3 --versus 'COMMAND' algo=ppo …    # steps/s in turn with COMMAND, and the ratio

The last line that COMMAND prints is JSON with "steps_per_second". The two programs of a pair run one after the other,
on an otherwise idle machine, with one thread each; the ratio is taken pair by pair.
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
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGIN = time.perf_counter()


def main() -> int:
    """Profile a run, or race it against a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--versus", help="a command to race against")
    parser.add_argument("--pairs", type=int, default=3, help="how many pairs of runs (3)")
    parser.add_argument("overrides", nargs="*", help="as on pgrun's command line")
    args = parser.parse_args()
    return race(args.versus, args.pairs, args.overrides) if args.versus else profile(args.overrides)


def profile(overrides: list[str]) -> int:
    """Print the parts of start-up and of the loop, with their times."""
    parts: list[tuple[str, float]] = []
    mark = BEGIN

    def lap(name: str) -> None:
        nonlocal mark
        now = time.perf_counter()
        parts.append((name, now - mark))
        mark = now

    import torch  # noqa: F401

    lap("import torch")
    import hydra

    lap("import hydra")
    from pgrun.config.paths import config_dir
    from pgrun.config.resolve import resolved
    from pgrun.run import run as run_module
    from pgrun.run.build import build
    from pgrun.sweep.resolvers import register_resolvers

    lap("import pgrun, gymnasium, tensorboard")
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = resolved(hydra.compose("config", overrides=overrides))
    lap("compose")
    built = build(config)
    lap("build")
    print("start-up")
    for name, seconds in parts:
        print(f"  {name:40} {seconds:7.2f} s")

    spent: dict[str, float] = defaultdict(float)
    timed(built.collector.env, "step", spent, "env")
    timed(built.algorithm, "act", spent, "act")
    timed(built, "update", spent, "learn")
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        names = {"algo": "bench", "env": "bench"}
        one = run_module.Run(config, built, Path(folder), names=names, begin=begin, quiet=True)
        one.final_evaluation = lambda: None  # type: ignore[method-assign]
        result = one.execute()
        total = sum(one.clock.seconds.values()) + sum(one.clock.apart.values())
    spent["learn"] -= result["compile_seconds"]
    spent["compile"] = result["compile_seconds"]
    spent["evaluation"] = result["eval_seconds"]
    spent["the rest (recording, memory, logging)"] = total - sum(spent.values())
    print(f"loop: {result['env_steps']:,} steps, {result['updates']:,} updates")
    for name, seconds in spent.items():
        share = 1e6 * seconds / result["env_steps"]
        print(f"  {name:40} {seconds:7.2f} s {100 * seconds / total:5.1f} % {share:8.1f} µs a step")
    print(f"  {result['steps_per_second']:,.0f} steps/s, compile and evaluation apart")
    return 0


def timed(owner: Any, method: str, spent: dict[str, float], name: str) -> None:
    """Add the time of every call of a method to spent[name]."""
    inner: Callable[..., Any] = getattr(owner, method)

    def outer(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return inner(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - begin

    object.__setattr__(owner, method, outer)


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
