"""The `pgrun` command: its own help and subcommands; everything else goes to the Hydra app."""

from __future__ import annotations

import errno
import gc
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pgrun import __version__
from pgrun.config.command_line import flag
from pgrun.config.groups import GROUPS, members
from pgrun.config.suggest import nearest
from pgrun.errors import Diverged, UserError
from pgrun.run.console import abridged, fail
from pgrun.shell import torchrun
from pgrun.shell.terminal import end_stdout, spell_what_is_lacking
from pgrun.system.signals import interrupt_on_signals
from pgrun.trust.finder import begin

HELP = """\
pgrun trains policy-gradient reinforcement learning from configs.

usage
  pgrun [algo=NAME] [env=NAME] [key=value ...]     train; a run directory under runs/
  pgrun -m algo=A,B 'seed=range(5)' [...]          sweep: a run for every combination, under multirun/;
                                                   after a kill, the same line goes on with it
  pgrun resume RUN [total_steps=N ...]             go on from a run's last checkpoint
  pgrun eval RUN [--episodes N] [--json] [...]     evaluate a run's policy; --record FILE.npz keeps the episodes,
                                                   eval.env.KEY=value gives them another environment
  pgrun play RUN [--video FILE.mp4|gif] [...]      watch a run's policy act; --episodes N --pick best|median|worst
  pgrun ... --trust                                use the code of a run that somebody else made
  pgrun runs [DIR ...] [--sort KEY] [--filter ...] list runs, here those under runs/ and multirun/
  pgrun report [DIR ...] [-o OUT]                  a page on them: learning curves and scores over seeds
  pgrun compare A B                                how two runs, or folders of runs, differ; and their results
  pgrun export RUN FILE.onnx|FILE.pt2 [...]        write a run's policy as one graph, from observations to actions
  pgrun reproduce RUN [--until STEP]               run it again: identical, or where the two part
  pgrun verify RUN                                 check that a run's files are as it wrote them
  pgrun doctor RUN [--probe] [--json]              why a run doesn't learn, and what to change
  pgrun profile [algo=NAME ...] [--ops]            where a run's time goes, from a few seconds of it
  pgrun list [algos|envs|...]                      what there is to choose from
  pgrun explain [KEY] [algo=NAME ...]              what a key means, what it may be, and what uses it
  pgrun check-env ID [KEY=VALUE ...]               what is wrong with an environment of yours
  pgrun new algo|env|network|memory|hook|package NAME   a part of your own to start from, with its test
  pgrun cache [--clear]                            the code that runs with compile=true have compiled and kept

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
  +hook             {hooks}
  +sweep            {sweeps}

keys that are typed often
  seed  total_steps  device  threads  compile  algo.gamma  algo.rollout  algo.epochs  algo.minibatch  memory.warmup
  env.id  env.num_envs  env.backend  env.max_episode_steps  env.stack  optimizer.lr  network.hidden
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


# each is a file of commands/ (with _ for -), imported when it is called
COMMANDS = (
    *("resume", "eval", "play", "runs", "report", "compare", "doctor", "export", "reproduce", "verify"),
    *("profile", "list", "explain", "check-env", "new", "cache"),
)


def entry() -> None:
    """Run the console script and exit."""
    gc.set_threshold(50_000, 10, 10)  # importing torch makes many objects that stay: to look through them takes 0.2 s
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
        find_users_code(argv)
        if command in COMMANDS:
            code: int = import_module(f"pgrun.shell.commands.{command.replace('-', '_')}").main(argv[1:])
            return code
        if re.fullmatch(r"[a-z][a-z-]*", command):
            close = nearest(command, COMMANDS, 1)[0]
            raise UserError(f"there is no command {command}; did you mean {close}? To train: pgrun algo=NAME env=NAME")
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


def find_users_code(argv: Sequence[str]) -> None:
    """Let modules that a trusted config names be found in the working directory and beside a `--config-dir`."""
    folder = flag(argv, "--config-dir", "-cd")
    begin([str(Path.cwd()), *([str(Path(folder).resolve().parent)] if folder else [])])


def help_page() -> str:
    """Return pgrun's own help; Hydra's lists every group eagerly and knows no subcommands."""
    return HELP.format(**{plural: ", ".join(members(group)) for plural, group in GROUPS.items()})
