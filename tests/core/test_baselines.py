import re

import pytest

from pgrun.config.paths import config_dir
from pgrun.core.advantages import GAE, TD, NStep, RewardToGo, TotalReturn
from pgrun.core.baselines import BASELINES, KEYS, Average, Optimal, Value, Zero, check_combination

CRITIC = [TD(), NStep(n=3), GAE(lambda_=0.9)]


@pytest.mark.parametrize("advantage", CRITIC)
@pytest.mark.parametrize("whole", [True, False])
def test_critic_forms_need_a_learned_value(advantage, whole):
    wrong = check_combination(advantage, Zero(), whole)
    assert wrong is not None
    assert f"algo/advantage={KEYS[type(advantage).__name__]}" in wrong
    assert "algo/baseline=value" in wrong
    assert check_combination(advantage, Value(), whole) is None


@pytest.mark.parametrize("baseline", [Zero(), Value()])
def test_total_return_needs_whole_episodes(baseline):
    wrong = check_combination(TotalReturn(), baseline, False)
    assert wrong is not None
    assert "algo/advantage=total_return needs whole episodes" in wrong
    assert "add collector=episodes" in wrong
    assert check_combination(TotalReturn(), baseline, True) is None


@pytest.mark.parametrize("baseline", [Average(), Optimal(per_parameter=False)])
def test_baselines_of_the_other_trajectories_go_with_returns_of_whole_episodes(baseline):
    for advantage in (RewardToGo(), TotalReturn()):
        assert check_combination(advantage, baseline, True) is None
    assert "needs whole episodes: add collector=episodes" in check_combination(RewardToGo(), baseline, False)
    for advantage in CRITIC:
        assert "takes the place of a learned value" in check_combination(advantage, baseline, True)


@pytest.mark.parametrize("baseline", [Zero(), Value()])
@pytest.mark.parametrize("whole", [True, False])
def test_reward_to_go_goes_with_everything(baseline, whole):
    assert check_combination(RewardToGo(), baseline, whole) is None


def test_an_advantage_of_ones_own_is_called_by_its_class():
    class Mine(TD):
        pass

    wrong = check_combination(Mine(), Zero(), False)
    assert wrong is not None
    assert "algo/advantage=Mine" in wrong


def test_the_names_are_those_of_the_yaml_files():
    files = {path.stem: path.read_text() for path in (config_dir() / "algo" / "advantage").glob("*.yaml")}
    for name, key in KEYS.items():
        assert re.search(rf"^_target_: pgrun\.core\.(advantages|mixture)\.{name}$", files[key], re.MULTILINE)
    assert sorted(KEYS.values()) == sorted(files)
    files = {path.stem: path.read_text() for path in (config_dir() / "algo" / "baseline").glob("*.yaml")}
    for name, key in BASELINES.items():
        assert f"_target_: pgrun.core.baselines.{name}\n" in files[key]
    assert sorted(BASELINES.values()) == sorted(files)


def test_what_is_learned():
    assert Value().learned
    assert not Zero().learned
