"""K-FAC's factors against loops over samples, its step against dense solves and enumeration, in double precision."""

import functools
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete
from running import compose, same
from torch import nn
from torch.testing import assert_close

from pgrun.config.resolve import resolved
from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.nn.layers import Layers
from pgrun.optim.gradient_step import GradientStep
from pgrun.optim.kfac import KFAC, LayerRecorder
from pgrun.run.build import build, make_algorithm

PLAIN = {"lr": 1.0, "schedule": "constant", "momentum": 0.0, "damping": 0.1, "decay": 0.9, "max_kl": None}
ALWAYS = {"factor_every": 1, "inverse_every": 1}


def kfac(**changes):
    return functools.partial(KFAC, **{**PLAIN, **ALWAYS, **changes})


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Model(nn.Module):
    """Layers and a head; log p of a draw is −½|y − f(x)|² (y is data here, so that loops see the same draws)."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = Layers([3, 5, 4], "tanh", 1.0)
        self.head = nn.Linear(4, 2, bias=False)
        self.scale = nn.Parameter(torch.zeros(2))
        self.double()

    def forward(self, x):
        return self.head(self.layers.run(x)) * self.scale.exp()

    def loss(self, x, y, valid):
        error = ((self(x) - 3.0 * y).square().sum(-1) * valid).mean()
        return error, {"error": error.detach()}

    def fisher(self, x, y, valid):
        return -0.5 * (self(x) - y).square().sum(-1), valid

    def step(self, optimizer):
        return GradientStep(
            self, self.parameters(), self.loss, optimizer, max_grad_norm=None, compile=False, fisher=self.fisher
        )


def data(*batch, seed=0):
    valid = torch.rand(batch, generator=torch.Generator().manual_seed(seed)) < 0.7
    return randn(*batch, 3, seed=seed), randn(*batch, 2, seed=seed + 1), valid


# ---------------------------------------------------------------- factors


@pytest.mark.parametrize("batch", [(12,), (4, 3)])
def test_factors_are_means_over_samples(batch):
    model = Model()
    step = model.step(kfac())
    x, y, valid = data(*batch)
    found = step.optimizer.look(x, y, valid)
    names = [name for name, _ in model.named_parameters()]
    blocks = [("layers.weight0", "layers.bias0"), ("layers.weight1", "layers.bias1"), ("head.weight",)]
    keys = ["+".join(str(names.index(name)) for name in block) for block in blocks]
    assert set(found) == {f"{x}/{key}" for key in keys for x in "AS"} | {f"D/{names.index('scale')}"}

    rows = [(x[i], y[i]) for i in itertools.product(*map(range, batch)) if valid[i]]
    parameters = dict(model.named_parameters())
    for block, key in zip(blocks, keys, strict=True):
        a, s = torch.zeros_like(found[f"A/{key}"]), torch.zeros_like(found[f"S/{key}"])
        for xi, yi in rows:
            h0 = xi
            h1 = torch.tanh(parameters["layers.weight0"] @ h0 + parameters["layers.bias0"])
            h2 = torch.tanh(parameters["layers.weight1"] @ h1 + parameters["layers.bias1"])
            h = [h0, h1, h2][blocks.index(block)].detach()
            bar = torch.cat([h, h.new_ones(1)]) if len(block) == 2 else h
            log_p = model.fisher(xi, yi, None)[0]
            # DW = g āᵀ; its last column is g where there is a bias, else it is divided out of it
            if len(block) == 2:
                g = torch.autograd.grad(log_p, parameters[block[1]])[0]
            else:
                g = torch.autograd.grad(log_p, parameters[block[0]])[0] @ h / h.square().sum()
            a += torch.outer(bar, bar) / len(rows)
            s += torch.outer(g, g) / len(rows)
        assert_close(found[f"A/{key}"], a)
        assert_close(found[f"S/{key}"], s)
    score = sum(torch.autograd.grad(model.fisher(xi, yi, None)[0], model.scale)[0] for xi, yi in rows)
    assert_close(found[f"D/{names.index('scale')}"], score.square() / len(rows))


def test_factors_of_a_convolution():
    """Grosse & Martens 2016: A sums over positions, S is a mean over them; here both scaled to the same product."""
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, (3, 2), stride=2, padding=1).double()
    x, valid = randn(4, 2, 5, 4), torch.tensor([True, True, False, True])

    def fisher(x, valid):
        return layer(x).square().sum((1, 2, 3)), valid

    step = GradientStep(layer, layer.parameters(), None, kfac(), max_grad_norm=None, compile=False, fisher=fisher)
    found = step.optimizer.look(x, valid)
    padded = F.pad(x, (1, 1, 1, 1))
    height, width = layer(x).shape[2:]
    a, s = torch.zeros_like(found["A/0+1"]), torch.zeros_like(found["S/0+1"])
    for i in (0, 1, 3):
        out = layer(x[i : i + 1])[0]
        for h, w in itertools.product(range(height), range(width)):
            bar = torch.cat([padded[i, :, 2 * h : 2 * h + 3, 2 * w : 2 * w + 2].flatten(), x.new_ones(1)])
            g = 2.0 * out[:, h, w].detach()
            a += torch.outer(bar, bar) / 3
            s += torch.outer(g, g) / 3 / (height * width)
    assert_close(torch.kron(found["S/0+1"], found["A/0+1"]), torch.kron(s, a))


def test_a_layer_that_meets_a_sample_twice():
    """Uses are taken as independent: A is the mean over them, S their sum."""
    weight = nn.Parameter(randn(3, 3))
    owner = nn.ParameterList([weight])
    x, valid = randn(5, 3, seed=1), torch.tensor([True, False, True, True, True])

    def fisher(x, valid):
        return F.linear(torch.tanh(F.linear(x, weight)), weight).sum(-1), valid

    step = GradientStep(owner, owner.parameters(), None, kfac(), max_grad_norm=None, compile=False, fisher=fisher)
    found = step.optimizer.look(x, valid)
    a, s = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for i in (0, 2, 3, 4):
        h = torch.tanh(weight @ x[i]).detach()
        second = torch.ones(3, dtype=torch.float64)
        first = (1.0 - h.square()) * (weight.T @ second).detach()
        a += (torch.outer(x[i], x[i]) + torch.outer(h, h)) / 8
        s += (torch.outer(first, first) + torch.outer(second, second)) / 4
    assert_close(found["A/0"], a)
    assert_close(found["S/0"], s)


def test_rows_that_are_not_the_samples_are_refused():
    weight = nn.Parameter(randn(2, 3))
    owner = nn.ParameterList([weight])

    def fisher(x):
        return F.linear(x, weight).sum(-1)[:4], torch.ones(4)

    step = GradientStep(owner, owner.parameters(), None, kfac(), max_grad_norm=None, compile=False, fisher=fisher)
    with pytest.raises(UserError, match="sees 5 rows of 4 samples"):
        step.optimizer.look(randn(5, 3))


def test_the_tap_takes_only_layers_it_was_given():
    mine, other = nn.Linear(2, 2), nn.Linear(2, 2)
    with LayerRecorder(list(mine.parameters())) as tap:
        other(mine(torch.ones(1, 2)))
        F.linear(torch.ones(1, 2), mine.weight, other.bias)
    assert list(tap.uses) == ["0+1"]
    assert len(tap.uses["0+1"]) == 1


def test_the_diagonal_has_the_mean_of_the_squared_scores():
    """Over all draws of three coins that share one logit: E[D] = (1/3) Σ E[score²] = p(1 − p), exactly."""
    logit = nn.Parameter(torch.tensor([0.3], dtype=torch.float64))
    owner = nn.ParameterList([logit])

    def fisher(coins):
        return -F.binary_cross_entropy_with_logits(logit.expand(3), coins, reduction="none"), torch.ones(3)

    step = GradientStep(owner, owner.parameters(), None, kfac(), max_grad_norm=None, compile=False, fisher=fisher)
    p = logit.detach().sigmoid()
    mean = torch.zeros(1, dtype=torch.float64)
    for coins in itertools.product([0.0, 1.0], repeat=3):
        probability = torch.stack([p if coin else 1.0 - p for coin in coins]).prod()
        mean += probability * step.optimizer.look(torch.tensor(coins, dtype=torch.float64))["D/0"]
    assert_close(mean, p * (1.0 - p))


# ---------------------------------------------------------------- the step


class Grid(nn.Module):
    """One linear layer on every pair of an input and a score: there E[vec(gāᵀ) vec(gāᵀ)ᵀ] is A ⊗ S exactly."""

    def __init__(self, bias):
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(3, 2, bias=bias).double()
        inputs, scores = randn(5, 3, seed=2), randn(4, 2, seed=3)
        self.x = inputs.repeat_interleave(4, 0)
        self.g = scores.repeat(5, 1)
        self.target = randn(3 if not bias else 4, 2, seed=4)

    def loss(self):
        total = sum((p * t.reshape(p.shape)).sum() for p, t in zip(self.parameters(), self.directions(), strict=True))
        return total, {}

    def directions(self):
        flat = self.target.T  # a gradient of our choice, [o, n]
        return [flat[:, :3], flat[:, 3]] if self.layer.bias is not None else [flat]

    def fisher(self):
        return (self.layer(self.x) * self.g).sum(-1), torch.ones(20)

    def dense(self):
        """The Fisher matrix over (weight, bias), from each sample's own gradient."""
        rows = []
        for i in range(20):
            log_p = (self.layer(self.x[i]) * self.g[i]).sum()
            rows.append(torch.cat([p.flatten() for p in torch.autograd.grad(log_p, list(self.parameters()))]))
        scores = torch.stack(rows)
        return scores.T @ scores / 20

    def moved(self, **changes):
        """How far one step goes, [P]."""
        step = GradientStep(
            self,
            self.parameters(),
            self.loss,
            kfac(**changes),
            max_grad_norm=None,
            compile=False,
            fisher=self.fisher,
        )
        before = step.theta.clone()
        step()
        return step.theta - before, step.theta.grad.clone()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("damping", [1e-3, 0.5])
def test_the_step_is_the_exact_natural_gradient_where_the_factors_are_exact(bias, damping):
    grid = Grid(bias)
    fisher = grid.dense()
    moved, gradient = grid.moved(damping=damping)
    exact = torch.linalg.solve(fisher + damping * torch.eye(len(gradient), dtype=torch.float64), gradient)
    assert_close(moved, -exact, atol=1e-8, rtol=1e-8)


def test_a_trust_region_bounds_the_quadratic_form_of_the_step():
    grid = Grid(True)
    fisher = grid.dense()
    free, _ = grid.moved(max_kl=1e6)
    assert_close(free, grid.moved(max_kl=None)[0])
    bounded, _ = grid.moved(max_kl=1e-3)
    assert_close(0.5 * bounded @ fisher @ bounded, torch.tensor(1e-3, dtype=torch.float64))
    assert_close(F.cosine_similarity(bounded, free, 0).item(), 1.0)


def test_the_diagonal_joins_the_trust_region():
    model = Model()
    step = model.step(kfac(max_kl=1e-4, damping=1e-2))
    before = step.theta.clone()
    x, y, valid = data(50)
    step(x, y, valid)
    moved, state = step.theta - before, step.optimizer.state
    total = 0.0
    for key in [key for key in state if key.startswith(("A/", "D/"))]:
        kind, block = key.split("/")
        part = torch.cat(
            [moved[step.optimizer.places[int(k)]].view(-1, 1) for k in block.split("+")]
            if kind == "D"
            else [
                moved[step.optimizer.places[int(k)]].view(state[f"S/{block}"].shape[0], -1) for k in block.split("+")
            ],
            -1,
        ).flatten()
        matrix = state[key].diag() if kind == "D" else torch.kron(state[f"S/{block}"], state[key])
        total += 0.5 * part @ matrix @ part
    assert_close(total, torch.tensor(1e-4, dtype=torch.float64))


def test_momentum_and_schedule():
    """b ← μb + (1 − μ) η v: with v the same at each step, after three steps 1 − μ³ of a full step is taken."""
    grid = Grid(True)
    v = -grid.moved()[0]
    step = GradientStep(
        grid,
        grid.parameters(),
        grid.loss,
        kfac(momentum=0.5, lr=0.2, schedule="linear"),
        max_grad_norm=None,
        compile=False,
        fisher=grid.fisher,
    )
    step.set_progress(0.5)
    for taken in (0.5, 0.75, 0.875):
        before = step.theta.clone()
        step()
        assert_close(before - step.theta, v * 0.1 * taken)


def test_running_averages_are_plain_means_at_first():
    model = Model()
    step = model.step(kfac(decay=0.7, lr=1e-12))
    expect = None
    for k in range(1, 8):
        batch = data(9, seed=k)
        look = step.optimizer.look(*batch)
        keep = min(1.0 - 1.0 / k, 0.7)
        expect = look if expect is None else {key: keep * expect[key] + (1.0 - keep) * look[key] for key in look}
        step(*batch)
        assert_close({key: step.optimizer.state[key] for key in expect}, expect)


def test_how_often_it_looks_and_inverts():
    model = Model()
    looks = []

    def fisher(*args):
        looks.append(True)
        return model.fisher(*args)

    step = GradientStep(
        model,
        model.parameters(),
        model.loss,
        kfac(factor_every=2, inverse_every=3, lr=1e-3),
        max_grad_norm=None,
        compile=False,
        fisher=fisher,
    )
    inversions = []
    for k in range(7):
        before = step.optimizer.state.get("values_A/1+2")
        step(*data(9, seed=k))
        if step.optimizer.state["values_A/1+2"] is not before:
            inversions.append(k)
    assert len(looks) == 4
    assert inversions == [0, 3, 6]


def test_a_saved_state_goes_on_bit_for_bit():
    def steps(step, which):
        for k in which:
            step(*data(9, seed=k))
        return step

    make = kfac(momentum=0.9, lr=0.1, factor_every=2, inverse_every=3, max_kl=1e-3)
    through = steps(Model().step(make), range(9))
    half = steps(Model().step(make), range(4))  # between two looks and two inversions
    saved = {key: value.clone() for key, value in half.optimizer.state_dict().items()}
    assert all(isinstance(value, torch.Tensor) for value in saved.values())
    rest = Model().step(make)
    rest.theta.copy_(half.theta)
    rest.optimizer.load_state_dict(saved)
    steps(rest, range(4, 9))
    assert torch.equal(rest.theta, through.theta)
    assert same(rest.optimizer.state_dict(), through.optimizer.state_dict())


# ---------------------------------------------------------------- with algorithms


def test_the_fisher_matrix_is_the_models_own():
    """Of one state, many times: S of the policy's head is diag(p) − ppᵀ, of the value's head 1."""
    parts = build(compose("algo=acktr", "env=cartpole", "network.head_gain=2", "num_envs=4", "algo.rollout=5"))
    algorithm = parts.algorithm
    rollout = parts.collector.collect(algorithm)
    n = 40_000
    obs = torch.tensor([0.5, -0.3, 0.8, 0.1]).expand(n, 4)
    batch = rollout._replace(obs=obs, valid=torch.ones(n, dtype=torch.bool))
    names = [name for name, _ in algorithm.model.named_parameters()]
    found = algorithm.step.optimizer.look(batch)

    def s(head):
        return found[f"S/{names.index(f'{head}.weight')}+{names.index(f'{head}.bias')}"]

    p = algorithm.model.actor(obs[0]).logits.softmax(-1).detach()
    assert 0.05 < p[0] < 0.95
    assert_close(s("actor.head.layer"), p.diag() - torch.outer(p, p), atol=0.005, rtol=0.02)
    assert_close(s("critic.head"), torch.ones(1, 1), atol=0.03, rtol=0.0)
    parts.collector.env.close()


@pytest.mark.parametrize("squash", [False, True])
def test_the_fisher_matrix_of_a_gaussian_whose_sigma_depends_on_the_state(squash):
    """S of the head's 2n outputs is J diag(1/σ², 2) Jᵀ, J the slopes of μ and log σ in them, squashed or not."""
    network = ("network.std=state", f"network.squash={squash}", "network.log_std_init=0.7")
    parts = build(compose("algo=acktr", "env=pendulum", *network, "num_envs=4", "algo.rollout=5"))
    algorithm = parts.algorithm
    rollout = parts.collector.collect(algorithm)
    n = 40_000
    obs = torch.tensor([0.5, -0.3, 0.8]).expand(n, 3)
    batch = rollout._replace(obs=obs, valid=torch.ones(n, dtype=torch.bool))
    names = [name for name, _ in algorithm.model.named_parameters()]
    found = algorithm.step.optimizer.look(batch)
    place = "+".join(str(names.index(f"actor.head.layer.{x}")) for x in ("weight", "bias"))
    log_std = float(algorithm.model.actor(obs[0]).log_std)
    slope = 1.0 - ((log_std + 1.5) / 3.5) ** 2  # of −1.5 + 3.5 tanh((x + 1.5) / 3.5)
    assert 0.3 < slope < 0.7
    want = torch.tensor([[math.exp(-2.0 * log_std), 0.0], [0.0, 2.0 * slope**2]])
    assert_close(found[f"S/{place}"], want, atol=0.01, rtol=0.04)
    parts.collector.env.close()


@pytest.mark.parametrize(
    "overrides",
    [
        ("algo=ppo", "env=pendulum", "algo.rollout=16", "algo.minibatch=32"),  # log σ has a diagonal
        ("algo=ppo", "env=pendulum", "algo.rollout=16", "algo.minibatch=32", "network.std=state"),
        # σ, scales and shifts have a diagonal
        (
            "algo=ppo",
            "env=pendulum",
            "algo.rollout=16",
            "algo.minibatch=32",
            "network.std=sde",
            "network.layer_norm=true",
        ),
        ("algo=reinforce", "algo/baseline=none", "env=cartpole"),
        ("algo=a2c", "env=cartpole", "network=lstm"),  # the cell has a diagonal
        ("algo=a2c", "env=cartpole", "env.autoreset=next_step", "env.backend=sync"),
    ],
)
def test_it_steps_with(overrides):
    parts = build(compose(*overrides, "optimizer=kfac", "num_envs=4", "total_steps=1000"))
    before = parts.algorithm.step.theta.clone()
    for _ in range(3):
        metrics = parts.algorithm.update(parts.collector.collect(parts.algorithm))
        assert all(torch.isfinite(value) for value in metrics.values())
    moved = parts.algorithm.step.theta != before
    assert moved.float().mean() > 0.9
    parts.collector.env.close()


def test_layers_that_multiply_in_bfloat16_are_seen():
    parts = build(compose("algo=a2c", "env=cartpole", "optimizer=kfac", "num_envs=4", "matmul_precision=bfloat16"))
    parts.algorithm.update(parts.collector.collect(parts.algorithm))
    state = parts.algorithm.step.optimizer.state
    assert any(key.startswith("A/") for key in state)
    assert not any(key.startswith("D/") for key in state)
    parts.collector.env.close()


def test_images():
    space = Box(0, 255, (1, 12, 12), "uint8")
    config = compose("algo=a2c", "optimizer=kfac", "network=cnn", "network.channels=[2,2,2]", "network.hidden=[8]")
    algorithm = make_algorithm(resolved(config), SimpleNamespace(obs_space=space, action_space=Discrete(3)))
    shape = (3, 2)
    obs = torch.randint(255, (*shape, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(shape)
    batch = Transition(obs, ones.long(), ones, ones, obs, ones.bool(), ones.bool(), {})
    before = algorithm.step.theta.clone()
    algorithm.update(batch)
    state = algorithm.step.optimizer.state
    assert not any(key.startswith("D/") for key in state)
    assert (algorithm.step.theta != before).float().mean() > 0.5


def test_an_algorithm_without_a_likelihood_is_refused():
    with pytest.raises(UserError, match=r"^optimizer=kfac .* algo=acktr$"):
        build(compose("algo=sac", "env=pendulum", "optimizer=kfac", "memory.capacity=1000"))
