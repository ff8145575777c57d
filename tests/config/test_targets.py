"""A misspelt class is told with its module and the nearest name there, wherever a config names one."""

import importlib
import sys
from pathlib import Path

import pytest

import pgrun
from pgrun.config.targets import NotThere, find, why_not
from pgrun.config.wrapper_settings import wrapper_settings
from pgrun.errors import UserError

CODE = """
import gymnasium as gym
from pgrun.loop.moments import RunHook

class Clip(gym.Wrapper): pass
class Sure(RunHook):
    def update(self, view): pass
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    Path("of_targets.py").write_text(CODE)
    Path("broken_of_targets.py").write_text("1 / 0\n")
    yield
    sys.modules.pop("of_targets", None)


@pytest.mark.parametrize("key", ["algo._target_", "network._target_", "hooks.own._target_"])
def test_a_misspelt_class_in_a_slot(key, module):
    with pytest.raises(UserError) as refused:
        pgrun.compose(f"{key}=of_targets.Clop")
    assert str(refused.value) == f"{key}=of_targets.Clop can't be had (of_targets has no Clop (did you mean Clip?))"


def test_what_a_name_names(module, monkeypatch):
    monkeypatch.syspath_prepend(".")
    assert find("of_targets.Clip.__name__") == "Clip"
    assert find("pgrun.nn.MLP").__name__ == "MLP"
    assert callable(find("pgrun.envs.make"))  # and not the module of that name
    with pytest.raises(NotThere, match=r"^pgrun.nn has no MPL \(did you mean MLP\?\)$"):
        find("pgrun.nn.MPL")
    with pytest.raises(NotThere, match=r"^of_targets has no Nothing$"):
        find("of_targets.Nothing")
    with pytest.raises(NotThere, match=r"^there is no module nowhere; a module of yours is found in the folder where"):
        find("nowhere.at.All")
    with pytest.raises(ZeroDivisionError) as broken:
        find("broken_of_targets.Class")
    assert why_not(broken.value) == "ZeroDivisionError: division by zero"
    with pytest.raises(UserError, match=r"^env.wrappers\[0\]: of_targets has no Clop \(did you mean Clip\?\)$"):
        wrapper_settings(["of_targets.Clop"])
