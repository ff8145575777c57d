"""What is subtracted from the return: a choice beside the advantage."""

from __future__ import annotations

from dataclasses import dataclass

from pgrun.core.advantages import Advantage


class Baseline:
    """A form of baseline. `learned`: it is a critic V_φ(s), trained beside the policy."""

    learned = False


@dataclass(kw_only=True)
class Zero(Baseline):
    """No baseline: V is zero everywhere."""


@dataclass(kw_only=True)
class Value(Baseline):
    """V_φ(s_t), fitted by regression after the advantages are taken, so that the estimator stays unbiased."""

    learned = True


def check_combination(advantage: Advantage, baseline: Baseline, whole_episodes: bool) -> str | None:
    """What is wrong with combining these, or None."""
    name = KEYS.get(type(advantage).__name__, type(advantage).__name__)
    if advantage.needs_value and not baseline.learned:
        return (
            f"algo/advantage={name} needs a learned value: add algo/baseline=value, "
            "or use algo/advantage=reward_to_go or total_return"
        )
    if advantage.whole_episodes and not whole_episodes:
        return (
            f"algo/advantage={name} needs whole episodes, which algo=reinforce collects; "
            "here use algo/advantage=reward_to_go, td, nstep or gae"
        )
    return None


# what the shipped advantages are called in configs/algo/advantage/
KEYS = {"GAE": "gae", "TD": "td", "NStep": "nstep", "RewardToGo": "reward_to_go", "TotalReturn": "total_return"}
