"""Numbers of `info` as curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pgrun.errors import UserError
from pgrun.loop.moments import Plan, RunHook


class Info(RunHook):
    """Makes curves of numbers that an environment puts into `info`: train/info/KEY and eval/info/KEY.

    Each is a mean over episodes. The key is_success makes train/success_rate and eval/success_rate without this hook.

    Args:
        keys: keys of `info` whose values are numbers, at each step or at an episode's end.
        over: an episode's number is that of its last step (last), the mean over its steps that have one (mean), or
            their sum (sum).
    """

    def __init__(self, *, keys: Sequence[str], over: Literal["last", "mean", "sum"]) -> None:
        if not keys:
            raise UserError("it needs keys of info to read, as 'hooks.info.keys=[distance]'")
        self.reads = dict.fromkeys(keys, over)  # type: ignore[misc]

    def check(self, plan: Plan) -> None:
        """Refuse environments without info."""
        env = getattr(plan.env, "env", plan.env)
        if not hasattr(plan.env, "infos") and not hasattr(env, "infos"):
            raise UserError(f"{type(env).__name__} has no info to read: these are Gymnasium's environments'")
