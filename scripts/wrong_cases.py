"""Make wrong command lines and config files from right ones, each with a single fault, for wrong_input.py."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args, get_origin

import yaml

from pgrun.config.ranges import Range
from pgrun.config.signatures import Setting
from pgrun.config.types import core, is_list, is_plain, may_be_null, without_limits
from pgrun.config.walk import every_key
from pgrun.shell.commands.explain import composed

PAIRS = (
    *(("ppo", "cartpole"), ("a2c", "acrobot"), ("reinforce", "cartpole"), ("trpo", "pendulum"), ("dqn", "cartpole")),
    *(("sac", "pendulum"), ("td3", "pendulum"), ("acer", "cartpole"), ("grpo", "contextual_bandit")),
)
SMALL = ("total_steps=64", "num_envs=2", "eval.every=null", "eval.final_episodes=1", "eval.max_steps=50")
SHORT = {"ppo": ("algo.rollout=16", "algo.minibatch=16"), "trpo": ("algo.rollout=16",), "grpo": ("env.num_envs=8",)}
OF_NOBODY = ("env.kwargs.", "hydra.")  # what belongs to the environment's own class is not checked


@dataclass
class Case:
    """A command line, and config files, that are given to pgrun.

    Args:
        kind: the kind of fault, or `right`.
        words: the command line.
        names: words that the message must contain; empty for a right input.
        files: the user's config files, by path.
    """

    kind: str
    words: list[str]
    names: str = ""
    files: dict[str, str] = field(default_factory=dict)


@cache
def plain_settings(algo: str, env: str) -> list[tuple[str, Setting, Any]]:
    """List the keys of a pair that hold a number, a word or a list, with their values."""
    return [
        (key, setting, value)
        for key, setting, value in every_key(composed([f"algo={algo}", f"env={env}"]))
        if setting is not None and is_plain(core(setting.type)) and not key.startswith(OF_NOBODY)
    ]


class Maker:
    """Makes cases.

    Args:
        seed: of the generator of random choices.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.settings = {pair: plain_settings(*pair) for pair in PAIRS}

    def base(self, pair: tuple[str, str]) -> list[str]:
        """Return a right command line that is short to run."""
        algo, env = pair
        return [f"algo={algo}", f"env={env}", *SMALL, *SHORT.get(algo, ())]

    def wrong_line(self) -> Case:
        """Make a command line with one fault."""
        pair = self.random.choice(PAIRS)
        make: Callable[[tuple[str, str]], tuple[str, list[str], str]]
        make = self.random.choice(
            [self.of_value] * 5
            + [self.of_key] * 2
            + [self.of_member, self.of_node, self.of_new_key, self.of_syntax, self.of_environment, self.of_sweep]
        )
        kind, words, names = make(pair)
        return Case(kind, words, names)

    def wrong_value(self, pair: tuple[str, str]) -> tuple[str, str, str]:
        """Draw a key, a value that it can't have, and the kind of fault."""
        while True:
            key, setting, _ = self.random.choice(self.settings[pair])
            kinds = list(wrong_values(setting.type))
            if kinds and key not in ("eval.env",):
                kind, value = self.random.choice(kinds)
                return key, value, kind

    def of_value(self, pair: tuple[str, str]) -> tuple[str, list[str], str]:
        """Make a case with a value of a wrong type, out of its range, or none of the choices."""
        key, value, kind = self.wrong_value(pair)
        return kind, [*self.base(pair), f"{key}={value}"], key

    def of_sweep(self, pair: tuple[str, str]) -> tuple[str, list[str], str]:
        """Make the same case in a sweep, after a right value."""
        key, value, kind = self.wrong_value(pair)
        right = said(next(v for k, _, v in self.settings[pair] if k == key))
        if "," in right or "," in value or "[" in right + value:
            return self.of_value(pair)
        return f"{kind}, swept", ["-m", *self.base(pair), f"{key}={right},{value}"], key

    def misspelt(self, name: str) -> str:
        """Misspell a name by one letter too few, too many, or two in the wrong order."""
        i = self.random.randrange(1, max(len(name) - 1, 2))
        forms = [name[:i] + name[i + 1 :], name[:i] + "x" + name[i:], name[: i - 1] + name[i : i + 1] + name[i - 1]]
        return self.random.choice([form for form in forms if form not in ("", name)]) + "q"

    def of_key(self, pair: tuple[str, str]) -> tuple[str, list[str], str]:
        """Make a case with a key whose last name is misspelt."""
        key, _, value = self.random.choice(self.settings[pair])
        path, dot, name = key.rpartition(".")
        wrong = f"{path}{dot}{self.misspelt(name)}"
        return "misspelt key", [*self.base(pair), f"{wrong}={said(value)}"], wrong

    def of_member(self, pair: tuple[str, str]) -> tuple[str, list[str], str]:
        """Make a case with an unknown member of a group."""
        group = self.random.choice(["algo", "env", "network", "optimizer", "memory", "parallel", "collector"])
        wrong = self.misspelt({"algo": pair[0], "env": pair[1]}.get(group, "replay"))
        return "unknown member", [*self.base(pair), f"{group}={wrong}"], wrong

    def of_node(self, pair: tuple[str, str]) -> tuple[str, list[str], str]:
        """Make a case with a scalar where keys of its own belong."""
        key = self.random.choice(["eval", "checkpoint", "log", "diagnostics", "network", "algo", "env.kwargs"])
        value = self.random.choice(["null", "3", "true", "[64,64]"])
        if (key, value) == ("diagnostics", "null"):
            value = "3"
        return "scalar for a node", [*self.base(pair), f"{key}={value}"], key

    def of_new_key(self, pair: tuple[str, str]) -> tuple[str, list[str], str]:
        """Make a case that adds, with +, a key that nothing reads."""
        node = self.random.choice(["", "eval.", "log.", "checkpoint.", "algo.", "optimizer.", "network.", "collector."])
        key = f"{node}{self.random.choice(['foo', 'wandb', 'n_envs', 'evry', 'verbose'])}"
        return "new key", [*self.base(pair), f"+{key}={self.random.choice(['1', 'true', 'x'])}"], key

    def of_syntax(self, pair: tuple[str, str]) -> tuple[str, list[str], str]:
        """Make a case with a word that can't be read as key=value."""
        key = self.random.choice(self.settings[pair])[0]
        text = self.random.choice([key, f"{key}=[", f"{key}={{a:", f"{key}='x", f"={key}"])
        return "syntax", [*self.base(pair), text], key

    def of_environment(self, pair: tuple[str, str]) -> tuple[str, list[str], str]:
        """Make a case with an environment that doesn't exist."""
        id = self.random.choice(["CartPole-v9", "CartPoole-v1", "no_such_module:Thing-v0", "CartPole-v1/", "Thing"])
        words = ["algo=ppo", "env=gym", *SMALL, f"env.id={id}"]
        return "unknown environment", words, id.partition(":")[0]

    def wrong_file(self) -> Case:
        """Make a config file with one fault."""
        pair = self.random.choice(PAIRS)
        word = self.random.choice(["value", "value", "value", "key", "package", "syntax", "itself", "member", "target"])
        words = ["--config-dir", "conf", *self.base(pair), "+experiment=mine"]
        path, head = "conf/experiment/mine.yaml", "# @package _global_\n"
        if word == "value":
            key, value, kind = self.wrong_value(pair)
            words = [w for w in words if w.partition("=")[0] != key]
            return Case(f"file: {kind}", words, key, {path: head + nested(key, yaml.safe_load(value))})
        if word == "key":
            kind, _line, key = self.of_key(pair)
            return Case(f"file: {kind}", words, key, {path: head + nested(key, 1)})
        if word == "package":
            return Case("file: no package", words, "experiment", {path: nested("algo.gamma", 0.9)})
        if word == "syntax":
            broken = self.random.choice(
                ["seed: 1\n  log: 2\n", "algo:\n\tgamma: 1\n", "seed: [1\n", "seed: 'x\n", "a: b: c\n"]
            )
            return Case("file: syntax", words, "mine.yaml", {path: head + broken})
        if word == "itself":
            return Case("file: names itself", words, "mine.yaml", {path: head + "defaults: [mine, _self_]\nseed: 1\n"})
        if word == "member":
            wrong = self.misspelt(pair[0])
            words = [word for word in words if not word.startswith("algo")]
            return Case("file: unknown member", words, wrong, {path: f"{head}defaults:\n  - override /algo: {wrong}\n"})
        return Case("file: unknown class", words, "nowhere", {path: head + nested("network._target_", "nowhere.Net")})

    def right(self) -> Case:
        """Make a right command line, perhaps with a right file."""
        pair = self.random.choice(PAIRS)
        words, files = self.base(pair), {}
        choices = {
            **{"seed": self.random.randrange(1000), "optimizer.lr": self.random.choice([1e-4, "1e-3", 0.01])},
            **{
                "algo.gamma": self.random.choice([0.9, 1, 0.99]),
                "network.hidden": self.random.choice(["[8]", "[8,8]"]),
            },
            **{"checkpoint.keep": self.random.randrange(1, 5), "log.every": self.random.choice([10, "1e3"])},
            **{"eval.stochastic": self.random.choice(["true", "false"]), "threads": 1, "eval.stop_at": "null"},
        }
        words = [word for word in words if word.partition("=")[0] not in choices]
        for key in self.random.sample(sorted(choices), 3):
            words.append(f"{key}={choices[key]}")
        if self.random.random() < 0.3:
            words += ["--config-dir", "conf", "+experiment=mine"]
            files["conf/experiment/mine.yaml"] = "# @package _global_\n" + nested("optimizer.lr", 0.002)
        if pair[1] == "cartpole" and self.random.random() < 0.3:
            words += ["env.kwargs.sutton_barto_reward=true", "env.backend=sync"]
        if self.random.random() < 0.2:
            words += ["+mine=0.5", "algo.gamma=${mine}"]
        return Case("right", words, "", files)


def wrong_values(type_: Any) -> Iterator[tuple[str, str]]:
    """List values that a type does not allow, each with its kind of fault."""
    plain, limits = without_limits(core(type_))
    if not may_be_null(type_):
        yield "null", "null"
    if plain is bool:
        yield from (("type", "3"), ("type", "maybe"))
    elif plain is int:
        yield from (("type", "abc"), ("type", "2.5"), ("type", "true"), ("type", "[1]"))
    elif plain is float:
        yield from (("type", "high"), ("type", "true"), ("type", "nan"), ("type", "[0.5]"))
    elif is_list(plain):
        yield from (("type", "64"), ("type", "true"))
    elif get_origin(plain) is Literal:
        yield from (("choice", "nonsense"), ("choice", str(get_args(plain)[0])[:-1] + "q"))
    for limit in limits:
        if isinstance(limit, Range) and limit.low is not None and not limit.negative:
            yield "range", str(int(limit.low) - 1)
        if isinstance(limit, Range) and limit.high is not None and limit.high < 1e6:
            yield "range", str(int(limit.high) + 1)


def said(value: Any) -> str:
    """Format a value as on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "").replace("'", "")


def nested(key: str, value: Any) -> str:
    """Write YAML that gives a dotted key a value."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return yaml.safe_dump(value)


def cases(seed: int, lines: int, files: int, right: int) -> list[Case]:
    """Make so many cases of each kind."""
    maker = Maker(seed)
    found = [maker.wrong_line() for _ in range(lines)]
    found += [maker.wrong_file() for _ in range(files)]
    return found + [maker.right() for _ in range(right)]
