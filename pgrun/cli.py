"""The `pgrun` command: its own help and subcommands; everything else goes to the Hydra app."""

from __future__ import annotations

import argparse
import errno
import gc
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from pgrun import __version__
from pgrun.command_line import flag
from pgrun.errors import Diverged, UserError
from pgrun.parallel import torchrun
from pgrun.paths import config_dir, importable
from pgrun.signals import interrupt_on_signals
from pgrun.tell import abridged, fail
from pgrun.terminal import end_stdout, spell_what_is_lacking, stdout_alone

HELP = """\
pgrun trains policy-gradient reinforcement learning from configs.

usage
  pgrun [algo=NAME] [env=NAME] [key=value ...]     train; a run directory under runs/
  pgrun -m algo=A,B 'seed=range(5)' [...]          sweep: a run for every combination, under multirun/;
                                                   after a kill, the same line goes on with it
  pgrun resume RUN [total_steps=N ...]             go on from a run's last checkpoint
  pgrun eval RUN [--episodes N] [--json] [...]     evaluate a run's policy; --record FILE.npz keeps the episodes,
                                                   eval.env.KEY=value gives them another environment
  pgrun list [algos|envs|...]                      what there is to choose from
  pgrun explain [KEY] [algo=NAME ...]              what a key means, what it may be, and what uses it

groups
  algo        {algos}
  env         {envs}
  network     {networks}
  optimizer   {optimizers}
  parallel    {parallel}
  +sweep      {sweeps}

keys that are typed often
  seed  total_steps  device  threads  compile  algo.gamma  algo.rollout  algo.epochs  algo.minibatch  memory.warmup
  env.id  env.num_envs  env.backend  env.max_episode_steps  optimizer.lr  network.hidden
  tuned=none (without what was tuned for this pair)
  workers  eval.every  eval.episodes  eval.stop_at  checkpoint.every  checkpoint.keep  hydra.run.dir

Hydra's flags work too
  --cfg job        print the composed config and stop      --config-dir DIR   your own configs beside these
  -m, --multirun   sweep                                   --hydra-help       Hydra's own help
  tab completion   eval "$(pgrun -sc install=bash)"

examples
  pgrun algo=ppo env=cartpole
  pgrun algo=sac env=pendulum seed=1 eval.every=2000
  pgrun env=gym env.id=MountainCar-v0 algo=ppo algo/advantage=nstep
  pgrun +sweep=joblib algo=reinforce,a2c,ppo 'seed=range(3)'
  pgrun '+sweep=[ppo,ray]' env=acrobot hydra.sweeper.n_trials=50
"""

GROUPS = {
    **{"algos": "algo", "envs": "env", "networks": "network", "optimizers": "optimizer"},
    **{"parallel": "parallel", "sweeps": "sweep"},
}


def entry() -> None:
    """The console script."""
    spell_what_is_lacking()
    interrupt_on_signals()
    code = torchrun.entry(main, sys.argv[1:])
    if "--json" in sys.argv:
        end_stdout()
    gc.freeze()  # nothing is left to collect, and to look for it takes most of a second
    sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Run a command line; -> the exit code."""
    command = argv[0] if argv else ""
    if command in ("-h", "--help", "help"):
        print(help_page(), end="")
        return 0
    if command == "--version":
        print(f"pgrun {__version__}")
        return 0
    try:
        add_user_paths(argv)
        if command in COMMANDS:
            return COMMANDS[command](argv[1:])
        from pgrun.app import main as app

        return app(argv)
    except UserError as error:
        return fail(str(error), error.exit_code)
    except Diverged as error:
        return fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return fail(f"{abridged(str(error.filename))}: {error.strerror}")


def add_user_paths(argv: Sequence[str]) -> None:
    """Make the working directory and a `--config-dir`'s parent importable, which a console script does not."""
    folder = flag(argv, "--config-dir", "-cd")
    paths = [str(Path.cwd()), *([str(Path(folder).resolve().parent)] if folder else [])]
    importable(paths)


def members(group: str, *folders: Path) -> dict[str, str]:
    """A config group's members, of pgrun's and of other folders, and the first line of comment in each."""
    found = {}
    for path in sorted(path for folder in (config_dir(), *folders) for path in (folder / group).glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = next((line for line in lines if line.startswith("# ") and not line.startswith("# @")), "# ")
        found[path.stem] = comment.removeprefix("# ").strip()
    return dict(sorted(found.items()))


def help_page() -> str:
    """pgrun's own help; Hydra's lists every group eagerly and knows no subcommands."""
    return HELP.format(**{plural: ", ".join(members(group)) for plural, group in GROUPS.items()})


def list_groups(argv: Sequence[str]) -> int:
    """`pgrun list [GROUP]`."""
    parser = argparse.ArgumentParser(prog="pgrun list", description="What there is to choose from.")
    parser.add_argument(
        "group", nargs="?", choices=[*GROUPS, *GROUPS.values()], metavar="GROUP", help=", ".join(GROUPS)
    )
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own configs, listed too")
    args = parser.parse_args(argv)
    wanted = {group: plural for plural, group in GROUPS.items()}.get(args.group, args.group)
    folders = [args.config_dir] if args.config_dir else []
    if folders and not folders[0].is_dir():
        raise UserError(f"--config-dir {folders[0]} is no folder")
    for plural, group in GROUPS.items():
        if wanted in (None, plural):
            print(f"{'+' * (group == 'sweep')}{group}=")
            for name, line in members(group, *folders).items():
                print(f"  {name:26} {line}")
    return 0


def explain_keys(argv: Sequence[str]) -> int:
    """`pgrun explain [KEY] [GROUP=NAME ...]`."""
    parser = argparse.ArgumentParser(prog="pgrun explain", description="What a key means, what it may be, who uses it.")
    parser.add_argument(
        "words", nargs="*", metavar="KEY", help="a key, or a word to look for; and algo=NAME, env=NAME, …"
    )
    from pgrun.explain import explain

    return explain(parser.parse_args(argv).words)


def evaluate_run(argv: Sequence[str]) -> int:
    """`pgrun eval RUN`."""
    parser = argparse.ArgumentParser(prog="pgrun eval", description="Evaluate a run's policy.")
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("--episodes", type=_positive, default=100, help="whole episodes to average over (100)")
    parser.add_argument("--seed", type=_natural, default=None, help="the environments' seed (the run's own final one)")
    parser.add_argument("--checkpoint", default="latest", help="latest, best or a file (latest)")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mode")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="eval.env.wrappers=[], eval.max_steps=N, eval.num_envs=N, …"
    )
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of yours, beside which code of yours lies")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the episodes as demonstrations (.npz)")
    args = parser.parse_intermixed_args(argv)
    with stdout_alone() if args.json else nullcontext():
        from pgrun.commands import evaluate_checkpoint
        from pgrun.hydra_start import whole_numbers

        result = evaluate_checkpoint(
            args.run,
            args.checkpoint,
            episodes=args.episodes,
            seed=args.seed,
            stochastic=args.stochastic,
            record=args.record,
            overrides=[whole_numbers(text) for text in args.overrides],
        )
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


def resume(argv: Sequence[str]) -> int:
    """`pgrun resume RUN [key=value ...]`."""
    parser = argparse.ArgumentParser(
        prog="pgrun resume",
        description="Go on from a run's last checkpoint; exactly, unless a value is changed.",
    )
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. total_steps=1000000, eval.every=5000")
    parser.add_argument("--checkpoint", default="latest", help="latest or a file (latest)")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of yours, beside which code of yours lies")
    args = parser.parse_args(argv)
    from pgrun.commands import resume_run
    from pgrun.hydra_start import whole_numbers

    return resume_run(args.run, args.checkpoint, [whole_numbers(text) for text in args.overrides])


COMMANDS = {"resume": resume, "eval": evaluate_run, "list": list_groups, "explain": explain_keys}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is not at least 0")
    return value
