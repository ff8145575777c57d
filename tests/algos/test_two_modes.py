"""Layers with two modes: acting, evaluating and targets are in evaluation mode, a loss is in training mode; where the
policy that learns must be the one that acted, they are refused.
"""

import dataclasses
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from recipes import ALGORITHMS, demonstrations, recipe, sampled
from running import compose
from torch import nn

from pgrun.algos.parts.on_policy import OnPolicy
from pgrun.errors import UserError
from pgrun.loop.evaluate import evaluate
from pgrun.loop.train import Clock, train
from pgrun.nn import MLP
from pgrun.nn.encoders import Encoder
from pgrun.nn.modes import two_modes
from pgrun.run import build as building
from pgrun.run.build import build


class Dropout(nn.Module):
    """Dropout as a function, as users write it."""

    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


class Behind(Encoder):
    """An encoder, and a layer behind it."""

    def __init__(self, inner, layer):
        super().__init__()
        self.inner, self.features, self.more = inner, inner.features, LAYERS[layer](inner.features)

    def forward(self, obs):
        x = self.inner(obs)
        return self.more(x.flatten(0, -2)).view_as(x)


LAYERS = {
    "Same": lambda n: nn.Identity(),
    "Dropout": lambda n: nn.Dropout(0.5),
    "function": lambda n: Dropout(),
    "BatchNorm1d": nn.BatchNorm1d,
}


@dataclasses.dataclass(kw_only=True)
class Own(MLP):
    """A network of a user's own."""

    layer: str = "Dropout"

    def encoder(self, space):
        return Behind(super().encoder(space), self.layer)


def parts(layer, *overrides, monkeypatch):
    """A run's parts with such a network."""
    config = compose(*overrides)
    plain = building.made

    def own(node, path):
        made = plain(node, path)
        return Own(**vars(made), layer=layer) if isinstance(made, MLP) else made

    monkeypatch.setattr(building, "made", own)
    return build(config)


def words(algo, folder=None):
    more = [demonstrations(folder / "x.npz", "env=cartpole")] if algo == "behaviour_cloning" else []
    return recipe(algo, "env=cartpole", "env=pendulum") + more


LEARNS = {"dqn", "sac_discrete", "sac", "sac_v1", "redq", "td3", "ddpg", "d4pg", "sql", "dpg", "behaviour_cloning"}
COMPARES = [algo for algo in ALGORITHMS if algo not in LEARNS | {"maddpg", "iddpg"}]  # these have networks of their own


def table():
    """The table of the docs: of each algorithm, what becomes of dropout, batch normalisation, and one trunk."""
    page = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text(encoding="utf-8")
    rows = re.search(r"\| `algo=` \| dropout \| batch normalisation \| one trunk \|\n\|[- |]+\n((?:\|.*\n)+)", page)[1]
    found = {}
    for row in rows.splitlines():
        algos, *says = (cell.strip() for cell in row.strip("|").split("|"))
        for algo in re.findall(r"`(\w+)`", algos):
            assert algo not in found
            found[algo] = says
    return found


TABLE = table()
REFUSALS = r"compares its policy with the one that acted|learns from whole rollouts|networks of several agents are one"


def test_the_table_has_every_algorithm():
    assert sorted(TABLE) == ALGORITHMS


@pytest.mark.parametrize("algo", sampled(ALGORITHMS, ("ppo", "trpo", "td3")))
def test_the_table_of_the_docs_is_true(algo, monkeypatch, tmp_path):
    dropout, batch_norm, trunk = TABLE[algo]
    for says, layer in ((dropout, "Dropout"), (batch_norm, "BatchNorm1d")):
        with nullcontext() if says == "runs" else pytest.raises(UserError, match=REFUSALS), monkeypatch.context() as m:
            made = parts(layer, *words(algo, tmp_path), monkeypatch=m)
            train(made.algorithm, made.collector, made.memory, Clock(40), [])
            assert all(bool(p.isfinite().all()) for p in made.algorithm.parameters())
    refused = pytest.raises(UserError, match=r"network\.shared=true must be network\.shared=false")
    with refused if trunk == "refused" else nullcontext():
        learned = ("algo/baseline=value",) if algo == "reinforce" else ()  # else it has no critic
        made = build(compose(*words(algo, tmp_path), "network.shared=true", *learned))
        train(made.algorithm, made.collector, made.memory, Clock(40), [])
        model = getattr(made.algorithm, "model", None)
        assert (model is not None and model.shared) == (trunk == "runs")
        if trunk == "no critic":
            assert model.critic is None


@pytest.mark.parametrize("algo", ["npg", "vpg", "sac", "td3"])
def test_weights_that_two_networks_have_in_common_are_refused(algo, monkeypatch):
    """Whether network.shared says so or not: each step has its parameters in a vector of its own."""
    inner = []

    def encoder(self, space):
        inner.append(MLP.encoder(self, space))
        return Behind(inner[0], "Same")

    monkeypatch.setattr(Own, "encoder", encoder)
    with pytest.raises(UserError, match=r"steps two of its networks apart, and they have weights in common"):
        parts("Same", *words(algo), monkeypatch=monkeypatch)


def test_with_dropout_the_ratio_would_not_be_1(monkeypatch):
    """The refusal has a reason: the loss's policy is another one than acted."""
    monkeypatch.setattr(OnPolicy, "check_modes", lambda self: None)
    made = parts("Dropout", *words("ppo"), "optimizer.lr=0", monkeypatch=monkeypatch)
    algorithm, seen = made.algorithm, []
    (sample,) = algorithm.minibatches(algorithm.estimate(made.collector.collect(algorithm)), 1, None)
    plain = algorithm.loss(sample, torch.tensor(0.2))[1]["policy/kl"]
    loss = algorithm.step.loss
    algorithm.step.loss = lambda *args: seen.append(loss(*args)) or seen[-1]
    algorithm.step(sample, torch.tensor(0.2))
    assert plain < 1e-9
    assert seen[0][1]["policy/kl"] > 1e-9


@pytest.mark.parametrize("algo", sampled(COMPARES, 3))
def test_where_the_policy_must_be_the_one_that_acted_they_are_refused(algo, monkeypatch):
    with pytest.raises(UserError, match=r"^\w+ compares its policy with the one that acted, and Dropout makes"):
        parts("function" if algo == "ppo" else "Dropout", *words(algo), monkeypatch=monkeypatch)


@pytest.mark.parametrize("algo", ["behaviour_cloning", "dpg"])
def test_batch_normalisation_is_refused_of_rollouts(algo, monkeypatch, tmp_path):
    with pytest.raises(UserError, match="BatchNorm1d would take its statistics"):
        parts("BatchNorm1d", *words(algo, tmp_path), monkeypatch=monkeypatch)


@pytest.mark.parametrize("layer", ["Dropout", "function", "BatchNorm1d"])
def test_acting_is_in_evaluation_mode_and_learning_in_training_mode(layer, monkeypatch):
    made = parts(layer, *words("sac_discrete"), monkeypatch=monkeypatch)
    algorithm, seen = made.algorithm, {}

    def note(name, where):
        module = two_modes(getattr(algorithm, name))[0]
        module.register_forward_pre_hook(lambda m, _: seen.setdefault((name, where[0]), set()).add(m.training))

    where = ["acting"]
    for name in ("actor", "q", "q_target"):
        note(name, where)
    act, actor_loss, critic_loss = algorithm.act, algorithm.actor_loss, algorithm.critic_loss

    def at(what, function):
        def called(*args):
            before, where[0] = where[0], what
            try:
                return function(*args)
            finally:
                where[0] = before

        return called

    algorithm.act, where[0] = at("acting", act), "elsewhere"
    algorithm.actor_step.loss, algorithm.critic_step.loss = at("actor", actor_loss), at("critic", critic_loss)
    train(algorithm, made.collector, made.memory, Clock(60), [])
    env = made.make_eval_env(2)
    evaluate(algorithm, env, 2, seed=0)
    assert seen["actor", "acting"] == {False}
    assert seen["actor", "elsewhere"] == seen["q_target", "elsewhere"] == {False}  # the targets
    assert seen["q", "critic"] == {True}
    assert seen["actor", "actor"] == {True}
    assert seen["q", "actor"] == {False}  # it is not what learns there
    assert not algorithm.training
    obs = env.reset(0)
    logits = [algorithm.actor(obs).logits for _ in range(3)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
    replica = algorithm.replica("cpu")
    assert torch.equal(replica.actor(obs).logits, logits[0])
    assert not replica.training


@pytest.mark.parametrize("algo", sorted(LEARNS - {"dpg"}))
def test_dropout_learns(algo, monkeypatch, tmp_path):
    made = parts("Dropout", *words(algo, tmp_path), monkeypatch=monkeypatch)
    train(made.algorithm, made.collector, made.memory, Clock(40), [])
    assert all(bool(p.isfinite().all()) for p in made.algorithm.parameters())


@pytest.mark.parametrize("algo", ["td3", "sac_v1", "dqn"])
def test_the_statistics_of_slow_copies_follow(algo, monkeypatch):
    made = parts("BatchNorm1d", *words(algo), "algo.tau=1", "algo.target_every=1", monkeypatch=monkeypatch)
    train(made.algorithm, made.collector, made.memory, Clock(40), [])
    name = {"td3": "actor", "sac_v1": "v", "dqn": "q"}[algo]
    learned, slow = (two_modes(getattr(made.algorithm, x))[0] for x in (name, f"{name}_target"))
    assert learned.running_mean.any()
    assert torch.equal(learned.running_mean, slow.running_mean)


def test_compiling_is_refused(monkeypatch):
    with pytest.raises(UserError, match="compile=true traces a network in one mode, and Dropout has two"):
        parts("Dropout", *words("dqn"), "compile=true", monkeypatch=monkeypatch)


def test_a_recurrent_layer_without_dropout_stays_where_cudnn_gives_gradients():
    made = build(compose("algo=ppo", "network=lstm", "network.size=4", "env=cartpole"))
    layers = [m for m in made.algorithm.modules() if isinstance(m, nn.RNNBase)]
    assert layers
    assert all(layer.training for layer in layers)
    assert not made.algorithm.model.training
