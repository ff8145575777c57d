"""The page of a profile, for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WIDTH = 44  # of the names


def page(found: dict[str, Any]) -> str:
    """Write a profile as a page of tables."""
    blocks = [head(found), start_up(found), loop(found), floor(found), gpu(found), ops(found)]
    return "\n\n".join("\n".join(lines) for block in blocks if (lines := list(block))) + "\n"


def head(found: dict[str, Any]) -> Iterator[str]:
    """Say what was profiled, and where."""
    machine, warm = found["machine"], found["warm_up"]
    compiled = ", compiled" if found["compile"] else ""
    many = f"{found['num_envs']} environment{'s' * (found['num_envs'] != 1)}"
    yield f"{found['algo']} on {found['env']} ({found['env_id']}), {many}, on {machine['device']}{compiled}"
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    yield f"{machine['cpu']}, {machine['cores']} cores, {threads}, torch {found['versions']['torch']}" + (
        f", {machine['gpu']}" if "gpu" in machine else ""
    )
    warm_up = f"{warm['steps']:,} steps of warm-up in {warm['seconds']:.1f} s"
    yield f"{found['steps']:,} environment steps in {found['seconds']:.1f} s, after {warm_up}"


def start_up(found: dict[str, Any]) -> Iterator[str]:
    """Tell the parts of the start."""
    parts = found["start_up_seconds"]
    if not parts:
        return
    yield f"{'start':{WIDTH}}{'seconds':>10}"
    for name, seconds in parts.items():
        yield f"  {name:{WIDTH - 2}}{seconds:10.2f}"
    yield f"  {'in all':{WIDTH - 2}}{sum(parts.values()):10.2f}"


def loop(found: dict[str, Any]) -> Iterator[str]:
    """Tell the parts of the loop."""
    times = found["loop_seconds"]
    whole = sum(part["whole"] for part in times.values())

    def line(name: str, seconds: float, indent: int) -> str:
        each = seconds / found["steps"] * 1e6 if found["steps"] else 0.0
        return f"{'':{indent}}{name:{WIDTH - indent}}{seconds:10.2f}{each:14.1f}{100 * seconds / whole:9.1f} %"

    yield f"{'loop':{WIDTH}}{'seconds':>10}{'µs a step':>14}{'share':>11}"
    for name, parts in times.items():
        yield line(name, parts["whole"], 2)
        for inner, seconds in parts.items():
            if inner != "whole" and seconds >= 5e-4 * whole:
                yield line(inner, seconds, 4)
    rate = found["steps_per_second"]
    yield f"{line('in all', whole, 2)}   {rate:,.0f} steps/s"
    yield counts(found)
    evaluation = found["evaluation"]
    if n := evaluation["count"]:
        each = evaluation["seconds"] / n
        yield f"  apart: {n} evaluation{'s' * (n != 1)}, {evaluation['seconds']:.2f} s, {each:.2f} s each"
    else:
        yield "  no evaluation was due in this stretch"


def counts(found: dict[str, Any]) -> str:
    """Say what happens in an iteration."""
    iterations = max(found["iterations"], 1)
    kinds = {"environment step": found["steps"], "update": found["updates"], "gradient step": found["gradient_steps"]}
    each = ", ".join(number(n / iterations, kind) for kind, n in kinds.items() if n)
    return f"  {iterations:,} iterations of {each}"


def number(n: float, what: str) -> str:
    """Write a number of things."""
    return f"{n:,.4g} {what}{'s' * (n != 1)}"


FLOORS = {"update": "an update", "gradient_step": "a gradient step", "acting": "a call"}


def floor(found: dict[str, Any]) -> Iterator[str]:
    """Say what the arithmetic alone would take."""
    floors = found["floor"]
    lines = []
    for key, words in FLOORS.items():
        if key not in floors or (key == "update" and found["gradient_steps"] == found["updates"]):
            continue
        one = floors[key]
        share = 100 * one["products_seconds"] / one["seconds"] if one["seconds"] else 0.0
        part = "acting" if key == "acting" else "learning"
        lines += [
            f"  {part}: {milli(one['seconds'])} {words}, of which matrix products need at least "
            f"{milli(one['products_seconds'])} ({share:.0f} %)",
            f"    {number(round(one['products'], 2), 'product')}, {one['flops'] / 1e6:,.2f} MFLOP at "
            f"{one['gflops_per_second']:,.1f} GFLOP/s, each timed alone with this shape",
        ]
    if (alone := floors.get("environment_step_alone_seconds")) is not None:
        inside = found["loop_seconds"]["collecting"]["environment"] / max(found["steps"], 1)
        lines.append(
            f"  environment: {1e6 * inside:,.1f} µs a step; stepped alone with random actions {1e6 * alone:,.1f} µs"
        )
    if lines:
        yield "floor"
        yield from lines


def milli(seconds: float) -> str:
    """Write a short time."""
    return f"{1e3 * seconds:,.2f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:,.1f} µs"


def gpu(found: dict[str, Any]) -> Iterator[str]:
    """Say how many kernels an iteration launches on the GPU."""
    if (said := found["gpu"]) is None:
        return
    wall = found["seconds"] / max(found["iterations"], 1)
    share = 100 * said["kernel_seconds"] / wall
    yield "GPU"
    yield (
        f"  {said['launches']:,.0f} launches an iteration; its kernels compute for {milli(said['kernel_seconds'])} of "
        f"the {milli(wall)} that it takes ({share:.0f} %)"
    )


def ops(found: dict[str, Any]) -> Iterator[str]:
    """Tell the operations that take longest."""
    rows = found["ops"]
    if not rows:
        return
    whole = sum(row["seconds"] for row in rows)
    yield f"{'operations that take longest':{WIDTH}}{'calls':>10}{'µs':>14}{'of these':>11}   an iteration"
    for row in rows:
        short = row["name"].removeprefix("aten::")
        name = f"{row['words']} ({short})" if row["words"] else short
        share = 100 * row["seconds"] / whole if whole else 0.0
        yield f"  {name[: WIDTH - 3]:{WIDTH - 2}}{row['calls']:10,.1f}{1e6 * row['seconds']:14,.1f}{share:9.1f} %"
