"""A mistake in an own part's config file is told with this file's name, and with what would be right."""

import importlib
import sys
from pathlib import Path

import pytest

import pgrun
from pgrun.config.places import where, whose
from pgrun.config.templates import write
from pgrun.errors import UserError

HEADER = "# @package _global_\n"
AT_ROOT = "algo=mine sets algo.algo, which nothing reads: let its file begin with '# @package _global_', above any"
# changes of the template's file, further words of the line; what is said
WRONG = {
    "no header": ((HEADER, ""), [], AT_ROOT),
    "a header too late": ((HEADER, f"# Mine\n{HEADER}"), [], AT_ROOT),
    "no header, a group": ((HEADER, ""), ["algo/advantage=nstep"], AT_ROOT),
    "no header, a key": ((HEADER, ""), ["algo.gamma=0.5"], AT_ROOT),
    "target": (
        ("_target_", "target"),
        [],
        "algo.target should be algo._target_: it says what is made (conf/algo/mine.yaml, line 11)",
    ),
    "no target": (
        ("  _target_: own_of_places.OwnOfPlaces\n", ""),
        [],
        "algo has no _target_, which says what it makes; choose one by algo=NAME (conf/algo/mine.yaml)",
    ),
    "partial": (("_partial_", "partial"), [], "did you mean algo._partial_? (conf/algo/mine.yaml, line 12)"),
    "no partial": (
        ("  _partial_: true\n", ""),
        [],
        "algo lacks _partial_: true, as the run itself gives arguments to own_of_places.OwnOfPlaces, too "
        "(conf/algo/mine.yaml)",
    ),
    "a key too few": (("  rollout: 16\n", ""), [], "or null (conf/algo/mine.yaml)"),
    "a wrong value": (("gamma: 0.99", "gamma: 9"), [], "from 0 to 1 (conf/algo/mine.yaml, line 13)"),
    "a group as if within": (
        ("/memory: latest", "memory: latest"),
        [],
        "memory is no group within algo: write /memory: latest in conf/algo/mine.yaml",
    ),
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with an own algorithm, and other files that have the same keys."""
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    write("algo", "own_of_places", Path())
    text = Path("conf/algo/own_of_places.yaml").read_text()
    Path("conf/algo/before.yaml").write_text(text)
    Path("conf/algo/own_of_places.yaml").rename("conf/algo/mine.yaml")
    yield Path("conf/algo/mine.yaml")
    sys.modules.pop("own_of_places", None)


LONGER = ("a header too late", "no header, a key", "partial", "no target", "a wrong value")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONGER else name for name in WRONG]
)
def test_a_wrong_file_is_named(name, own):
    (old, new), words, says = WRONG[name]
    text = own.read_text()
    assert old in text
    own.write_text(text.replace(old, new))
    with pytest.raises(UserError) as refused:
        pgrun.compose("algo=mine", *words, config_dir="conf")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_file_and_the_line(own):
    folder = Path("conf").absolute()
    Path("conf/env").mkdir()
    Path("conf/env/here.yaml").write_text("defaults: [base, _self_]\nid: X\nkwargs:\n  gamma: 1\n")
    Path("conf/env/base.yaml").write_text("_target_: x.Y\nkwargs: {size: 3}\n")
    chosen = {"algo": "mine", "env": "here", "hook": "[a,b]"}
    assert where(folder, "algo.gamma", chosen) == " (conf/algo/mine.yaml, line 13)"
    assert where(folder, "env.kwargs.gamma", chosen) == " (conf/env/here.yaml, line 4)"  # and not that of algo.gamma
    assert where(folder, "env.kwargs.size", chosen) == " (conf/env/base.yaml, line 2)"
    assert where(folder, "algo.nothing", chosen) == where(None, "algo.gamma", chosen) == ""
    assert where(folder, "algo.gamma", {"algo": "ppo"}) == ""  # no file that was not composed is named
    assert whose(folder, "env", chosen) == " (conf/env/base.yaml)"
    assert whose(folder, "algo", chosen) == " (conf/algo/mine.yaml)"
    assert whose(folder, "network", chosen) == ""
