"""The words of a subcommand, whose refusals are one line like any other."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from pgrun.config.suggest import nearest
from pgrun.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser that raises UserError where argparse's own prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError with what is wrong, and what would be right."""
        raise UserError(f"{self.explained(message)} ({self.prog} --help)")

    def explained(self, message: str) -> str:
        """Say in plain words what argparse complains of."""
        if match := re.match(r"unrecognized arguments: (.*)", message):
            words = match[1].split()
            flag = next((word.partition("=")[0] for word in words if word.startswith("-")), "")
            if not flag:
                return f"{self.prog} has no use for {match[1]}"
            flags = [option for option in self._option_string_actions if option.startswith("--")]
            return f"{self.prog} has no {flag}; did you mean {nearest(flag, flags, 1)[0]}?"
        if match := re.match(r"argument ([^:]*): invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
            return f"{match[1].split('/')[0]} {match[2]} is not known; choose one of {match[3]}".replace("'", "")
        if match := re.match(r"argument ([^:]*): invalid \w+ value: '(.*)'", message):
            return f"{match[1].split('/')[0]} {match[2]} is no whole number"  # the only kind that arguments are read as
        if match := re.match(r"argument ([^:]*): (.*)", message):
            return f"{match[1].split('/')[0]}: {match[2]}"
        if match := re.match(r"the following arguments are required: (.*)", message):
            return f"{self.prog} needs {', '.join(word.upper() for word in match[1].split(', ') if '=' not in word)}"
        return message
