"""Profile a run: all figures as plain values."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pgrun.errors import Failed, UserError
from pgrun.run.build import Parts
from pgrun.run.origin import env_id, versions
from pgrun.run.profiling.products import cost
from pgrun.run.profiling.stopwatch import Path as Within
from pgrun.run.profiling.stretch import Measured, Stretch
from pgrun.system.machine import machine
from pgrun.system.repository import code_of

LEARNING, STEPS, ACTING = ("learning",), ("learning", "gradient steps"), ("collecting", "acting")


def profile_run(
    config: DictConfig,
    parts: Parts,
    hydra: DictConfig,
    start_up: dict[str, float],
    *,
    begin: float,
    steps: int | None,
    seconds: float,
    ops: bool,
) -> dict[str, Any]:
    """Run a short stretch of a run in a temporary directory, and return where its time goes.

    Args:
        config: the run's config.
        parts: the run's parts, as they were just built.
        hydra: the `hydra` node that the config was composed with.
        start_up: seconds of the parts of the start, by name.
        begin: `time.perf_counter()` when the process began.
        steps: environment steps to measure; None: so many seconds.
        seconds: seconds to measure.
        ops: also watch which operations take the time.

    Raises:
        UserError: the run can't be profiled, or an environment failed.
        Diverged: the run diverged.
    """
    if parts.team.workers > 1:
        parts.collector.env.close()
        n = parts.team.workers
        raise UserError(f"pgrun profile looks at one process, and this run has {n}: add workers=1 parallel=none")
    config.eval.stop_at = None
    names = {key: str(hydra.runtime.choices[key]) for key in ("algo", "env")}
    traced = ops or parts.algorithm.device.type == "cuda"
    with tempfile.TemporaryDirectory(prefix="pgrun-profile-") as folder:
        stretch = Stretch(
            config,
            parts,
            Path(folder),
            begin=begin,
            names=names,
            hydra=hydra,
            steps=steps,
            seconds=seconds,
            trace=traced,
        )
        try:
            stretch.execute()
        except Failed as error:  # which names a traceback in the directory that is removed here
            raise UserError(str(error.__cause__ or error)) from error
    found = stretch.measured
    assert found is not None
    if parts.algorithm.compile_seconds:
        start_up["compiling"] = parts.algorithm.compile_seconds
    trace = stretch.traced
    code = code_of(Path.cwd())
    return {
        "algo": names["algo"],
        "env": names["env"],
        "env_id": env_id(config.env),
        "machine": machine(parts.algorithm.device),
        "versions": versions(),
        "commit": None if code is None else code.facts["commit"],
        "num_envs": parts.collector.env.num_envs,
        "compile": bool(config.compile),
        "start_up_seconds": start_up,
        "warm_up": {"seconds": found.warm_up_seconds, "steps": found.warm_up_steps},
        "seconds": found.seconds,
        "steps": found.steps,
        "updates": found.updates,
        "iterations": found.iterations,
        "gradient_steps": found.calls.get(STEPS, 0),
        "steps_per_second": found.steps / (found.seconds - evaluation(found)["seconds"]),
        "loop_seconds": loop_parts(found),
        "evaluation": evaluation(found),
        "floor": floor(stretch, found),
        "ops": [asdict(operation) for operation in trace.operations] if trace and ops else None,
        "gpu": None
        if trace is None or trace.launches is None
        else {"launches": trace.launches, "kernel_seconds": trace.kernel_seconds},
    }


def loop_parts(found: Measured) -> dict[str, dict[str, float]]:
    """Return the seconds of the loop's parts, each with the parts within it; `whole` is the sum.

    Evaluations are counted in none.
    """
    times = found.parts

    def whole(*paths: Within) -> float:
        return sum(times.get(path, 0.0) for path in paths)

    collecting, environment, acting = whole(("collecting",)), whole(("collecting", "environment")), whole(ACTING)
    adding, sampling = whole(("adding",)), whole(("sampling",))
    learning, steps = whole(LEARNING), whole(STEPS)
    curves, saving, hooks = whole(("curves",)), whole(("checkpoints",)), whole(("the config's hooks",))
    loop = found.seconds - evaluation(found)["seconds"]
    return {
        "collecting": {
            **{"whole": collecting, "environment": environment, "acting": acting},
            "recording": collecting - environment - acting,
        },
        "memory": {"whole": adding + sampling, "adding": adding, "sampling": sampling},
        "learning": {"whole": learning, "gradient steps": steps, "around them": learning - steps},
        "logging and hooks": {
            **{"whole": found.hooks, "curves": curves, "checkpoints": saving, "the config's hooks": hooks},
            "others": found.hooks - curves - saving - hooks,
        },
        "the loop itself": {"whole": loop - collecting - adding - sampling - learning - found.hooks},
    }


def evaluation(found: Measured) -> dict[str, float]:
    """Return how many evaluations were in the stretch, and their seconds."""
    path = ("evaluation",)
    return {"count": found.calls.get(path, 0), "seconds": found.parts.get(path, 0.0)}


def floor(stretch: Stretch, found: Measured) -> dict[str, Any]:
    """Return what the arithmetic alone takes, beside what the run takes for it.

    Args:
        stretch: the run, which is over.
        found: its measured stretch.
    """
    floors: dict[str, Any] = {"environment_step_alone_seconds": stretch.alone}
    learned, acted = {}, {}
    for path, products in stretch.products.found.items():
        if path[:1] == LEARNING:
            for key, product in products.items():
                learned[path, key] = product
        elif path == ACTING:
            acted = products
    gradient_steps = stretch.counted_calls.get(STEPS, 0)
    in_steps = {key: product for key, product in learned.items() if key[0][:2] == STEPS}
    device = stretch.device
    for name, kept, number, path in (
        ("update", learned, stretch.counted, LEARNING),
        ("gradient_step", in_steps, gradient_steps, STEPS),
        ("acting", acted, stretch.counted_calls.get(ACTING, 0), ACTING),
    ):
        calls = found.calls.get(path, 0)
        if not (number and calls and kept):
            continue
        alone = cost(kept, device)
        floors[name] = {
            "seconds": found.parts[path] / calls,
            "products_seconds": alone.seconds / number,
            "products": alone.count / number,
            "flops": alone.flops / number,
            "gflops_per_second": alone.gflops_per_second,
        }
    return floors
