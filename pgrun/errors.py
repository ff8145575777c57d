"""What pgrun says when something is wrong. Each error is one line and an exit code."""


class UserError(Exception):
    """Input that can't work: what is wrong, where, and what would be right. Exit code 2."""

    exit_code = 2


class WrongSpace(UserError):
    """An algorithm that can't act in the environment's action space."""

    def __init__(self, message: str, space: object) -> None:
        super().__init__(message)
        self.space = space


class Diverged(Exception):
    """A loss, gradient, observation or reward that is not finite. Exit code 3."""

    exit_code = 3


class Lost(UserError):
    """A process that a run can't go on without has died. Exit code 4."""

    exit_code = 4
