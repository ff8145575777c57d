"""The command `pgrun check-env ID`: what is wrong with an environment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pgrun.errors import UserError
from pgrun.shell.arguments import Parser
from pgrun.shell.commands.eval import natural, positive
from pgrun.shell.terminal import stdout_alone
from pgrun.trust.finder import allow


def main(argv: Sequence[str]) -> int:
    """Run `pgrun check-env ID [KEY=VALUE ...]`; return the exit code: 1 if something was found that breaks a run."""
    parser = Parser(
        prog="pgrun check-env",
        description="Say what is wrong with an environment: Gymnasium's own checker, and what pgrun needs besides.",
    )
    parser.add_argument(
        "id", help="as env.id: a registered one, module:Id-v0, a PettingZoo module, or module:Class of a World"
    )
    parser.add_argument(
        "arguments", nargs="*", metavar="key=value", help="the environment's own arguments; env.max_episode_steps=N"
    )
    parser.add_argument("--steps", type=positive, default=2000, help="random steps of the longest walk (2000)")
    parser.add_argument("--seed", type=natural, default=0, help="of the walks (0)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of yours, beside which code of yours lies")
    args = parser.parse_intermixed_args(argv)
    kwargs, limit = read(args.arguments)
    with stdout_alone() if args.json else nullcontext():
        from pgrun.envs.checkup.examine import check_environment  # imports torch: not for --help
        from pgrun.run.preflight import algorithms
        from pgrun.system.signals import interruptible

        allow({args.id.partition(":")[0].split(".")[0]})  # code of the user's own, who names it
        with interruptible():
            report = check_environment(args.id, kwargs, max_episode_steps=limit, steps=args.steps, seed=args.seed)
            able = [
                name
                for name, algorithm in algorithms().items()
                if report.action_space is not None and isinstance(report.action_space, algorithm.action_spaces)
            ]
    if args.json:
        found = [asdict(finding) for finding in report.findings]
        plain = {"id": report.name, "observations": report.observations, "actions": report.actions}
        print(json.dumps({**plain, "algorithms": able, "breaks": report.breaks, "findings": found}), flush=True)
        return int(report.breaks)
    if report.observations:
        print(f"observations  {report.observations}")
        print(f"actions       {report.actions}" + (f"; algo={', '.join(able)}" if able else ""))
    for finding in report.findings:
        right = f"; {finding.right}" if finding.right else ""
        print(f"{'wrong' if finding.breaks else 'warning':13} {finding.where}: {finding.what}{right}")
    wrong = sum(finding.breaks for finding in report.findings)
    warned = len(report.findings) - wrong
    print(f"{args.id}: {counted(wrong, 'thing')} wrong, {counted(warned, 'warning')}")
    return int(report.breaks)


def counted(n: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{n or 'no'} {what}{'s' * (n != 1)}" if n or what != "thing" else "nothing"


def read(arguments: Sequence[str]) -> tuple[dict[str, Any], int | None]:
    """Read `key=value` words as Hydra does: an environment's arguments, and `env.max_episode_steps`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from pgrun.config.quoting import unreadable

    found = OmegaConf.create()
    for text in arguments:
        if "=" not in text:
            raise UserError(f"can't read {text!r}: write key=value")
        try:
            override = OverridesParser.create().parse_override(text.lstrip("+").removeprefix("env.kwargs."))
        except HydraException as error:
            raise UserError(unreadable(text)) from error
        if override.is_sweep_override():
            raise UserError(f"{text}: one value at a time; a list is written in brackets, as [1,2]")
        try:
            OmegaConf.update(found, override.key_or_group, override.value(), force_add=True)
        except (OmegaConfBaseException, ValueError) as error:
            raise UserError(f"can't read {text}: {str(error).splitlines()[0]}") from error
    try:
        given: Any = OmegaConf.to_container(found, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"can't read {' '.join(arguments)}: {str(error).splitlines()[0]}") from error
    settings = given.pop("env", {})
    if others := [key for key in settings if key != "max_episode_steps"]:
        raise UserError(
            f"env.{others[0]} is no argument of the environment; env.kwargs.KEY and env.max_episode_steps are"
        )
    limit = settings.get("max_episode_steps")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise UserError(f"env.max_episode_steps={limit} is not a whole number of at least 1")
    return given, limit
