"""A run on a GPU is the run that it is on the CPU. These need one, and are skipped where torch sees none."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from probes import run
from recipes import FEW_UPDATES
from resumable import RUNS, SAC, finish
from running import new_run, parts, same
from torch.overrides import TorchFunctionMode

from pgrun.errors import UserError
from pgrun.run import checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
NEEDS_C = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="Triton needs a C compiler")

WELL_CONDITIONED = {  # else rounding alone, 1e-7 of the parameters, leads a tenth of the way elsewhere
    "npg": ["algo.damping=0.1"],
    "trpo with a fit of its own": ["algo.damping=1", "algo.critic_fit.damping=1"],
    "ppo with kfac": ["optimizer.damping=0.1"],
}
PENDULUM = (*SAC, "env=pendulum", "env.max_episode_steps=30", "device=cuda")


class DrawnOnTheCPU(TorchFunctionMode):
    """Random numbers on every device are the CPU's."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("randn_like", "rand_like"):
            device = kwargs.pop("device", None) or args[0].device
            return func(torch.empty(args[0].shape, dtype=args[0].dtype), **kwargs).to(device)
        if name in ("randn", "rand", "randint", "randperm"):
            device = kwargs.pop("device", None) or "cpu"
            return func(*args, **kwargs).to(device)
        if name == "exponential_":
            return args[0].copy_(torch.empty(args[0].shape, dtype=args[0].dtype).exponential_())
        return func(*args, **kwargs)


def tensors(algorithm):
    """Of all that is learned, on the CPU and in double precision."""
    return {k: v.detach().double().cpu() for k, v in algorithm.state_dict().items() if v.is_floating_point()}


@pytest.mark.parametrize("name", FEW_UPDATES)
def test_it_learns_what_the_cpu_learns(name):
    """Within a thousandth of the way that the parameters went."""
    overrides = [f"algo={name.split()[0]}", *FEW_UPDATES[name], *WELL_CONDITIONED.get(name, [])]
    with DrawnOnTheCPU():
        start = tensors(parts(*overrides, "device=cpu").algorithm)
        cpu, clock = run(*overrides, "device=cpu")
        gpu, _ = run(*overrides, "device=cuda")
    assert clock.updates > 3
    assert all(p.device.type == "cuda" for p in gpu.algorithm.parameters())
    a, b = tensors(cpu.algorithm), tensors(gpu.algorithm)
    way = sum(float((a[key] - start[key]).square().sum()) for key in a) ** 0.5
    apart = sum(float((a[key] - b[key]).square().sum()) for key in a) ** 0.5
    assert way > 0.0
    assert apart < 1e-3 * way, f"{apart / way:.1e} of the way"


def check_resumes(tmp_path, *overrides):
    """Check that a run which is resumed from its middle ends as the whole one."""
    whole = new_run(tmp_path / "whole", *overrides)
    want = finish(whole)
    steps = sorted(whole.checkpoints.glob("step_*.pt"), key=lambda path: int(path.stem[5:]))
    got = finish(new_run(tmp_path / "resumed", *overrides, resume=checkpoint.load(steps[len(steps) // 2])))
    different = [key for key in want if not same(want[key], got[key])]
    assert not different, f"{different} differ after a resume"


@pytest.mark.parametrize("name", [name for name in RUNS if "processes" not in name])
def test_resuming_changes_nothing(name, tmp_path):
    check_resumes(tmp_path, *RUNS[name], "device=cuda")


@NEEDS_C
@pytest.mark.parametrize("algo", ["sac", "td3", "d4pg", "dqn", "ppo"])
def test_compiled_is_eager(algo):
    made = []
    for compile in ("false", "true"):
        overrides = [f"algo={algo}", *FEW_UPDATES["d4pg by priority" if algo == "d4pg" else algo], f"compile={compile}"]
        with DrawnOnTheCPU():
            algorithm = run(*overrides, "device=cuda")[0].algorithm
        assert (algorithm.compile_seconds > 0.0) == (compile == "true")
        made.append(tensors(algorithm))
    eager, compiled = made
    for key in eager:
        torch.testing.assert_close(compiled[key], eager[key], rtol=1e-3, atol=1e-4)


def graphed(made, name, *overrides):
    """A run whose updates, and whose acting where that is the same each time, are graphs; `made` counts them."""
    overrides = [f"algo={name}", *FEW_UPDATES[name], *overrides, "device=cuda"]
    start = tensors(parts(*overrides).algorithm)
    run_parts, _ = run(*overrides)
    made.append((start, tensors(run_parts.algorithm), run_parts))
    return run_parts


def plans(function):
    return 0 if function is None else sum(map(len, function.plans.values()))


@pytest.mark.parametrize(
    "more", [(), ("env.backend=tensor",), pytest.param(("compile=true",), marks=NEEDS_C)], ids=" ".join
)
@pytest.mark.parametrize("algo", ["ppo", "sac", "td3", "dqn"])
def test_graphs_learn_what_is_learnt_without(algo, more):
    """With the GPU's own random numbers, which graphs draw in the same order; within a thousandth of the way."""
    if more == ("env.backend=tensor",) and "dqn" in algo:
        more = (*more, "env=cartpole")
    made = []
    graphed(made, algo, *more, "graph=false")
    captured = graphed(made, algo, *more, "graph=true")
    steps = captured.algorithm.steps().values()
    functions = [f for step in steps for f in step.captured.functions.values()]
    assert plans(captured.update.captured) + sum(map(plans, functions)) > 0
    (start, eager, _), (_, found, _) = made
    way = sum(float((eager[key] - start[key]).square().sum()) for key in eager) ** 0.5
    apart = sum(float((eager[key] - found[key]).square().sum()) for key in eager) ** 0.5
    assert way > 0.0
    assert apart < 1e-3 * way, f"{apart / way:.1e} of the way"


@pytest.mark.parametrize("name", ["ppo", "ppo on tensors", "ppo normalised", "sac"])
def test_resuming_graphs_changes_nothing(name, tmp_path):
    check_resumes(tmp_path, *RUNS.get(name, PENDULUM), "device=cuda", "graph=true")


def test_a_world_of_tensors_lives_where_the_policy_acts():
    made = parts("algo=ppo", "env=cartpole", "env.backend=tensor", "algo.rollout=16", "device=cuda", "graph=true")
    for _ in range(3):
        rollout = made.collector.collect(made.algorithm)
    assert rollout.reward.device.type == made.collector.env.rng.device.type == "cuda"
    assert plans(made.collector.compiled.whole) == 1
    assert made.collector.compiled.able


@pytest.mark.parametrize(
    "override", ["act_device=cpu", "memory.device=cuda", "matmul_precision=bfloat16", "memory.updates=3"]
)
def test_it_runs_with(override, tmp_path):
    state = finish(new_run(tmp_path, *PENDULUM, "network.hidden=[64,64]", override))
    module = state["algorithm"]["module"]
    assert all(bool(torch.isfinite(x).all()) for x in module.values() if x.is_floating_point())


def test_the_replay_lies_on_the_gpu():
    made = parts(*FEW_UPDATES["dqn"], "algo=dqn", "device=cuda", "memory.device=cuda")
    made.collector.env.reset(0)
    for _ in range(60):
        made.memory.add(made.collector.collect(made.algorithm))
    assert made.memory.ring.device.type == "cuda"
    batch = next(iter(made.memory.batches()))
    assert batch.reward.device.type == "cuda"


def test_a_replay_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"memory.capacity=\d+ does not fit: .* are free on cuda"):
        parts("algo=sac", "env=pendulum", "device=cuda", "memory.device=cuda", f"memory.capacity={10**11}")


def shell(*words, cwd, code=0):
    done = subprocess.run([sys.executable, "-m", "pgrun", *words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_from_the_shell_and_where_there_is_no_gpu(tmp_path, monkeypatch):
    shell(*PENDULUM, "hydra.run.dir=run", cwd=tmp_path)
    there = shell("eval", "run", "--episodes", "5", "--json", cwd=tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert shell("eval", "run", "--episodes", "5", "--json", cwd=tmp_path) == there
    said = shell("resume", "run", "total_steps=200", cwd=tmp_path, code=2)
    assert "torch sees no GPU here; use device=cpu" in said
    shell("resume", "run", "total_steps=200", "device=cpu", cwd=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["env_steps"]) == ("finished", 200)


def test_two_processes_on_one_gpu(tmp_path):
    shell(
        *("algo=ppo", "device=cuda", "parallel=ddp", "workers=2", "num_envs=4", "total_steps=512"),
        *("algo.rollout=32", "algo.minibatch=64", "eval.final_episodes=2", "hydra.run.dir=run"),
        cwd=tmp_path,
    )
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "finished"


def test_auto_takes_it_for_wide_layers():
    small, wide = (parts(f"network.hidden=[{n}]").algorithm.device.type for n in (64, 1024))
    assert (small, wide) == ("cpu", "cuda")


def test_exact_products_are_float32s():
    parts("algo=sac", "env=pendulum", "device=cuda")  # whose recipe has matmul_precision=exact
    x = torch.randn(256, 256, device="cuda")
    torch.testing.assert_close(x @ x, (x.double() @ x.double()).float(), rtol=1e-5, atol=1e-4)
