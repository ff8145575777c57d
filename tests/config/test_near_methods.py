"""A method of a user's class that is nearly one of its base's is refused; helpers and shipped classes are not."""

from __future__ import annotations

from typing import Any

import faulty
import pytest
from misspelt import Misspelt
from running import compose, parts

from pgrun.algos.parts.base import Algorithm
from pgrun.algos.ppo import PPO
from pgrun.config.near_methods import check_methods
from pgrun.envs.tensor import World
from pgrun.errors import UserError
from pgrun.nn.encoders import Network
from pgrun.run.preflight import algorithms


class Learner(PPO):
    """An algorithm whose `update` is misspelt."""

    def updates(self, batch: Any) -> Any:
        """Never called."""


class Net(Network):
    """A network whose `encoder` is misspelt."""

    def encoders(self, space: Any) -> Any:
        """Never called."""


class Place(World):
    """A world whose `render` is misspelt."""

    def rendr(self, state: Any) -> Any:
        """Never called."""


class Fine(PPO):
    """Its own `update`, beside which a helper may be called alike; and another helper."""

    def update(self, batch: Any) -> Any:
        """Called."""

    def updated(self) -> None:
        """A helper."""

    def policy_loss(self) -> None:
        """A helper."""


class Stepping(Algorithm):
    """It has a helper beside the base's `steps`."""

    def step(self) -> None:
        """A helper."""


@pytest.mark.parametrize(
    ("kind", "method", "meant"),
    [
        (Misspelt, "batchs", "batches"),
        (Learner, "updates", "update"),
        (Net, "encoders", "encoder"),
        (Place, "rendr", "render"),
    ],
)
def test_a_method_that_is_nearly_the_base_s_is_refused(kind: type, method: str, meant: str) -> None:
    with pytest.raises(UserError) as refused:
        check_methods(kind, f"it: {kind.__name__}")
    line = f"it: {kind.__name__} has a method {method}, which pgrun doesn't call; did you mean {meant}?"
    assert str(refused.value).startswith(line)


def test_others_pass() -> None:
    for kind in (Fine, Stepping, faulty.Drift, dict, len, *algorithms().values()):
        check_methods(kind, "it")


def test_a_run_is_refused() -> None:
    assert compose("memory._target_=misspelt.Misspelt").memory._target_ == "misspelt.Misspelt"
    with pytest.raises(UserError, match=r"^memory: misspelt\.Misspelt has a method batchs"):
        parts("memory._target_=misspelt.Misspelt", "network.hidden=[8]")
