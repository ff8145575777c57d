"""The `pgrun` command: its own help and subcommands; everything else goes to the Hydra app."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pgrun import __version__
from pgrun.config.command_line import flag
from pgrun.config.groups import GROUPS, members
from pgrun.config.paths import importable
from pgrun.errors import Diverged, UserError
from pgrun.run.console import abridged, fail
from pgrun.shell import torchrun
from pgrun.shell.terminal import end_stdout, spell_what_is_lacking
from pgrun.system.signals import interrupt_on_signals

HELP = """\
pgrun trains policy-gradient reinforcement learning from configs.

usage
  pgrun [algo=NAME] [env=NAME] [key=value ...]     train; a run directory under runs/
  pgrun -m algo=A,B 'seed=range(5)' [...]          sweep: a run for every combination, under multirun/;
                                                   after a kill, the same line goes on with it
  pgrun resume RUN [total_steps=N ...]             go on from a run's last checkpoint
  pgrun eval RUN [--episodes N] [--json] [...]     evaluate a run's policy; --record FILE.npz keeps the episodes,
                                                   eval.env.KEY=value gives them another environment
  pgrun export RUN FILE.onnx|FILE.pt2 [...]        write a run's policy as one graph, from observations to actions
  pgrun reproduce RUN [--until STEP]               run it again: identical, or where the two part
  pgrun verify RUN                                 check that a run's files are as it wrote them
  pgrun list [algos|envs|...]                      what there is to choose from
  pgrun explain [KEY] [algo=NAME ...]              what a key means, what it may be, and what uses it

groups
  algo              {algos}
  algo/advantage    {advantages}
  algo/baseline     {baselines}
  algo/critic_fit   {critic_fits}
  algo/exploration  {explorations}
  env               {envs}
  env/shaping       {shapings}
  network           {networks}
  optimizer         {optimizers}
  memory            {memories}
  collector         {collectors}
  parallel          {parallel}
  +sweep            {sweeps}

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


COMMANDS = (
    "resume",
    "eval",
    "export",
    "reproduce",
    "verify",
    "list",
    "explain",
)  # each is a file of commands/, imported when it is called


def entry() -> None:
    """Run the console script and exit."""
    spell_what_is_lacking()
    interrupt_on_signals()
    code = torchrun.entry(main, sys.argv[1:])
    if "--json" in sys.argv:
        end_stdout()
    gc.freeze()  # nothing is left to collect, and to look for it takes most of a second
    sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Run a command line; return the exit code."""
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
            code: int = import_module(f"pgrun.shell.commands.{command}").main(argv[1:])
            return code
        from pgrun.shell.hydra_app import main as app

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


def help_page() -> str:
    """Return pgrun's own help; Hydra's lists every group eagerly and knows no subcommands."""
    return HELP.format(**{plural: ", ".join(members(group)) for plural, group in GROUPS.items()})
