"""Each command line of the pages is one that pgrun takes."""

import re
import sys
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import pytest
from docs_pages import PAGES, ROOT, commands, files, inline_commands, words_of, write_files
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from run_folders import run_folder
from running import compose
from shell import pgrun_inside

from pgrun.config.command_line import any_key, whole_numbers
from pgrun.config.values import validate
from pgrun.shell.cli import COMMANDS

LONG = ("export", "reproduce", "profile")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
OF_A_SWEEP = ("-m", "--multirun")


def trained(line: str) -> list[str] | None:
    """The words of a command that trains, after `pgrun`; None of any other."""
    program, *words = words_of(line)
    if program == "torchrun":
        return words[words.index("pgrun") + 1 :]
    if program != "pgrun" or not words or words[0] in COMMANDS or words[0].startswith("--"):
        return None
    return words


def check_composes(words: list[str]) -> None:
    """Compose each choice of a swept group, and the first of each other swept value; each must pass the checks."""
    overrides = [any_key(whole_numbers(word)) for word in words if word not in OF_A_SWEEP]
    given = OverridesParser.create().parse_overrides(overrides)
    first = [choices(override)[0] for override in given]
    validate(compose(*first))
    for i, override in enumerate(given):
        for other in choices(override)[1:] if "." not in override.key_or_group else ():
            validate(compose(*first[:i], other, *first[i + 1 :]))


def choices(override):
    """Return an override's words for the jobs of a sweep, one after the other; of an interval its start."""
    if not override.is_sweep_override():
        return [override.input_line]
    key, value = override.input_line.partition("=")[0], override.value()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}"]
    swept = [f"{key}={each}" for each in override.sweep_string_iterator()]
    return swept if key != "seed" else swept[:1]


def composing(page: Path) -> list[list[str]]:
    """List a page's trainings, each once, without those that need files of the user's own."""
    found = [words for line in commands(page) if (words := trained(line)) and "--config-dir" not in words]
    return [list(words) for words in dict.fromkeys(map(tuple, found))]


@pytest.fixture
def _my_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The modules that examples of wrappers and hooks name."""
    write_files(ROOT / "docs" / "masks-wrappers-spaces.md", tmp_path)
    for name in ("sure.py", "peek.py"):
        (tmp_path / name).write_text(files(ROOT / "docs" / "your-own.md")[name])
    monkeypatch.syspath_prepend(tmp_path)

    class Clip(gym.Wrapper):
        def __init__(self, env: gym.Env, low: float) -> None: ...

    module = ModuleType("my_env")
    vars(module)["Clip"] = Clip
    monkeypatch.setitem(sys.modules, "my_env", module)


COMPOSING = [page for page in PAGES if composing(page)]


@pytest.mark.usefixtures("_my_env")
@pytest.mark.parametrize("page", COMPOSING, ids=lambda page: page.stem)
def test_what_trains_composes(page):
    """All lines of the front page, and of the other pages every third: composing one takes a while."""
    for words in composing(page)[:: 1 if page.name == "README.md" else 3]:
        check_composes(words)


@pytest.mark.slow
@pytest.mark.usefixtures("_my_env")
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_all_that_trains_composes_in_sentences_and_tables_too(page):
    inline = [words for line in dict.fromkeys(inline_commands(page)) if (words := trained(line))]
    for words in [*composing(page), *inline]:
        if "--config-dir" not in words:
            check_composes(words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the examples of a user's own parts, a run in RUN that is finished, and others to report on."""
    folder = tmp_path_factory.mktemp("docs")
    for page in ("your-own.md", "sweeps.md"):
        write_files(ROOT / "docs" / page, folder)
    short = ("num_envs=2", "algo.rollout=16", "total_steps=64", "eval.every=32", "eval.episodes=1", "eval.stop_at=0")
    ran = pgrun_inside("algo=ppo", "env=cartpole", *short, "eval.final_episodes=1", "hydra.run.dir=RUN", cwd=folder)
    assert ran.code == 0, ran.err
    for number, place in enumerate(("RUN_A", "RUN_B", "RUN_C", "runs/a", "multirun/FOLDER_A/0", "multirun/FOLDER_B/0")):
        run_folder(folder / place, score=450.0, seed=number)
    run_folder(folder / "multirun" / "FOLDER_A" / "2", algo="a2c", score=300.0)
    run_folder(folder / "multirun" / "FOLDER_A" / "1", env="acrobot", env_id="Acrobot-v1", score=-90.0)
    return folder


OTHERS = list(
    dict.fromkeys(
        line
        for page in PAGES
        for line in commands(page)
        if words_of(line)[0] == "pgrun" and (trained(line) is None or "--config-dir" in line)
    )
)


def test_there_are_such_commands():
    assert len(OTHERS) > 15
    assert sum(len(composing(page)) for page in COMPOSING) > 40


@pytest.mark.parametrize(
    "line", [pytest.param(line, marks=[pytest.mark.slow] if words_of(line)[1] in LONG else []) for line in OTHERS]
)
def test_what_does_not_train_runs(line, folder, monkeypatch):
    """A resumed run is over at once, as it has reached its `eval.stop_at`; what would train is shown."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # a window that nobody sees
    words = words_of(line)[1:]
    few = words[0] in ("eval", "play", "profile")
    words = [re.sub(r"^\d+$", "2", word) for word in words] if few else words
    shown = ["--cfg", "job"] if words[0] == "--config-dir" else []
    said = pgrun_inside(*words, *shown, cwd=folder)
    parts = words[0] == "reproduce" and any("=" in word for word in words)  # a key is changed
    assert said.code == (1 if parts else 0), said.err
    assert said.out
