"""The command `pgrun eval RUN`: the return of a run's policy over whole episodes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from pgrun.run.console import on_stderr, remarks_by
from pgrun.shell.arguments import Parser
from pgrun.shell.terminal import stdout_alone


def main(argv: Sequence[str]) -> int:
    """Run `pgrun eval RUN`; return the exit code."""
    parser = Parser(prog="pgrun eval", description="Evaluate a run's policy.")
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("--episodes", type=positive, default=100, help="whole episodes to average over (100)")
    parser.add_argument("--seed", type=natural, default=None, help="the environments' seed (the run's own final one)")
    parser.add_argument("--checkpoint", default="latest", help="latest, best or a file (latest)")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mode")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="eval.env.wrappers=[], eval.max_steps=N, eval.num_envs=N, …"
    )
    parser.add_argument("--trust", action="store_true", help="use the code of a run that was not made here")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of yours, beside which code of yours lies")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the episodes as demonstrations (.npz)")
    args = parser.parse_intermixed_args(argv)
    with stdout_alone() if args.json else nullcontext():
        from pgrun.api.training import evaluate  # imports torch: not for --help

        names = ("episodes", "seed", "checkpoint", "stochastic", "record", "trust")
        with remarks_by(on_stderr):
            result = evaluate(args.run, *args.overrides, **{name: getattr(args, name) for name in names})
    if args.json:
        print(json.dumps(result), flush=True)
    else:
        mean, std, n = (result[f"eval_{key}"] for key in ("return_mean", "return_std", "episodes"))
        kind = "stochastic" if result["eval_stochastic"] else "deterministic"
        print(f"{result['algo']} on {result['env']} after {result['env_steps']:,} steps ({args.checkpoint}, {kind}):")
        means = {key[5:-5]: result[key] for key in result if key.startswith("eval_") and key.endswith("_mean")}
        others = "".join(f", {name} {value:.1f}" for name, value in means.items() if name != "return")
        print(f"return {mean:.1f} ± {std:.1f} over {n} episodes{others}")
    return 0


def positive(text: str) -> int:
    """Read a number that is at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def natural(text: str) -> int:
    """Read a number that is at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is not at least 0")
    return value
