"""Demonstrations in a CSV file: a row a step, with names of columns in the first line.

    episode      rows of one episode lie together; another value begins another episode
    obs          what was seen before the step; obs_0, obs_1, … of several numbers; obs_KEY, obs_KEY_0, … of a Dict
    action       what was done, in the environment's own units; action_0, action_1, … of several numbers
    reward       what the step was paid
    terminated   1 or true where the MDP ended with this step
    truncated    1 or true where the episode was cut after it; of these two columns one may be left out
    log_prob     optional: log μ(a|s) of the policy that acted

An episode's last row may have obs alone: what was seen at its end. It has to be there where the episode was cut.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from pgrun.errors import UserError

spaces = gym.spaces
TRUTH = {"1": True, "true": True, "1.0": True, "0": False, "false": False, "0.0": False, "": False}
ENDS = ("terminated", "truncated")


@dataclass
class Row:
    """A line of the file: its number, and the texts in its columns."""

    line: int
    texts: dict[str, str]


@dataclass
class Episode:
    """The rows of one episode; `seen` is its last observation, if the file says it."""

    rows: list[Row] = field(default_factory=list)
    seen: Row | None = None


class CsvFile:
    """A file of demonstrations, read for an environment's spaces.

    Args:
        path: of the file.
        obs_space: as a policy sees it.
        taken: the environment's own action space.
    """

    def __init__(self, path: Path, obs_space: gym.Space, taken: gym.Space) -> None:
        self.path, self.taken = path, taken
        self.parts = dict(obs_space.items()) if isinstance(obs_space, spaces.Dict) else {"": obs_space}
        self.obs_columns = {key: columns(f"obs_{key}" if key else "obs", part) for key, part in self.parts.items()}
        self.action_columns = columns("action", taken)
        self.seen_columns = [name for names in self.obs_columns.values() for name in names]

    def arrays(self) -> dict[str, np.ndarray]:
        """Read the file into arrays as those of a NumPy archive of demonstrations, with actions in their own units.

        Raises:
            UserError: the file can't be read or is wrong, with its line.
        """
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                episodes = self.episodes(self.rows(file))
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path} is no text in UTF-8, so no file of demonstrations (.csv)") from error
        except csv.Error as error:
            raise UserError(f"{self.path} is no CSV file: {error}") from error
        except OSError as error:
            raise UserError(f"{self.path} can't be read: {error.strerror or error}") from error
        if not episodes:
            raise UserError(f"{self.path} holds no steps: a row for each comes below its first line")
        steps = [row for episode in episodes for row in episode.rows]
        starts = [row is episode.rows[0] for episode in episodes for row in episode.rows]
        terminated = [self.flag(row, "terminated") for row in steps]
        ends = [row is episode.rows[-1] for episode in episodes for row in episode.rows]
        found: dict[str, Any] = {
            "actions": np.array([self.action(row) for row in steps]).reshape(len(steps), *(self.taken.shape or ())),
            "rewards": np.array([self.number(row, "reward") for row in steps], np.float32),
            "terminations": np.array(terminated),
            "truncations": np.array([end and not over for end, over in zip(ends, terminated, strict=True)]),
            "episode_starts": np.array(starts),
        }
        if "log_prob" in steps[0].texts:
            found["log_probs"] = np.array([self.number(row, "log_prob") for row in steps], np.float32)
        last = [episode.seen or episode.rows[-1] for episode in episodes]  # where it terminated nothing is read of it
        for key, part in self.parts.items():
            name = f"/{key}" if key else ""
            found[f"observations{name}"] = self.observations(steps, key, part)
            found[f"final_observations{name}"] = self.observations(last, key, part)
        return found

    def rows(self, file: Any) -> Iterator[Row]:
        """Yield the rows, checked against the first line's names of columns."""
        reader = csv.reader(file, strict=True)
        header = [name.strip() for name in next(reader, [])]
        self.check_header(header)
        for texts in reader:
            line = reader.line_num
            if not any(text.strip() for text in texts):
                continue
            if len(texts) != len(header):
                self.refuse(line, f"there are {len(texts)} values, and {len(header)} columns")
            yield Row(line, dict(zip(header, (text.strip() for text in texts), strict=True)))

    def check_header(self, header: Sequence[str]) -> None:
        """Refuse a first line that lacks a column, has one twice, or has more of an observation or action."""
        wanted = ["episode", *self.seen_columns, *self.action_columns, "reward"]
        needs = f"here it needs {', '.join(shortened(wanted))}, and terminated or truncated, with commas between them"
        if missing := [name for name in wanted if name not in header]:
            self.refuse(1, f"there is no column {missing[0]}: {needs}")
        if not set(ENDS) & set(header):
            self.refuse(1, f"there is no column terminated or truncated: {needs}")
        if twice := [name for name in header if header.count(name) > 1]:
            self.refuse(1, f"there are several columns {twice[0]}")
        more = [name for name in header if name.split("_")[0] in ("obs", "action") and name not in wanted]
        if more:
            self.refuse(1, f"the column {more[0]} is none of this environment's: {needs}")

    def episodes(self, rows: Iterator[Row]) -> list[Episode]:
        """Put the rows into episodes, and refuse one that goes on after its end, or ends nowhere."""
        found: dict[str, Episode] = {}
        name = ""
        for row in rows:
            before, name = name, row.texts["episode"]
            if not name:
                self.refuse(row.line, "it says no episode")
            if name != before and name in found:
                self.refuse(row.line, f"episode {name} goes on, but another one began in between")
            if name != before and before:
                self.check_end(before, found[before])
            episode = found.setdefault(name, Episode())
            if episode.seen is not None:
                self.refuse(row.line, f"episode {name} goes on after line {episode.seen.line}, which has no action")
            if episode.rows and any(self.flag(episode.rows[-1], end) for end in ENDS) and self.acts(row):
                self.refuse(row.line, f"episode {name} goes on after its end in line {episode.rows[-1].line}")
            if self.acts(row):
                episode.rows.append(row)
            elif not episode.rows:
                self.refuse(row.line, f"episode {name} begins with a row without {self.action_columns[0]}")
            else:
                episode.seen = row
        if name:
            self.check_end(name, found[name])
        return list(found.values())

    def check_end(self, name: str, episode: Episode) -> None:
        """Refuse an episode whose end is missing."""
        last = episode.rows[-1]
        if self.flag(last, "terminated") or episode.seen is not None:
            return
        if self.flag(last, "truncated"):
            self.refuse(last.line, f"episode {name} is cut here: a row with obs alone should say what was seen then")
        self.refuse(last.line, f"episode {name} ends here, and its last row says neither terminated nor truncated")

    def acts(self, row: Row) -> bool:
        """Return whether a row has an action, and so is a step."""
        return any(row.texts[name] for name in self.action_columns)

    def observations(self, rows: Sequence[Row], key: str, part: gym.Space) -> np.ndarray:
        """Read one part of the observations, [N, *O]."""
        values = []
        for row in rows:
            values.append([self.number(row, name) for name in self.obs_columns[key]])
            if isinstance(part, spaces.Discrete) and values[-1][0] not in range(int(part.n)):
                self.refuse(row.line, f"{self.obs_columns[key][0]} should be one of 0 … {int(part.n) - 1}")
        return np.array(values, part.dtype).reshape(len(rows), *(part.shape or ()))

    def action(self, row: Row) -> list[float]:
        """Read a step's action, and refuse one that the environment does not have."""
        values = [self.number(row, name) for name in self.action_columns]
        low, high, whole = bounds(self.taken)
        for name, value, least, most in zip(self.action_columns, values, low, high, strict=True):
            slack = 0.0 if whole else 1e-4 * max(1.0, abs(least), abs(most))  # digits that a text leaves out
            if not least - slack <= value <= most + slack or (whole and value != int(value)):
                kind = "a whole number from" if whole else "from"
                self.refuse(row.line, f"{name} is {value:g}, and should be {kind} {least:g} to {most:g}")
        return values

    def number(self, row: Row, name: str) -> float:
        """Read a number."""
        try:
            value = float(row.texts[name])
        except ValueError:
            self.refuse(row.line, f"{name} should be a number, not {row.texts[name][:40]!r}")
        if not math.isfinite(value):
            self.refuse(row.line, f"{name} is {value}, which is not finite")
        return value

    def flag(self, row: Row, name: str) -> bool:
        """Read a truth value; False where there is no such column."""
        text = row.texts.get(name, "")
        if text.lower() not in TRUTH:
            self.refuse(row.line, f"{name} should be 0 or 1, not {text[:40]!r}")
        return TRUTH[text.lower()]

    def refuse(self, line: int, why: str) -> Any:
        """Raise UserError for a line of the file."""
        raise UserError(f"{self.path}, line {line}: {why}")


def columns(name: str, space: gym.Space) -> list[str]:
    """Name the columns of what lies in a space: one, or one for each of its numbers."""
    return [f"{name}_{i}" for i in range(math.prod(space.shape))] if space.shape else [name]


def shortened(names: Sequence[str]) -> list[str]:
    """Shorten a list of many names: obs_0, …, obs_16."""
    found: list[str] = []
    for i, name in enumerate(names):
        stem, _, number = name.rpartition("_")
        inner = number.isdigit() and int(number) > 0 and i + 1 < len(names) and names[i + 1].rpartition("_")[0] == stem
        if not inner:
            found.append(name)
        elif found[-1] != "…":
            found.append("…")
    return found


def bounds(space: gym.Space) -> tuple[list[float], list[float], bool]:
    """List the lowest and highest value of each number of an action, and say whether they are whole."""
    if isinstance(space, spaces.Discrete):
        return [float(space.start)], [float(space.start + space.n - 1)], True
    if isinstance(space, spaces.MultiDiscrete):
        low = space.start.flatten()
        return low.tolist(), (low + space.nvec.flatten() - 1).tolist(), True
    if isinstance(space, spaces.Box):
        return space.low.flatten().tolist(), space.high.flatten().tolist(), np.issubdtype(space.dtype, np.integer)
    n = math.prod(space.shape or ())
    return [0.0] * n, [1.0] * n, True
