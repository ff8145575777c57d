"""The errors that pgrun reports: each is one line and an exit code."""

from __future__ import annotations

import traceback


class UserError(Exception):
    """Input that can't work: what is wrong, where, and what would be right. Exit code 2."""

    exit_code = 2


class NotTrusted(UserError):
    """A run that was not made here, and asks for what only a trusted one may."""


class CantRecord(UserError):
    """Raised for a function that no list of operations on tensors stands for, so that it can't be compiled."""


class WrongSpace(UserError):
    """An algorithm that can't act in the environment's action space."""

    def __init__(self, message: str, space: object) -> None:
        super().__init__(message)
        self.space = space


class Diverged(Exception):
    """A loss, gradient, observation or reward that is not finite. Exit code 3."""

    exit_code = 3
    remedy = "A smaller optimizer.lr or algo.max_grad_norm often helps"
    steps = 0  # environment steps up to there, from the last that the run has counted
    when = ""  # in what, in words


class EnvNotFinite(Diverged):
    """An observation or a reward that is not finite: an environment's doing, not that of learning. Exit code 3.

    Args:
        message: what of which copy.
        steps: environment steps up to there, from the last that the run has counted.
        when: after a step or a reset.
    """

    remedy = "It came from the environment, and nothing was learnt from it"

    def __init__(self, message: str, steps: int = 0, when: str = "") -> None:
        super().__init__(message)
        self.steps, self.when = steps, when


class Failed(UserError):
    """Something of the user's own that raised. Exit code 1.

    Args:
        message: who, in what, and the cause, in one line.
        trace: the traceback, for pgrun.log.
    """

    exit_code = 1

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class EnvFailed(Failed):
    """An environment that raised, exited or died."""


class HookFailed(Failed):
    """A hook of the config that raised."""


class PartFailed(Failed):
    """An algorithm, network, memory or world of the user's own that raised."""


class NotBegun(UserError):
    """An environment that does not keep to its interface, at its first reset or step: nothing was done yet."""


class failing:
    """Turns what an environment raises in the block into `EnvFailed`, and lets an interrupt pass.

    What is refused of it (UserError) before its first step is done is `NotBegun`, later it is a failure as any other.

    Args:
        who: the environment, in words.
        where: what it is asked to do: step, reset, close.
    """

    def __init__(self, who: str, where: str) -> None:
        self.who, self.where = who, where
        self.begun = False  # whether a step was done

    def __enter__(self) -> failing:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, (KeyboardInterrupt, GeneratorExit, EnvFailed, NotBegun, CantRecord)):
            return
        refused = isinstance(error, UserError)
        if refused and not self.begun:
            raise NotBegun(str(error)) from error
        why = str(error) if refused else told(error)
        raise EnvFailed(
            f"{self.who} failed in {self.where} ({why})", "".join(traceback.format_exception(error))
        ) from error


def told(error: BaseException) -> str:
    """An exception's type and message in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"


class Lost(UserError):
    """A process that a run can't go on without has died. Exit code 4."""

    exit_code = 4
