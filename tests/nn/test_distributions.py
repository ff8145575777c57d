import math

import pytest
import torch
from torch import distributions as reference
from torch.testing import assert_close

from pgrun.nn.distributions import Bernoulli, Categorical, Gaussian, MultiCategorical, Product, TanhGaussian

SIZES = (2, 5, 3)
F64 = torch.float64


def randn(*shape):
    return torch.randn(*shape, dtype=F64)


def independent(distribution):
    return reference.Independent(distribution, 1)


PAIRS = {  # ours and torch's, from the same parameters
    "categorical": lambda x: (Categorical(x), reference.Categorical(logits=x)),
    "bernoulli": lambda x: (Bernoulli(x), independent(reference.Bernoulli(logits=x))),
    "gaussian": lambda x: (
        Gaussian(x[..., :5], x[..., 5:]),
        independent(reference.Normal(x[..., :5], x[..., 5:].exp())),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("batch", [(), (7,), (4, 3)])
def test_against_torch(name, batch):
    ours, torchs = PAIRS[name](randn(*batch, 10))
    other, torchs_other = PAIRS[name](randn(*batch, 10))
    action = torchs.sample()
    assert ours.sample().shape == action.shape
    assert_close(ours.log_prob(action), torchs.log_prob(action))
    assert_close(ours.entropy(), torchs.entropy())
    assert_close(ours.kl(other), reference.kl_divergence(torchs, torchs_other))
    assert_close(ours.kl(ours), torch.zeros(batch, dtype=F64), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (7,), (4, 3)])
def test_multi_categorical_is_the_sum_of_its_parts(batch):
    x, y = randn(*batch, sum(SIZES)), randn(*batch, sum(SIZES))
    ours, other = MultiCategorical(x, SIZES), MultiCategorical(y, SIZES)
    parts = [reference.Categorical(logits=part) for part in x.split(SIZES, -1)]
    others = [reference.Categorical(logits=part) for part in y.split(SIZES, -1)]
    action = torch.stack([p.sample() for p in parts], -1)
    log_prob = sum(p.log_prob(action[..., i]) for i, p in enumerate(parts))
    assert_close(ours.log_prob(action), log_prob)
    assert_close(ours.entropy(), sum(p.entropy() for p in parts))
    assert_close(ours.kl(other), sum(map(reference.kl_divergence, parts, others)))
    assert ours.sample().shape == (*batch, 3)
    assert torch.equal(ours.mode(), torch.stack([p.probs.argmax(-1) for p in parts], -1))


def test_a_gaussian_with_one_log_std_for_all_states():
    mean, log_std = randn(6, 3), randn(3)
    ours, torchs = Gaussian(mean, log_std), independent(reference.Normal(mean, log_std.exp().expand(6, 3)))
    action = randn(6, 3)
    assert_close(ours.log_prob(action), torchs.log_prob(action))
    assert_close(ours.entropy(), torchs.entropy())


def test_modes():
    logits = torch.tensor([[0.1, 3.0, -1.0], [2.0, 0.0, 1.0]])
    assert Categorical(logits).mode().tolist() == [1, 0]
    assert Bernoulli(logits).mode().tolist() == [[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    assert torch.equal(Gaussian(logits, logits).mode(), logits)
    assert torch.equal(TanhGaussian(logits, logits).mode(), logits.tanh())


def chi_square(counts, p):
    expected = p * counts.sum()
    return float(((counts - expected).square() / expected).sum())


def test_categorical_sampling_frequencies():
    """χ² with 4 degrees of freedom exceeds 18.5 once in a thousand."""
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5])
    n = 40_000
    counts = torch.bincount(Categorical(logits.expand(n, 5)).sample(), minlength=5).double()
    assert chi_square(counts, logits.double().softmax(-1)) < 18.5
    assert chi_square(counts, torch.full((5,), 0.2, dtype=F64)) > 1000.0


def test_multi_categorical_sampling_is_independent():
    """The six pairs of a two-way and a three-way draw: 5 degrees of freedom, 20.5 once in a thousand."""
    logits, n = torch.tensor([0.3, -0.4, 0.0, 1.0, -1.0]), 40_000
    action = MultiCategorical(logits.expand(n, 5), (2, 3)).sample()
    counts = torch.bincount(action[:, 0] * 3 + action[:, 1], minlength=6).double()
    p = torch.outer(logits[:2].double().softmax(-1), logits[2:].double().softmax(-1)).flatten()
    assert chi_square(counts, p) < 20.5


def test_bernoulli_sampling_frequencies():
    logits, n = torch.tensor([-2.0, 0.0, 1.0]), 40_000
    sample = Bernoulli(logits.expand(n, 3)).sample()
    p = logits.sigmoid()
    assert set(sample.unique().tolist()) == {0.0, 1.0}
    assert ((sample.mean(0) - p).abs() < 4.0 * (p * (1 - p) / n).sqrt()).all()


def test_gaussian_sampling_moments():
    n = 100_000
    mean, log_std = torch.tensor([1.0, -3.0]), torch.tensor([-1.0, 0.7])
    sample, std = Gaussian(mean.expand(n, 2), log_std).sample(), log_std.exp()
    assert ((sample.mean(0) - mean).abs() < 4.0 * std / math.sqrt(n)).all()
    assert ((sample.std(0) / std - 1.0).abs() < 4.0 / math.sqrt(2 * n)).all()


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, -1.0), (0.8, 0.0), (-1.5, 0.3), (0.2, 0.7)])
def test_the_squashed_gaussians_density_integrates_to_1(mean, log_std):
    """Trapezia over u = artanh a, so that the peaks at ±1 are seen too; da = (1 − tanh²u) du."""
    edge, n = 7.0, 20_001  # tanh 7 = 1 − 1.7e-6
    u = torch.linspace(-edge, edge, n, dtype=F64)
    a = u.tanh()
    pi = TanhGaussian(torch.full((n, 1), mean, dtype=F64), torch.full((n, 1), log_std, dtype=F64))
    density = pi.log_prob(a.unsqueeze(-1)).exp() * (1.0 - a.square())
    mass = torch.trapezoid(density, u).item()
    normal = reference.Normal(torch.tensor(mean, dtype=F64), math.exp(log_std))
    outside = 1.0 - (normal.cdf(torch.tensor(edge)) - normal.cdf(torch.tensor(-edge))).item()
    assert outside < 1e-3
    assert mass + outside == pytest.approx(1.0, abs=1e-6)


def test_the_squashed_gaussian_against_torch():
    mean, log_std = randn(50, 3), 0.3 * randn(50, 3)
    torchs = reference.TransformedDistribution(reference.Normal(mean, log_std.exp()), [reference.TanhTransform()])
    action = (mean + 0.5 * randn(50, 3)).tanh()
    assert_close(TanhGaussian(mean, log_std).log_prob(action), torchs.log_prob(action).sum(-1))


def test_rsample_gives_an_action_with_its_log_density_and_gradients():
    mean, log_std, noise = randn(9, 2).requires_grad_(), (0.2 * randn(9, 2)).requires_grad_(), randn(9, 2)
    action, log_prob = TanhGaussian(mean, log_std).rsample(noise)
    assert_close(action, (mean + log_std.exp() * noise).tanh())
    assert_close(log_prob, TanhGaussian(mean, log_std).log_prob(action))
    (slope,) = torch.autograd.grad(action.sum(), mean)
    assert_close(slope, 1.0 - action.detach().square())


def test_the_squashed_log_density_keeps_its_digits_where_tanh_saturates():
    """At u = 12 in float32 tanh is 1 and log(1 − a²) is −inf; the true value is about −2·12 + log 4."""
    mean, log_std = torch.tensor([12.0]), torch.tensor([-3.0])
    action, log_prob = TanhGaussian(mean, log_std).rsample(torch.zeros(1))
    assert action.item() == 1.0
    expected = 3.0 - 0.5 * math.log(2.0 * math.pi) + 24.0 - math.log(4.0)
    assert log_prob.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("mean", [-20.0, -9.0, 0.0, 3.0, 8.0, 12.0])
@pytest.mark.parametrize("log_std", [-5.0, -2.0, 0.0, 1.0])
def test_the_density_of_saturated_actions(mean, log_std):
    """In float32 every u beyond 9 is rounded to 1, and from 7 on there are few numbers left."""
    torch.manual_seed(0)
    pi = TanhGaussian(torch.full((5000, 1), mean, requires_grad=True), torch.full((5000, 1), log_std))
    action, drawn = pi.rsample(torch.randn(5000, 1))
    action = action.detach()
    found = pi.log_prob(action)
    assert found.isfinite().all()
    (slope,) = torch.autograd.grad(found.sum(), pi.base.mean)
    assert slope.isfinite().all()
    # nobody can know u from a; what is lost is the density's change over the u's that are rounded to one number, and
    # it was hundreds of thousands where the nearest u that an action was clamped to lay many σ away
    assert (found - drawn).abs().max() < 2.0 * (abs(mean) + 4.0 * math.exp(log_std)) + 10.0
    inside = action.abs() < 1.0
    if inside.any() and log_std >= 0.0:  # wider than what is rounded to one number: the density at that number
        normal = reference.Normal(torch.tensor(mean, dtype=F64), math.exp(log_std))
        torchs = reference.TransformedDistribution(normal, [reference.TanhTransform()])
        assert_close(found[inside[:, 0]].double(), torchs.log_prob(action[inside].double()), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 7.0, 9.0, 15.0])
def test_the_ratio_of_saturated_actions_has_the_mean_one(mean):
    """E_μ[π(a)/μ(a)] = 1 also where most draws are 1: their density is their probability by a width that cancels."""
    torch.manual_seed(1)
    n = 200_000
    mu, pi = (TanhGaussian(torch.full((n, 1), mean + shift), torch.full((n, 1), -0.5)) for shift in (0.0, 0.1))
    action = mu.sample()
    ratio = (pi.log_prob(action) - mu.log_prob(action)).exp()
    rounding = 0.01  # the last numbers below 1 lie half a σ apart
    assert abs(ratio.mean().item() - 1.0) < 4.0 * ratio.std().item() / math.sqrt(n) + rounding


def test_squashed_samples_stay_inside_and_follow_the_density():
    n = 40_000
    pi = TanhGaussian(torch.full((n, 1), 0.5), torch.zeros(n, 1))
    sample = pi.sample().squeeze(-1)
    assert sample.abs().max() <= 1.0
    below = (sample < 0.0).double().mean().item()
    p = reference.Normal(0.5, 1.0).cdf(torch.tensor(0.0)).item()
    assert abs(below - p) < 4.0 * math.sqrt(p * (1 - p) / n)


def product(seed=0):
    """A choice, two more, two coins and two numbers, over a batch of 4."""
    g = torch.Generator().manual_seed(seed)
    parts = [
        Categorical(torch.randn(4, 3, generator=g)),
        MultiCategorical(torch.randn(4, 5, generator=g), (2, 3)),
        Bernoulli(torch.randn(4, 2, generator=g)),
        Gaussian(torch.randn(4, 2, generator=g), torch.randn(2, generator=g)),
    ]
    return Product(parts, (1, 2, 2, 2))


def test_a_product_is_the_sum_of_its_parts():
    pi, other = product(), product(1)
    action = pi.sample()
    assert action.shape == (4, 7)
    assert action.dtype == torch.float32
    choice, two, coins, numbers = action[:, 0].long(), action[:, 1:3].long(), action[:, 3:5], action[:, 5:]
    a, b, c, d = pi.parts
    by_hand = a.log_prob(choice) + b.log_prob(two) + c.log_prob(coins) + d.log_prob(numbers)
    assert_close(pi.log_prob(action), by_hand)
    assert_close(pi.entropy(), a.entropy() + b.entropy() + c.entropy() + d.entropy())
    assert_close(pi.kl(other), sum(p.kl(q) for p, q in zip(pi.parts, other.parts, strict=True)))
    assert_close(pi.kl(pi), torch.zeros(4))
    assert torch.equal(pi.mode()[:, 0], a.mode().float())
    assert torch.equal(pi.mode()[:, 5:], d.mean)
    again = other.like(pi.params())
    assert_close(again.log_prob(action), pi.log_prob(action))
    assert_close(pi.kl(again), torch.zeros(4))


def test_a_product_s_choices_sum_to_one_and_its_entropy_is_that_of_its_draws():
    pi = product()
    choices = Product(pi.parts[:3], (1, 2, 2))
    every = torch.cartesian_prod(*(torch.arange(float(n)) for n in (3, 2, 3, 2, 2)))
    log_p = torch.stack([choices.log_prob(action.expand(4, -1)) for action in every])
    assert_close(log_p.exp().sum(0), torch.ones(4))
    assert_close(-(log_p.exp() * log_p).sum(0), choices.entropy())
    many = pi.like(pi.params()[:1].expand(40000, -1))
    assert_close(-many.log_prob(many.sample()).mean(), pi.entropy()[0], atol=0.03, rtol=0.0)
