"""Natural gradients and trust regions against dense algebra, enumerated scores and formulas by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from pgrun.core.trust_region import boundary, conjugate_gradient, flat_gradient, hessian_product, line_search
from pgrun.nn.distributions import Bernoulli, Categorical, Gaussian, MultiCategorical


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def positive(n, rank):
    """A symmetric matrix [n, n] of this rank, eigenvalues above zero otherwise."""
    x = torch.randn(n, rank)
    return x @ x.T / rank


def dense(product, n):
    """The matrix of a product."""
    return torch.stack([product(e) for e in torch.eye(n)], -1)


# conjugate gradient


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_conjugate_gradient_is_the_dense_solve(damping):
    a, b = positive(30, 40), torch.randn(30)
    x = conjugate_gradient(a.mv, b, iterations=60, tolerance=1e-13, damping=damping)
    assert_close(x, torch.linalg.solve(a + damping * torch.eye(30), b), rtol=1e-7, atol=1e-7)


def test_of_a_singular_matrix_it_is_the_pseudo_inverse():
    a = positive(30, 12)
    b = a @ torch.randn(30)
    x = conjugate_gradient(a.mv, b, iterations=30, tolerance=1e-12)
    assert_close(x, torch.linalg.pinv(a, hermitian=True) @ b, rtol=1e-7, atol=1e-7)


def test_it_ends_after_as_many_steps_as_there_are_eigenvalues():
    """With k of them exactly k: products are counted."""
    basis = torch.linalg.qr(torch.randn(20, 20)).Q
    a = basis @ torch.diag(torch.tensor([1.0, 3.0, 8.0, 20.0]).repeat(5)) @ basis.T
    seen = []
    b = torch.randn(20)
    x = conjugate_gradient(lambda v: seen.append(1) or a @ v, b, iterations=100, tolerance=1e-10)
    assert len(seen) == 4
    assert_close(a @ x, b)


def test_each_step_is_the_best_of_its_krylov_space():
    """After k steps x minimises ½xᵀAx − bᵀx over span{b, Ab, …}, so xᵀAx = xᵀb."""
    a, b = positive(12, 30), torch.randn(12)
    for k in (1, 3, 5):
        x = conjugate_gradient(a.mv, b, iterations=k, tolerance=0.0)
        krylov = torch.linalg.qr(torch.stack([torch.linalg.matrix_power(a, i) @ b for i in range(k)], -1)).Q
        best = krylov @ torch.linalg.solve(krylov.T @ a @ krylov, krylov.T @ b)
        assert_close(x, best, rtol=1e-6, atol=1e-8)
        assert_close(x @ a @ x, x @ b)


def test_the_tolerance_is_relative():
    a, b = positive(30, 60), torch.randn(30)
    for scale in (1e-9, 1.0, 1e9):
        x = conjugate_gradient(a.mv, scale * b, iterations=100, tolerance=1e-3)
        residual = torch.linalg.vector_norm(a @ x - scale * b) / torch.linalg.vector_norm(scale * b)
        assert 1e-6 < residual < 1e-3


def test_of_zero_it_is_zero_and_of_nothing_but_rounding_it_stops():
    assert conjugate_gradient(positive(5, 5).mv, torch.zeros(5), iterations=10, tolerance=0.0).tolist() == [0.0] * 5
    assert conjugate_gradient(torch.zeros_like, torch.ones(5), iterations=10, tolerance=0.0).tolist() == [0.0] * 5


# Fisher matrices


def scores(log_prob, theta):
    """∇log π of each of N log-probabilities [N]; -> [N, P]."""
    return torch.stack([torch.autograd.grad(x, theta, retain_graph=True)[0].flatten() for x in log_prob])


def features():
    return torch.randn(6, 3)  # [S, F]


def fisher(make, theta):
    """The Hessian of the mean KL at theta: product on each unit vector."""
    pi = make(theta)
    y = pi.like(pi.params().detach()).kl(pi).mean()
    assert abs(float(y.detach())) < 1e-12
    return dense(hessian_product(y, [theta]), theta.numel())


def enumerated(make, theta, actions):
    """F = mean over states of Σ_a π(a|s) g gᵀ, g the score; actions [A, S, ...]."""
    total = 0.0
    for action in actions:
        log_prob = make(theta).log_prob(action)
        g = scores(log_prob, theta)
        total = total + g.T @ torch.diag(log_prob.exp().detach()) @ g / len(g)
    return total


def test_fisher_of_a_categorical_is_the_mean_square_of_scores():
    s, theta = features(), torch.randn(3, 4, requires_grad=True)

    def make(theta):
        return Categorical(torch.tanh(s @ theta) * 2.0)

    actions = [torch.full((6,), a) for a in range(4)]
    assert_close(fisher(make, theta), enumerated(make, theta, actions), rtol=1e-10, atol=1e-12)


def test_fisher_of_several_categoricals():
    s, theta = features(), torch.randn(3, 5, requires_grad=True)

    def make(theta):
        return MultiCategorical(s @ theta, (2, 3))

    actions = [torch.tensor([a, b]).expand(6, 2) for a in range(2) for b in range(3)]
    assert_close(fisher(make, theta), enumerated(make, theta, actions), rtol=1e-10, atol=1e-12)


def test_fisher_of_coins():
    s, theta = features(), torch.randn(3, 2, requires_grad=True)

    def make(theta):
        return Bernoulli(s @ theta)

    actions = [torch.tensor([a, b]).expand(6, 2) for a in (0.0, 1.0) for b in (0.0, 1.0)]
    assert_close(fisher(make, theta), enumerated(make, theta, actions), rtol=1e-10, atol=1e-12)


def test_fisher_of_a_normal_in_its_own_parameters():
    """F of N(ks, σ) in (k, σ) is diag(E[s²]/σ², 2/σ²)."""
    s, theta = torch.randn(50), torch.tensor([0.7, 0.4], requires_grad=True)

    def make(theta):
        k, sigma = theta
        return Gaussian((k * s).unsqueeze(-1), sigma.log().expand(1))

    sigma = 0.4
    expect = torch.diag(torch.tensor([float(s.square().mean()) / sigma**2, 2.0 / sigma**2]))
    assert_close(fisher(make, theta), expect, rtol=1e-10, atol=1e-12)


def test_fisher_of_a_normal_by_quadrature():
    """∫ π g gᵀ over a fine grid, with a network between θ and the mean."""
    s, theta = features(), torch.randn(4, requires_grad=True)

    def make(theta):
        return Gaussian(torch.tanh(s @ theta[:3]).unsqueeze(-1), theta[3:].clone())

    pi = make(theta)
    sigma = float(pi.log_std.detach().exp())
    z, step = torch.linspace(-9.0, 9.0, 121), 18.0 / 120
    total = 0.0
    for offset in z:
        a = pi.mean.detach() + sigma * offset
        g = scores(make(theta).log_prob(a), theta)
        density = math.exp(-0.5 * float(offset) ** 2) / math.sqrt(2.0 * math.pi)
        total = total + density * step * g.T @ g / len(g)
    assert_close(fisher(make, theta), total, rtol=1e-7, atol=1e-9)


def test_both_directions_of_kl_have_the_same_hessian():
    s, theta = features(), torch.randn(3, 4, requires_grad=True)
    pi = Categorical(s @ theta)
    old = pi.like(pi.params().detach())
    a, b = (dense(hessian_product(y, [theta]), 12) for y in (old.kl(pi).mean(), pi.kl(old).mean()))
    assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_of_squares_it_is_gauss_newton():
    """The Hessian of mean (V − V_old)²/(2σ²) at V_old is JᵀJ/(Nσ²), whatever the network."""
    s, w, u = features(), torch.randn(3, 5, requires_grad=True), torch.randn(5, requires_grad=True)
    v = torch.tanh(s @ w) @ u
    sigma2 = 2.5
    product = hessian_product(((v - v.detach()).square() / (2.0 * sigma2)).mean(), [w, u])
    jacobian = torch.stack([flat_gradient(torch.tanh(row @ w) @ u, [w, u]) for row in s])
    assert_close(dense(product, 20), jacobian.T @ jacobian / (6 * sigma2), rtol=1e-10, atol=1e-12)


def test_parameters_that_play_no_part_have_zeros():
    a, b, c = (torch.randn(2, requires_grad=True) for _ in range(3))
    y = (a**3).sum() + b.sum()
    product = hessian_product(y, [a, b, c])
    assert_close(product(torch.ones(6)), torch.cat([6.0 * a.detach(), torch.zeros(4)]))
    assert_close(flat_gradient((a**3).sum() + b.sum(), [a, b, c])[2:], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert hessian_product(b.sum(), [a, b, c])(torch.ones(6)).tolist() == [0.0] * 6


def natural_and_plain(make, theta, psi, action):
    """F⁻¹g and g of the surrogate mean log π Ψ."""
    pi = make(theta)
    g = flat_gradient((pi.log_prob(action) * psi).mean(), [theta])
    pi = make(theta)
    product = hessian_product(pi.like(pi.params().detach()).kl(pi).mean(), [theta])
    return conjugate_gradient(product, g, iterations=200, tolerance=1e-13), g


def test_the_natural_gradient_does_not_depend_on_the_parameters_and_the_plain_one_does():
    """With θ = Mφ the same policy moves the same way: Δθ = MΔφ, undamped. The Fisher matrix has full rank here."""
    s = torch.randn(40, 3)
    theta, m = 0.3 * torch.randn(6), torch.randn(6, 6) + 3.0 * torch.eye(6)

    def make(theta):
        half = theta.view(3, 2)
        return Gaussian(s @ half[:, :1], (s @ half[:, 1:]) * 0.3)

    action, psi = torch.randn(40, 1), torch.randn(40)
    phi = torch.linalg.solve(m, theta).requires_grad_()
    theta = theta.clone().requires_grad_()
    natural, plain = natural_and_plain(make, theta, psi, action)
    natural_phi, plain_phi = natural_and_plain(lambda phi: make(m @ phi), phi, psi, action)
    assert_close(m @ natural_phi, natural, rtol=1e-6, atol=1e-7)
    cosine = torch.cosine_similarity(m @ plain_phi, plain, 0)
    assert cosine < 0.95  # another direction, not only another length


def test_where_the_fisher_matrix_is_singular_the_move_of_the_policy_is_invariant():
    """A softmax table has a direction without effect at each state; what moves is log π, and that is the same."""
    theta, m = torch.randn(12), torch.randn(12, 12) + 4.0 * torch.eye(12)
    phi = torch.linalg.solve(m, theta).requires_grad_()
    theta = theta.clone().requires_grad_()
    state, action, psi = torch.arange(4).repeat(10), torch.randint(3, (40,)), torch.randn(40)

    def make(theta):
        return Categorical(theta.view(4, 3)[state])

    natural, _ = natural_and_plain(make, theta, psi, action)
    natural_phi, _ = natural_and_plain(lambda phi: make(m @ phi), phi, psi, action)

    def moved(delta):
        return torch.func.jvp(lambda t: t.view(4, 3).log_softmax(-1), (theta.detach(),), (delta,))[1]

    assert_close(moved(m @ natural_phi), moved(natural), rtol=1e-5, atol=1e-6)
    assert moved(natural).abs().max() > 0.1


# steps


@pytest.mark.parametrize("iterations", [1, 3, 100])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_a_step_to_the_boundary_meets_it_exactly(iterations, damping):
    """½ Δᵀ(F + λI)Δ = δ however far conjugate gradient went."""
    f, g, delta = positive(20, 40), torch.randn(20), 0.01
    x = conjugate_gradient(f.mv, g, iterations=iterations, tolerance=1e-12, damping=damping)
    step = boundary(x, g, delta) * x
    assert_close(0.5 * step @ (f + damping * torch.eye(20)) @ step, torch.tensor(delta), rtol=1e-9, atol=0.0)


def test_the_step_to_the_boundary_climbs_most():
    """No other step with the same ½ΔᵀFΔ has a larger gᵀΔ."""
    f, g = positive(8, 20), torch.randn(8)
    x = conjugate_gradient(f.mv, g, iterations=100, tolerance=1e-14)
    best = float(g @ (boundary(x, g, 0.01) * x))
    for _ in range(200):
        d = x / x.norm() + 0.3 * torch.randn(8)
        d = d * (0.02 / (d @ f @ d)).sqrt()
        assert float(g @ d) < best


def test_without_a_gradient_there_is_no_step():
    for dtype in (torch.float32, torch.float64):
        zero = torch.zeros(3, dtype=dtype)
        assert (boundary(zero, zero, 0.01) * zero).tolist() == [0.0] * 3


def test_a_line_search_takes_the_first_that_is_accepted():
    theta, step = torch.tensor([1.0, 2.0]), torch.tensor([8.0, -8.0])
    tried = []

    def accept():
        tried.append(theta.tolist())
        return len(tried) == 3

    assert line_search(theta, step, accept, shrink=0.5, tries=10) == 0.25
    assert tried == [[9.0, -6.0], [5.0, -2.0], [3.0, 0.0]]
    assert theta.tolist() == [3.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rejected_search_leaves_every_bit(dtype):
    theta, step = torch.randn(100, dtype=dtype), torch.randn(100, dtype=dtype)
    before = theta.clone()
    seen = []
    assert line_search(theta, step, lambda: seen.append(theta.clone()) or False, shrink=0.7, tries=6) == 0.0
    assert torch.equal(theta, before)
    assert len(seen) == 6
    assert not any(torch.equal(x, before) for x in seen)
