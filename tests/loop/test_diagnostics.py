"""The noise of gradients and the size of steps, against naive loops; and that measuring changes nothing."""

import math

import pytest
import torch
from running import new_run, parts, same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.testing import assert_close

from pgrun.data.types import mask_mean
from pgrun.errors import UserError
from pgrun.loop.diagnostics import noise
from pgrun.loop.train import Clock, train
from pgrun.optim.functional import functional_gradient

ON = ["diagnostics.gradient_variance=true", "diagnostics.step_size=true"]
SMALL = ["network.hidden=[8]", "env=cartpole", "env.num_envs=4"]
RUNS = {
    "a2c": ["algo=a2c", *SMALL],
    "ppo": ["algo=ppo", *SMALL, "algo.rollout=16", "algo.minibatch=32", "algo.epochs=2"],
    "ppo with a memory": ["algo=ppo", "network=lstm", "network.hidden=[8]", "env=cartpole", "env.num_envs=4",
                          "algo.rollout=16", "algo.minibatch=32", "algo.epochs=2"],
    "ppo, scaled rewards": ["algo=ppo", *SMALL, "algo.rollout=16", "algo.minibatch=32", "algo.epochs=2",
                            "algo.normalize_reward=true", "network.normalize_obs=true"],
    "reinforce": ["algo=reinforce", *SMALL, "collector.episodes=6"],
    "reinforce, optimal baseline": ["algo=reinforce", "algo/baseline=optimal", *SMALL, "collector.episodes=6"],
    "reinforce with a memory": ["algo=reinforce", "algo/baseline=optimal", "network=lstm", "network.hidden=[8]",
                                "env=cartpole", "env.num_envs=4", "env.max_episode_steps=10", "collector.episodes=6"],
    "sac": ["algo=sac", "network.hidden=[8]", "env=pendulum", "memory.warmup=40", "memory.batch_size=12"],
}  # fmt: skip


def built(name, *more):
    made = parts(*RUNS[name], "device=cpu", *more)
    made.collector.env.reset(0)
    return made


def collected(made, updates=2):
    """A rollout that comes after some updates."""
    for _ in range(updates):
        rollout = made.collector.collect(made.algorithm)
        made.algorithm.update(rollout)
    return made.collector.collect(made.algorithm)


def by_hand(pieces):
    """Variance and signal-to-noise of a sum of pieces [n, P], entry by entry."""
    n, p = pieces.shape
    mean = [sum(pieces[i, k].item() for i in range(n)) / n for k in range(p)]
    variance = n * sum((pieces[i, k].item() - mean[k]) ** 2 for i in range(n) for k in range(p)) / (n - 1)
    return variance, sum((n * m) ** 2 for m in mean) / variance


def episodes(batch):
    """Each episode's steps, [(t, b), …]."""
    found, steps = [], []
    for b in range(batch.reward.shape[1]):
        for t in range(batch.reward.shape[0]):
            if batch.valid[t, b]:
                steps.append((t, b))
            if steps and (batch.last[t, b] or t + 1 == batch.reward.shape[0]):
                found.append(steps)
                steps = []
    return found


@pytest.mark.parametrize("name", ["a2c", "ppo", "ppo with a memory", "reinforce", "reinforce with a memory"])
def test_the_policy_gradients_noise_is_that_of_a_naive_loop(name):
    made = built(name, "diagnostics.gradient_variance=true")
    batch, algorithm = collected(made), made.algorithm
    valid = batch.valid
    psi = algorithm.estimate(batch).extras["psi"]
    if name.startswith("ppo"):
        psi = (psi - psi[valid].mean()) / (psi[valid].std() + 1e-8)
    if name.startswith("reinforce"):
        groups = episodes(batch)
        assert len(groups) >= 6
    else:
        groups = [[(t, b) for t in range(len(valid)) if valid[t, b]] for b in range(valid.shape[1])]
    log_prob = algorithm.model.policy(batch).log_prob(batch.action)
    actor = list(algorithm.model.actor.parameters())
    pieces = []
    for steps in groups:
        total = sum(log_prob[t, b] * psi[t, b] for t, b in steps) / valid.sum()
        pieces.append(torch.cat([g.flatten() for g in torch.autograd.grad(total, actor, retain_graph=True)]))
    variance, snr = by_hand(torch.stack(pieces))
    metrics = made.update(batch)
    assert metrics["gradient/variance"].item() == pytest.approx(variance, rel=1e-3)
    assert metrics["gradient/snr"].item() == pytest.approx(snr, rel=1e-3)


def test_it_is_the_noise_of_the_step_that_reinforce_takes():
    """The pieces' sum is minus the loss's gradient, with every baseline."""
    for baseline in ("algo/baseline=none", "algo/baseline=average", "algo/baseline=optimal",
                     "algo.baseline.per_parameter=true"):  # fmt: skip
        more = [baseline] if "per_parameter" not in baseline else ["algo/baseline=optimal", baseline]
        made = built("reinforce", *more, "diagnostics.gradient_variance=true", "algo.max_grad_norm=null",
                     "algo.entropy_coef=0.0")  # fmt: skip
        metrics = made.update(collected(made))
        assert_close(
            metrics["gradient/snr"] * metrics["gradient/variance"],
            metrics["gradient/norm"].square(),
            rtol=1e-3,
            atol=0.0,
        )


def test_the_estimated_variance_is_the_variance():
    """Over many rollouts of one policy: the mean of what is logged, against how far the gradients scatter."""
    made = built("reinforce", "algo/baseline=none", "optimizer.lr=1e-30", "diagnostics.gradient_variance=true",
                 "algo.max_grad_norm=null", "env.max_episode_steps=6", "collector.episodes=8")  # fmt: skip
    logged, gradients = [], []
    for _ in range(80):
        metrics = made.update(made.collector.collect(made.algorithm))
        logged.append(metrics["gradient/variance"])
        gradients.append(made.algorithm.step.theta.grad.clone())
    scatter = torch.stack(gradients).var(0).sum()
    assert torch.stack(logged).mean().item() == pytest.approx(scatter.item(), rel=0.2)


def test_every_gradient_steps_noise_off_policy_is_that_of_a_naive_loop():
    made = built("sac", "diagnostics.gradient_variance=true")
    algorithm = made.algorithm
    made.memory.add(flat := made.collector.collect(algorithm))
    while flat is not None and not (batches := list(made.memory.batches())):
        made.memory.add(made.collector.collect(algorithm))
    seen = {}
    for name in ("critic", "actor"):
        step = getattr(algorithm, f"{name}_step")

        def looking(step, *args, name=name, inner=step.watch):
            rows = len(args[0])
            pieces = []
            for i in range(rows):
                mine = [x if x is None or not x.dim() or len(x) != rows else x[i : i + 1] for x in args]
                loss, _ = step.loss(*mine)
                gradient = torch.autograd.grad(loss / rows, step.parameters)
                pieces.append(torch.cat([g.flatten() for g in gradient]))
            seen[name] = by_hand(torch.stack(pieces))
            return inner(step, *args)

        step.watch = looking
    metrics = made.update(batches[0])
    for name, (variance, snr) in seen.items():
        assert metrics[f"gradient/variance_{name}"].item() == pytest.approx(variance, rel=1e-3)
        assert metrics[f"gradient/snr_{name}"].item() == pytest.approx(snr, rel=1e-3)
    assert set(seen) == {"critic", "actor"}
    assert "gradient/variance_temperature" not in metrics  # one number is no batch


def test_a_trunk_that_actor_and_critic_share_is_put_back_as_it_was():
    """torch's functional_call swaps a module that is reached by two paths twice, unless it is told of one path."""
    algorithm = parts("algo=a2c", *SMALL, "network.shared=true", "algo.max_grad_norm=null", "device=cpu").algorithm
    made = parts("algo=a2c", *SMALL, "device=cpu")
    made.collector.env.reset(0)
    batch, step = made.collector.collect(made.algorithm), algorithm.step
    before = dict(algorithm.named_parameters())
    gradient, _ = functional_gradient(step)([p.detach().clone() for p in step.parameters], batch)
    assert all(algorithm.get_parameter(name) is p for name, p in before.items())
    step(batch)
    assert_close(gradient, step.theta.grad, rtol=1e-4, atol=1e-7)
    assert gradient.norm() > 0.01


def test_several_agents_targets_are_cut_by_their_rows():
    made = parts("algo=maddpg", "env=simple_spread", "num_envs=2", "network.hidden=[8]", "memory.batch_size=32",
                 "memory.warmup=50", "diagnostics.gradient_variance=true")  # fmt: skip
    while not (batches := list(made.memory.batches())):
        made.memory.add(made.collector.collect(made.algorithm))
    step, batch = made.algorithm.critic_step, batches[0]
    y, pieces = torch.randn(3, 32), []
    for i in range(32):
        row = {key: x[i : i + 1] for key, x in batch.obs.items()}
        loss, _ = step.loss(row, batch.action[i : i + 1], y[:, i : i + 1], None)
        pieces.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss / 32, step.parameters)]))
    found = step.watch(step, batch.obs, batch.action, y, None)
    variance, snr = by_hand(torch.stack(pieces))
    assert found["gradient/variance_critic"].item() == pytest.approx(variance, rel=1e-3)
    assert found["gradient/snr_critic"].item() == pytest.approx(snr, rel=1e-3)


def test_noise_of_pieces():
    pieces = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 3.0]])
    found = noise(pieces, "_x")
    variance, snr = by_hand(pieces)
    assert variance == pytest.approx(3.0 * (1.0 + 3.0))  # n times the sample variances' sum
    assert found["gradient/variance_x"].item() == pytest.approx(variance)
    assert found["gradient/snr_x"].item() == pytest.approx(snr) == pytest.approx((36.0 + 9.0) / 12.0)
    alike = noise(torch.ones(4, 2))
    assert alike["gradient/variance"] == 0.0
    assert math.isfinite(alike["gradient/snr"])


@pytest.mark.parametrize("name", ["a2c", "ppo, scaled rewards", "reinforce"])
def test_the_size_of_a_step(name):
    made = built(name, "diagnostics.step_size=true")
    batch, model = collected(made), made.algorithm.model
    before = torch.cat([p.detach().flatten() for p in model.actor.parameters()]).clone()
    with torch.no_grad():
        old = model.policy(batch).logits.log_softmax(-1).clone()
    metrics = made.update(batch)
    after = torch.cat([p.detach().flatten() for p in model.actor.parameters()])
    with torch.no_grad():
        new = model.policy(batch).logits.log_softmax(-1)
    assert_close(metrics["step/norm"], (after - before).square().sum().sqrt())
    assert metrics["step/norm"] > 1e-6
    kl = (old.exp() * (old - new)).sum(-1)
    assert_close(metrics["policy/kl_step"], mask_mean(kl, batch.valid), rtol=1e-3, atol=1e-7)
    assert "gradient/variance" not in metrics


@pytest.mark.parametrize("name", [name for name in RUNS if name not in ("ppo", "reinforce")])
def test_measuring_changes_nothing_of_the_run(name):
    def outcome(*more):
        made = parts(*RUNS[name], "device=cpu", *more)
        clock = Clock(60 if name == "sac" else 100)
        train(made.algorithm, made.collector, made.memory, clock, [], update=made.update)
        return made.algorithm.snapshot()

    assert same(outcome(), outcome(*ON))


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_nothing_is_there_unless_it_is_asked_for(name):
    made = built(name)
    assert made.update == made.algorithm.update
    assert all(step.watch is None for step in made.algorithm.steps().values())


@pytest.mark.parametrize(("name", "tags"), {
    "ppo": {"gradient/variance", "gradient/snr", "step/norm", "policy/kl_step"},
    "sac": {"gradient/variance_actor", "gradient/snr_critic", "step/norm"},
}.items())  # fmt: skip
def test_they_are_in_the_event_file(tmp_path, name, tags):
    quick = [
        f"total_steps={60 if name == 'sac' else 128}",
        "log.every=16",
        "eval.every=null",
        "eval.final_episodes=1",
        "device=cpu",
    ]
    new_run(tmp_path, *RUNS[name], *ON, *quick, "env.max_episode_steps=20").execute()
    found = EventAccumulator(str(tmp_path)).Reload()
    assert tags <= set(found.Tags()["scalars"])
    for tag in tags:
        assert all(math.isfinite(point.value) and point.value >= 0.0 for point in found.Scalars(tag))


@pytest.mark.parametrize("algo", ["acktr", "grpo", "offpolicy_pg"])
def test_any_on_policy_algorithm_has_them(algo):
    """Whatever its step: they ask only for Ψ and the policy."""
    made = parts(f"algo={algo}", *SMALL, *ON, "device=cpu", "env.max_episode_steps=30", "env.num_envs=8")
    found = {}
    hooks = [lambda clock, metrics: found.update(metrics)]
    train(made.algorithm, made.collector, made.memory, Clock(1), hooks, update=made.update)
    for key in ("gradient/variance", "gradient/snr", "step/norm"):
        assert 0.0 < found[key].item() < math.inf, key
    assert found["policy/kl_step"].item() > -1e-6


def test_one_environment_has_nothing_to_be_compared_with():
    with pytest.raises(UserError, match=r"compares environments: give it env.num_envs=2 or more"):
        parts("algo=a2c", "env=cartpole", "env.num_envs=1", "diagnostics.gradient_variance=true")
    parts("algo=a2c", "env=cartpole", "env.num_envs=1", "diagnostics.step_size=true")


def test_a_vmapped_batch_of_odd_size_leaves_its_remainder_out():
    """130 rows in 64 pieces of two."""
    made = parts("algo=sac", "network.hidden=[8]", "env=pendulum", "memory.warmup=130", "memory.batch_size=130",
                 "diagnostics.gradient_variance=true", "device=cpu")  # fmt: skip
    train(made.algorithm, made.collector, made.memory, Clock(132), [], update=made.update)
    batch = next(iter(made.memory.batches()))
    metrics = made.update(batch)
    assert metrics["gradient/variance_critic"] > 0.0
