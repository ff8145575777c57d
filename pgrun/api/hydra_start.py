"""Start Hydra on the right config folders, with pgrun's plugins."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import version
from omegaconf import DictConfig, OmegaConf

from pgrun.compat import hydra as inside
from pgrun.config.command_line import user_folder
from pgrun.config.files import check_choices, check_files, root_name
from pgrun.config.paths import config_dir
from pgrun.errors import UserError
from pgrun.trust.code import top_names
from pgrun.trust.finder import allow
from pgrun.trust.kinds import check_kinds
from pgrun.trust.saved import admit_again, is_saved


def run_hydra(task: Callable[[DictConfig], Any], argv: Sequence[str], *, trust: bool = False) -> None:
    """Let Hydra compose the config and run the task on it, or on a sweep's jobs.

    Hydra would append the folder of `--config-dir` to its search path. Here the user's folder comes first, and the
    shipped one after it.

    Args:
        task: called with each composed config.
        argv: the command line.
        trust: whether a `--config-dir RUN/.hydra` of somebody else's is trusted.

    Raises:
        UserError: the command line or a config file is wrong.
    """
    args, parser, folders = read(argv, trust=trust)
    if len(folders) > 1:
        args.config_dir = str(folders[1])
    where = str(folders[0])
    inside.run_hydra(args=args, args_parser=parser, task_function=task, config_path=where, config_name=args.config_name)


def run_once(task: Callable[[DictConfig], Any], argv: Sequence[str], *, trust: bool = False) -> None:
    """Let Hydra compose the config of one run and run the task on it, without its configuration of the log.

    Args:
        task: called with the composed config.
        argv: the command line.
        trust: whether a `--config-dir RUN/.hydra` of somebody else's is trusted.

    Raises:
        UserError: the command line or a config file is wrong.
    """
    args, _, folders = read(argv, trust=trust)
    inside.run_once(task, folders, args.config_name, args.overrides)


@contextmanager
def composed(argv: Sequence[str]) -> Iterator[DictConfig]:
    """Compose the config of a command line, with its `hydra` node; Hydra is there to compose others in the block.

    Raises:
        UserError: the command line or a config file is wrong.
    """
    args, _, folders = read(argv)
    with inside.composed(folders, args.config_name, args.overrides) as config:
        yield config


def read(argv: Sequence[str], *, trust: bool = False) -> tuple[argparse.Namespace, argparse.ArgumentParser, list[Path]]:
    """Read a command line, and check the files that it names.

    Returns:
        Its words, with the name of the root config; Hydra's parser of them; and the config folders, the user's first.

    Raises:
        UserError: the command line or a config file is wrong.
    """
    version.setbase("1.3")
    inside.check_before_callbacks(check_callbacks)
    parser = inside.get_args_parser()
    args = parser.parse_intermixed_args(list(argv))  # overrides on both sides of a flag
    if args.experimental_rerun is not None:
        raise UserError("--experimental-rerun is not for runs of pgrun: pgrun resume RUN goes on with one")
    folder = user_folder(argv)
    check_choices(args.overrides, folder)
    if folder is not None:
        if is_saved(folder):
            admit_again(folder, trust=trust)
        check_files(folder)
    args.config_name = root_name(folder, argv)
    return args, parser, [config_dir()] if folder is None else [folder, config_dir()]


def check_callbacks(config: DictConfig) -> None:
    """Check a composed config's callbacks, which Hydra makes before anything else, and let their modules be found."""
    allow(top_names(OmegaConf.to_container(config, resolve=False)))
    callbacks = config.hydra.callbacks
    check_kinds(OmegaConf.to_container(callbacks, resolve=True) if callbacks else {}, "hydra.callbacks")
