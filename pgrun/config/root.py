"""The keys that every run has, whatever its algorithm and environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pgrun.config.ranges import Count, CountOrZero, Device, FileName, Seed


class Part:
    """A mapping with a `_target_`, which makes an object; a config group chooses it."""


@dataclass
class Evaluation:
    """Evaluation of the policy on environments of its own; `return` is what these pay, before any wrapper changes it.

    Args:
        every: environment steps between two evaluations; null: only at the end.
        episodes: whole episodes in each of them.
        final_episodes: whole episodes at the end of the run; 0: none.
        stochastic: sample actions from the policy, as in training; false: take its mode.
        max_steps: cut an episode after so many steps; null: never.
        num_envs: copies side by side; null: as many as training has (up to 32 where they are rows of arrays).
        stop_at: end the run when an evaluation's mean return reaches this; null: never.
        env: how its environments differ from training's: eval.env.wrappers=[], eval.env.kwargs.KEY=…, …
    """

    every: Count | None
    episodes: Count
    final_episodes: CountOrZero
    stochastic: bool
    max_steps: Count | None
    num_envs: Count | None
    stop_at: float | None
    env: Mapping[str, Any]


@dataclass
class Checkpoints:
    """When the run's state is written.

    Args:
        every: environment steps between two checkpoints; null: only at the end.
        keep: how many step_<n>.pt to keep; latest and best come on top.
    """

    every: Count | None
    keep: Count


@dataclass
class Curves:
    """Curves in TensorBoard, and what is kept of the code.

    Args:
        every: environment steps between two points of a curve.
        diff: keep how the working directory's git repository differs from its commit, with what looks like a secret
            masked, in code.diff; false: only the commit's name.
    """

    every: Count
    diff: bool = True  # of configs from before there was this key


@dataclass
class Diagnostics:
    """Measures that an update takes of itself; they change nothing of the run, and cost nothing while false.

    Args:
        gradient_variance: gradient/variance and gradient/snr: the noise of the gradient, over episodes or environments.
        step_size: step/norm and policy/kl_step: how far an update moves the parameters, and the policy.
    """

    gradient_variance: bool
    step_size: bool


@dataclass
class Root:
    """The keys of every run.

    Args:
        seed: makes every generator: torch's, NumPy's, Python's, the environments'.
        total_steps: environment steps of the whole run, which ends after the rollout that reaches them.
        num_envs: the recipe's number of environments side by side, unless env.num_envs says otherwise.
        agents: where several agents act at once: rows (each is an environment of its own, of one policy that all share;
            a step is one agent's) or joint (one environment, for algorithms that learn several agents; a step is of all
            of them).
        workers: processes that run the loop together, where `parallel` says how.
        device: where it learns; auto: a GPU for convolutions and wide layers, else the CPU.
        act_device: where the policy acts; auto: where it learns.
        threads: torch's threads; small networks get slower with more.
        compile: compile gradient steps, from target to optimizer, and acting where env.backend=tensor (needs a C++
            compiler). The first run takes half a minute longer, later ones find its code; `pgrun cache` shows and
            clears it. auto: where the run takes 50,000 gradient steps or more.
        graph: on a GPU, capture updates, acting and worlds of env.backend=tensor as CUDA graphs, which are launched at
            once; what can't be captured runs as without. true is for one process. auto: on a GPU where the run takes
            50,000 gradient steps or more.
        matmul_precision: how matrices of float32 are multiplied. highest: in float32. exact: in float32 too, by
            oneDNN's kernels where a test at the start finds that they round no more than torch's own; on CPUs with
            AVX-512 and no matrix units up to twice as fast, but 15 µs more a product. high, medium:
            torch.set_float32_matmul_precision's, which may round to TF32 or bfloat16. bfloat16: multiplies rounded
            copies between one layer of network.hidden and the next, there alone: twice as fast where `lscpu` lists
            avx512_bf16 or amx_bf16 and layers have 200 units or more, slower elsewhere.
        demonstrations: an .npz or .csv file, or minari:ID; null: none.
        eval: when and how the policy is evaluated.
        checkpoint: when the run's state is written.
        log: when curves get points, and whether the code's changes are kept.
        diagnostics: what an update measures of itself.
        hooks: hooks of the run by names of yours, each with its _target_; null: none by this name.
        network: how encoders are made.
        optimizer: what makes gradient steps.
        parallel: how several processes run the loop together.
        algo: the algorithm.
        env: the environments.
        memory: what an update learns from.
        collector: how rollouts are collected.
    """

    seed: Seed
    total_steps: Count
    num_envs: Count
    agents: Literal["rows", "joint"]
    workers: Count
    device: Device
    act_device: Device
    threads: Count
    compile: Literal[True, False, "auto"]
    matmul_precision: Literal["highest", "exact", "high", "medium", "bfloat16"]
    eval: Evaluation
    checkpoint: Checkpoints
    log: Curves
    network: Part
    optimizer: Part
    parallel: Part
    algo: Part
    env: Part
    memory: Part
    collector: Part
    graph: Literal[True, False, "auto"] = False  # of configs from before there was this key
    diagnostics: Diagnostics | None = None
    demonstrations: FileName | None = None
    hooks: Mapping[str, Part | None] | None = None


# Arguments that the run itself gives to a part, so that no config can.
GIVEN = {
    "algo": ("obs_space", "action_space", "network", "optimizer", "device", "compile", "rank"),
    "env": ("seed", "reads"),
    "eval.env": ("seed", "reads"),
    "collector": ("env", "device", "seed", "rank", "compile"),
    "memory": ("env", "learn_device", "state_size"),
    "optimizer": ("params",),
    "parallel": ("rank",),
}


@dataclass
class AlgorithmExtras:
    """Keys of every algorithm that are not its constructor's.

    Args:
        init_from: a run, or a checkpoint file, whose policy to start from; null: none.
    """

    init_from: FileName | None = None


@dataclass
class EnvExtras:
    """Keys of every environment that are not its constructor's.

    Args:
        shaping: what to add to the reward that is learnt from: γΦ(s′) − Φ(s), with Φ by this name; null: nothing.
    """

    shaping: Part | None = None


# The kinds of class that slots take: a `_target_` in one names a subclass of these, or where the class is a protocol,
# one with its methods. What other constructors take in a slot of theirs stands in the annotation there.
KINDS = {
    "algo": ("pgrun.algos.parts.base.Algorithm",),
    "network": ("pgrun.nn.encoders.Network",),
    "optimizer": ("pgrun.optim.rules.Optimizer", "torch.optim.Optimizer"),
    "parallel": ("pgrun.loop.team.Team",),
    "memory": ("pgrun.memory.memory.Memory",),
    "collector": ("pgrun.collect.collector.Collector",),
    "env": ("pgrun.data.types.VectorEnv",),
    "env.world": ("pgrun.envs.tensor.World",),
    "env.shaping": (),
    "env.wrappers": ("gymnasium.Wrapper",),
    "hooks": ("pgrun.loop.moments.RunHook",),
    "hydra.callbacks": ("hydra.experimental.callback.Callback",),
    "hydra.launcher": ("hydra.plugins.launcher.Launcher",),
    "hydra.sweeper": ("hydra.plugins.sweeper.Sweeper",),
    "hydra.sweeper.sampler": ("optuna.samplers.BaseSampler",),
    "hydra.sweeper.pruner": ("optuna.pruners.BasePruner",),
}
# The slots that take functions, too: those of these names, or any that is written in Python.
FUNCTIONS: dict[str, tuple[str, ...] | None] = {
    "env": ("pgrun.envs.make", "pgrun.envs.make_parallel"),
    "env.shaping": None,
}

EXTRAS = {"algo": "pgrun.config.root.AlgorithmExtras", "env": "pgrun.config.root.EnvExtras"}
