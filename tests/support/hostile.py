"""Files that a stranger may send: run directories, checkpoints and demonstrations that are made to do harm.

Each case changes a copy of a good run, and returns the command line of the one who received it. Where it can, it writes
a file if it runs: the canary.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from pgrun.run.checkpoint_files import beside, current, sha256, sum_line

SECRET = "hunter2-of-the-environment"
TRAINED = (
    *("algo=ppo", "env=gym", "env.id=CartPole-v1", "total_steps=64", "num_envs=2", "algo.rollout=16"),
    *("algo.minibatch=16", "algo.epochs=1", "network.hidden=[8]", "eval.every=null", "eval.final_episodes=0"),
)
EVAL = ["eval", "run", "--episodes", "2"]
RESUME = ["resume", "run", "total_steps=128"]
AGAIN = ["--config-dir", "run/.hydra", "hydra.run.dir=new", "total_steps=64"]
SWEEP = [*TRAINED, "-m", "seed=1", "hydra.sweep.dir=sweep"]
HUGE = 10**12


@dataclass
class Place:
    """Where a case is prepared: the folder where the victim stands, with the run in it, and the canary outside."""

    here: Path
    canary: Path

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.here / "run"

    @property
    def config(self) -> Path:
        """The run's config file."""
        return self.run / ".hydra" / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """The file behind latest.pt."""
        return current(self.run / "checkpoints").resolve()

    def module(self, name: str = "evil", folder: Path | None = None) -> str:
        """Lay a module into a folder that writes the canary as soon as it is imported."""
        path = (folder or self.here) / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"open({str(self.canary)!r}, 'w').write('x')\n"
            "def f(*a, **k): return a[0] if a else None\n"
            "class W: pass\nparallel_env = height = f\n"
        )
        return name

    def file(self, text: str = "x") -> str:
        """A file that something may copy onto the canary."""
        path = self.here / "payload"
        path.write_text(text)
        return str(path)

    def pickled(self) -> str:
        """A pickle that writes the canary when it is read."""
        path = self.here / "payload.pkl"
        path.write_bytes(pickle.dumps(Writes(str(self.canary))))
        return str(path)

    def change(self, *changes: tuple[str, Any], checkpoint: bool = True) -> None:
        """Change keys of the run's config, in its file and in its checkpoint."""
        config = OmegaConf.load(self.config)
        OmegaConf.set_struct(config, False)
        for key, value in changes:
            OmegaConf.update(config, key, value, merge=False, force_add=True)
        self.config.write_text(OmegaConf.to_yaml(config))
        if checkpoint:
            self.content(config=OmegaConf.to_container(config, resolve=False))

    def state(self) -> dict[str, Any]:
        """The content of the run's checkpoint."""
        content: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        return content

    def content(self, **changed: Any) -> None:
        """Change entries of the run's checkpoint."""
        self.bytes_of({**self.state(), **changed})

    def bytes_of(self, content: Any) -> None:
        """Write a value as the run's checkpoint."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self.raw(buffer.getvalue())

    def raw(self, data: bytes) -> None:
        """Write bytes as the run's checkpoint, with the right sum beside it."""
        path = self.checkpoint
        path.write_bytes(data)
        digest = sha256(path)
        beside(path).write_bytes(sum_line(digest, path.name))
        (path.parent / ".written-by-pgrun").write_bytes(sum_line(digest, path.name))

    def rewritten(self, change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
        """Change the pickle in the run's checkpoint."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(self.checkpoint) as old, zipfile.ZipFile(buffer, "w", compression) as new:
            for name in old.namelist():
                data = old.read(name)
                new.writestr(name, change(data) if name.endswith("data.pkl") else data)
        self.raw(buffer.getvalue())

    def no_checkpoint(self) -> None:
        """Take the run's checkpoints away, so that its config file counts."""
        for path in (self.run / "checkpoints").iterdir():
            path.unlink()

    def hydra(self, key: str, value: Any) -> None:
        """Change a key of the run's hydra.yaml."""
        path = self.config.with_name("hydra.yaml")
        content = OmegaConf.load(path)
        OmegaConf.update(content, f"hydra.{key}", value, merge=False, force_add=True)
        path.write_text(OmegaConf.to_yaml(content))

    def sweep(self) -> Path:
        """Make the run the job of a sweep that was begun by `SWEEP`; return the job's folder."""
        folder = self.here / "sweep"
        folder.mkdir()
        job = folder / "0"
        self.run.rename(job)
        (folder / "sweep.json").write_text(json.dumps({"arguments": list(SWEEP)}))
        (folder / "jobs.jsonl").write_text(f'"{job.name}"\n')
        return job

    def demonstrations(self, **arrays: Any) -> str:
        """Write a file of demonstrations for CartPole with some arrays replaced; return its name."""
        n = 4
        good: dict[str, Any] = {
            "observations": np.zeros((n, 4), np.float32),
            "actions": np.zeros(n, np.int64),
            "rewards": np.ones(n, np.float32),
            "terminations": np.array([False] * (n - 1) + [True]),
            "truncations": np.zeros(n, bool),
            "episode_starts": np.array([True] + [False] * (n - 1)),
            "format": 1,
        }
        np.savez_compressed(self.here / "demos.npz", **{**good, **arrays})
        return "demos.npz"


class Writes:
    """An object whose unpickling writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (exec, (f"open({self.path!r}, 'w').write('x')",))


Case = Callable[[Place], list[str]]
CASES: dict[str, Case] = {}
# cases whose command gets a process of its own: it might crash
ALONE = {"tensors_that_claim_more", "bytes_of_a_number", "lists_that_multiply", "demonstrations_that_inflate"}


def case(function: Case) -> Case:
    """Add a case, by its function's name."""
    CASES[function.__name__] = function
    return function


def targets(name: str, key: str, value: Callable[[Place], Any], command: list[str] = EVAL) -> None:
    """Add a case whose config has another value for a key."""

    def made(place: Place) -> list[str]:
        place.change((key, value(place)))
        return command

    CASES[name] = made


def holds(name: str, change: Callable[[Place], Any], command: list[str] = EVAL) -> None:
    """Add a case that changes files of the run."""

    def made(place: Place) -> list[str]:
        change(place)
        return command

    CASES[name] = made


# ---------------------------------------------------------------- what a config names

COPY = {"_target_": "shutil.copyfile"}


def copies(place: Place) -> dict[str, Any]:
    return {**COPY, "src": place.file(), "dst": str(place.canary)}


def loads(place: Place) -> dict[str, Any]:
    return {"_target_": "torch.load", "f": place.pickled(), "weights_only": False}


def writes_text(place: Place) -> dict[str, Any]:
    path = {"_target_": "pathlib.Path", "_args_": [str(place.canary)]}
    return {"_target_": "pathlib.Path.write_text", "_args_": [path, "x"]}


def plain(place: Place, key: str) -> dict[str, Any]:
    """A node of the run's config."""
    found: Any = OmegaConf.to_container(OmegaConf.load(place.config))
    return dict(found[key])


def command(place: Place) -> str:
    return f"touch {place.canary}"


targets("env_torch_load", "env", loads)
targets("env_numpy_load", "env", lambda p: {"_target_": "numpy.load", "file": p.pickled(), "allow_pickle": True})
targets("network_joblib_load", "network", lambda p: {"_target_": "joblib.load", "filename": p.pickled()})
targets("optimizer_copies", "optimizer", copies)
targets("network_copies", "network", copies)
targets("network_writes_text", "network", writes_text)
targets("env_kwargs_nested", "env.kwargs", lambda p: {"render_mode": copies(p)})
targets("env_kwargs_nested_deeper", "env.kwargs", lambda p: {"a": [{"b": copies(p)}]})
targets("env_wrapper_copies", "env.wrappers", lambda p: [copies(p)])
targets("env_wrapper_partial", "env.wrappers", lambda p: [{**copies(p), "_partial_": False}])
targets(
    "env_wrapper_records_a_video",
    "env.wrappers",
    lambda p: [{"_target_": "gymnasium.wrappers.RecordVideo", "video_folder": str(p.canary), "_partial_": True}],
)
targets(
    "network_collect_env_run",
    "network",
    lambda p: {"_target_": "torch.utils.collect_env.run", "command": command(p)},
)
targets("algo_subprocess", "algo", lambda p: {"_target_": "subprocess.run", "args": command(p), "shell": True})
targets("network_os_system", "network", lambda p: {"_target_": "os.system", "command": command(p)})
targets(
    "own_function_that_replaces",
    "network",
    lambda p: {
        "_target_": "pgrun.system.atomic.replace",
        "path": {"_target_": "pathlib.Path", "_args_": [str(p.canary)]},
        "data": {"_target_": "builtins.bytes", "_args_": [[120]]},
    },
)
targets(
    "own_function_that_writes_json",
    "optimizer",
    lambda p: {
        "_target_": "pgrun.run.result_file.write_json",
        "path": {"_target_": "pathlib.Path", "_args_": [str(p.canary)]},
        "content": {},
    },
)
targets(
    "old_name_of_an_own_function",
    "optimizer",
    lambda p: {"_target_": "pgrun.atomic.double", "link": str(p.canary), "target": p.file()},
)
targets(
    "partial_of_a_partial",
    "network",
    lambda p: {"_target_": "functools.partial", "_args_": [copies(p)]},
)
targets("advantage_copies", "algo.advantage", copies)
targets(
    "advantage_in_a_mixture",
    "algo.advantage",
    lambda p: {"_target_": "pgrun.core.mixture.Mixture", "weights": {"td": 1.0}, "terms": {"td": copies(p)}},
)
targets("shaping_function", "env.shaping", lambda p: {"_target_": f"{p.module()}.height", "_partial_": True})
targets("shaping_copies", "env.shaping", copies, RESUME)
targets("memory_copies", "memory", copies, RESUME)
targets("collector_subprocess", "collector", lambda p: {"_target_": "subprocess.getoutput", "cmd": command(p)}, RESUME)
targets("parallel_copies", "parallel", copies, RESUME)
targets("class_of_another_kind", "network", lambda p: {"_target_": "logging.FileHandler", "filename": str(p.canary)})
targets("shipped_class_in_another_slot", "network", lambda p: {"_target_": "pgrun.system.lock.Lock", "path": "x"})
targets("target_is_a_number", "network._target_", lambda p: 3)
targets("target_is_a_list", "network._target_", lambda p: ["os.system"])
targets("module_beside", "algo._target_", lambda p: f"{p.module()}.W")
targets("env_id_module", "env.id", lambda p: f"{p.module()}:CartPole-v1")
targets("env_id_package_of_the_run", "env.id", lambda p: f"{p.module('evil', p.run)}:CartPole-v1", ["eval", "run"])
targets("env_id_shim", "env.id", lambda p: "GymV26Environment-v0")
targets(
    "pettingzoo_module",
    "env",
    lambda p: {
        "_target_": "pgrun.envs.make_parallel",
        "_partial_": True,
        "id": p.module(),
        "num_envs": 2,
        "agents": "rows",
        "agent_index": False,
        "max_episode_steps": None,
        "kwargs": {},
    },
)
targets(
    "pettingzoo_function",
    "env",
    lambda p: {
        "_target_": "pgrun.envs.make_parallel",
        "_partial_": True,
        "id": "subprocess:getoutput",
        "num_envs": 2,
        "agents": "rows",
        "agent_index": False,
        "max_episode_steps": None,
        "kwargs": {"cmd": command(p)},
    },
)
targets("wrapper_by_name", "env.wrappers", lambda p: [f"{p.module()}.W"])
targets("wrapper_of_evaluation", "eval.env.wrappers", lambda p: [f"{p.module()}.W"])
targets("env_id_of_evaluation", "eval.env.id", lambda p: f"{p.module()}:CartPole-v1")
targets("a_simulator_s_file", "env.kwargs", lambda p: {"xml_file": "/etc/passwd"})
targets(
    "a_cluster_of_theirs",
    "parallel",
    lambda p: {
        "_target_": "pgrun.parallel.ray.team.OnRay",
        "_partial_": True,
        "workers": 2,
        "address": "ray://evil:1",
        "cpus": 1,
    },
    RESUME,
)
targets(
    "ten_thousand_processes",
    "env",
    lambda p: {
        **plain(p, "env"),
        "backend": "async",
        "num_envs": 10_000,
    },
    RESUME,
)
targets("a_network_of_terabytes", "network.hidden", lambda p: [10**6, 10**6])


@case
def search_path_of_the_run(place: Place) -> list[str]:
    place.module("mine", place.here / "elsewhere")
    place.hydra("runtime.cwd", str(place.here / "elsewhere"))
    place.change(("algo._target_", "mine.W"))
    return EVAL


@case
def changes_that_a_resume_was_told(place: Place) -> list[str]:
    (place.run / ".hydra" / "resumed.yaml").write_text(f"- eval.env.wrappers=[{place.module()}.W]\n")
    return EVAL


@case
def callbacks_beside_the_config(place: Place) -> list[str]:
    folder = place.run / ".hydra" / "hydra" / "callbacks"
    folder.mkdir(parents=True)
    (folder / "pgrun.yaml").write_text(f"x:\n  _target_: {place.module()}.W\n")
    return AGAIN


@case
def defaults_in_a_saved_config(place: Place) -> list[str]:
    text = place.config.read_text()
    place.config.write_text(
        f"defaults: [config, _self_]\nhydra:\n  callbacks:\n    x:\n      _target_: {place.module()}.W\n{text}"
    )
    return AGAIN


@case
def saved_config_again(place: Place) -> list[str]:
    place.change(("optimizer", copies(place)))
    return AGAIN


@case
def saved_config_again_with_an_environment(place: Place) -> list[str]:
    place.change(("env.id", f"{place.module()}:CartPole-v1"))
    return AGAIN


# ---------------------------------------------------------------- what a config refers to

targets("environment_as_an_id", "env.id", lambda p: "${oc.env:PGRUN_SECRET}")
targets("environment_as_a_setting", "algo.gamma", lambda p: "${oc.env:PGRUN_SECRET}")
targets("environment_decoded", "seed", lambda p: "${oc.decode:${oc.env:PGRUN_SECRET}}")
targets("environment_in_the_middle", "env.id", lambda p: "x-${oc.env:PGRUN_SECRET}-y")
targets("environment_by_a_detour", "env.id", lambda p: "${oc.select:nothing,${oc.env:PGRUN_SECRET}}")
targets("environment_as_a_file", "demonstrations", lambda p: "${oc.env:PGRUN_SECRET}", RESUME)


@case
def free_dir_of_a_file_s(place: Place) -> list[str]:
    place.change(("algo.init_from", f"${{free_dir:{place.canary}}}"), checkpoint=False)
    place.no_checkpoint()
    return RESUME


@case
def environment_without_a_checkpoint(place: Place) -> list[str]:
    place.change(("algo.init_from", "${oc.env:PGRUN_SECRET}"), checkpoint=False)
    place.no_checkpoint()
    return RESUME


@case
def environment_as_a_choice(place: Place) -> list[str]:
    place.hydra("runtime.choices.env", "${oc.env:PGRUN_SECRET}")
    return EVAL


@case
def environment_as_a_change(place: Place) -> list[str]:
    (place.run / ".hydra" / "resumed.yaml").write_text("- eval.env.id=${oc.env:PGRUN_SECRET}\n")
    return EVAL


@case
def environment_in_a_saved_config(place: Place) -> list[str]:
    place.change(("env.id", "${oc.env:PGRUN_SECRET}"), checkpoint=False)
    return AGAIN


@case
def references_that_multiply(place: Place) -> list[str]:
    keys = {f"x{i}": f"${{x{i + 1}}}${{x{i + 1}}}" for i in range(60)}
    place.change(*keys.items(), ("x60", "y" * 100))
    return EVAL


@case
def references_to_mappings_that_multiply(place: Place) -> list[str]:
    keys: list[tuple[str, Any]] = [(f"x{i}", {"a": f"${{x{i + 1}}}", "b": f"${{x{i + 1}}}"}) for i in range(40)]
    place.change(*keys, ("x40", "y"))
    return EVAL


@case
def references_in_a_circle(place: Place) -> list[str]:
    place.change(("seed", "${total_steps}"), ("total_steps", "${seed}"))
    return EVAL


# ---------------------------------------------------------------- checkpoints

holds("algorithm_is_a_number", lambda p: p.content(algorithm=3))
holds("module_is_a_list", lambda p: p.content(algorithm={**p.state()["algorithm"], "module": [1]}))
holds("clock_is_text", lambda p: p.content(clock="x"))
holds("config_is_a_number", lambda p: p.content(config=3))
holds("config_is_a_list", lambda p: p.content(config=[{}]))
holds("config_has_nothing", lambda p: p.content(config={}))
holds("checkpoint_is_a_list", lambda p: p.bytes_of([1, 2]))
holds("checkpoint_is_a_number", lambda p: p.bytes_of(7), RESUME)
holds("checkpoint_is_a_pickle", lambda p: p.raw(Path(p.pickled()).read_bytes()))
holds("checkpoint_has_a_pickle", lambda p: p.rewritten(lambda _: Path(p.pickled()).read_bytes()))
holds("checkpoint_is_text", lambda p: p.raw(b"hello" * 1000))
holds("checkpoint_of_nothing", lambda p: p.raw(b""))


def tensors(make: Callable[[torch.Tensor], Any]) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        algorithm = place.state()["algorithm"]
        module = {name: make(tensor) for name, tensor in algorithm["module"].items()}
        place.content(algorithm={**algorithm, "module": module})

    return change


holds("text_for_tensors", tensors(lambda _: "x"))
holds("numbers_for_tensors", tensors(lambda _: 1.0))
holds("meta_tensors", tensors(lambda t: torch.empty(t.shape, device="meta")))
holds("huge_meta_tensors", tensors(lambda _: torch.empty(HUGE, device="meta")))
holds("sparse_tensors", tensors(lambda t: t.to_sparse() if t.dim() else t))
holds("huge_sparse_tensors", tensors(lambda _: torch.sparse_coo_tensor(torch.zeros(1, 1), [1.0], (HUGE,))))
holds("quantised_tensors", tensors(lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.quint8)))
holds("stretched_tensors", tensors(lambda _: torch.zeros(1).expand(10**9)))
holds("other_shapes", tensors(lambda t: torch.zeros(7, 7)))
holds("complex_tensors", tensors(lambda t: t.to(torch.complex64)))
holds("too_large_a_module", tensors(lambda t: torch.zeros(3)), RESUME)
holds("no_memory_of_its_own", lambda p: p.content(memory={"x": "y"}, collector=5), RESUME)
holds("odd_generators", lambda p: p.content(generators={"torch": "x"}), RESUME)
holds("odd_evaluation", lambda p: p.content(evaluation=[]), RESUME)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def multiplied() -> Any:
    value: Any = [1]
    for _ in range(60):
        value = [value] * 2
    return value


holds("deep_lists", lambda p: p.content(names=nested(150)))
holds("lists_that_multiply", lambda p: p.content(names=multiplied()))


def claims(data: bytes) -> bytes:
    """Make each tensor with 8 numbers claim two thousand million, as the file and as the tensor has it."""
    return data.replace(b"K\x08", b"J" + struct.pack("<i", 2 * 10**9))


holds("tensors_that_claim_more", lambda p: p.rewritten(claims))
BYTES = b"\x80\x02cbuiltins\nbytearray\nq\x00\x8a\x05" + (3 * 10**9).to_bytes(5, "little") + b"\x85R."
holds("bytes_of_a_number", lambda p: p.rewritten(lambda _: BYTES))


@case
def a_compressed_checkpoint(place: Place) -> list[str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(place.checkpoint) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name.endswith("/data/0"):
                with new.open(name, "w", force_zip64=True) as file:
                    for _ in range(1500):
                        file.write(bytes(1_000_000))
            else:
                new.writestr(name, old.read(name))
    place.raw(buffer.getvalue())
    return EVAL


@case
def start_from_another_s(place: Place) -> list[str]:
    tensors(lambda _: "x")(place)
    return [*TRAINED, "algo.init_from=run", "hydra.run.dir=new"]


@case
def start_from_a_number(place: Place) -> list[str]:
    place.content(algorithm=3)
    return [*TRAINED, "algo.init_from=run", "hydra.run.dir=new"]


@case
def reference_to_text(place: Place) -> list[str]:
    tensors(lambda _: "x")(place)
    return [*TRAINED, "+algo.reference=run", "algo=grpo", "hydra.run.dir=new"]


# ---------------------------------------------------------------- files


def replaced(path: Callable[[Place], Path], text: str | bytes) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        where = path(place)
        if where.name == "config.yaml":
            place.no_checkpoint()
        where.write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def other(path: Callable[[Place], Path], make: Callable[[Path], Any]) -> Callable[[Place], None]:
    """Put something else in a file's place."""

    def change(place: Place) -> None:
        where = path(place)
        if where.name == "config.yaml":
            place.no_checkpoint()
        with contextlib.suppress(FileNotFoundError):
            where.unlink()
        make(where)

    return change


def config_of(place: Place) -> Path:
    return place.config


def result_of(place: Place) -> Path:
    return place.run / "result.json"


def sparse(path: Path) -> None:
    """Make a file of 2 GB that takes no room."""
    with open(path, "wb") as file:
        file.truncate(2 * 10**9)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))

holds("config_file_is_a_list", replaced(config_of, "- 1\n- 2\n"), RESUME)
holds("config_file_is_text", replaced(config_of, "hello\n"), RESUME)
holds("config_file_is_binary", replaced(config_of, bytes(range(256)) * 10), RESUME)
holds("config_file_is_deep", replaced(config_of, "[" * 5000 + "]" * 5000), RESUME)
holds("config_file_laughs", replaced(config_of, LAUGHS), RESUME)
holds("config_file_is_huge", other(config_of, sparse), RESUME)
holds("config_file_is_a_folder", other(config_of, Path.mkdir), RESUME)
holds("config_file_is_a_pipe", other(config_of, os.mkfifo), RESUME)
holds("config_file_of_other_keys", replaced(config_of, "algo: 3\nenv: []\neval: x\n"), RESUME)
holds("config_file_as_a_tag", replaced(config_of, "!!python/object/apply:os.system [x]\n"), RESUME)
holds("saved_config_laughs", replaced(config_of, LAUGHS), AGAIN)
holds("saved_config_is_huge", other(config_of, sparse), AGAIN)
holds("saved_config_is_a_pipe", other(config_of, os.mkfifo), AGAIN)
holds("result_is_a_list", replaced(result_of, "[1]"), RESUME)
holds("result_is_deep", replaced(result_of, "[" * 100_000), RESUME)
holds("result_is_a_pipe", other(result_of, os.mkfifo), RESUME)
holds("result_is_a_folder", other(result_of, Path.mkdir), RESUME)
holds("result_is_huge", other(result_of, sparse), RESUME)
holds("log_is_a_pipe", other(lambda p: p.run / "pgrun.log", os.mkfifo), RESUME)
holds("lock_is_a_pipe", other(lambda p: p.run / ".lock", os.mkfifo), RESUME)
holds("checkpoint_is_a_pipe", other(lambda p: p.checkpoint, os.mkfifo))
holds("list_of_checkpoints_is_a_pipe", other(lambda p: p.run / "checkpoints" / ".written-by-pgrun", os.mkfifo))
holds("sum_is_huge", other(lambda p: beside(p.checkpoint), sparse))
holds("changes_are_a_mapping", lambda p: (p.run / ".hydra" / "resumed.yaml").write_text("a: b\n"))


@case
def log_leads_away(place: Place) -> list[str]:
    (place.run / "pgrun.log").unlink()
    (place.run / "pgrun.log").symlink_to(place.canary)
    return RESUME


@case
def draft_leads_away(place: Place) -> list[str]:
    (place.run / ".result.json.pgrun-tmp").symlink_to(place.canary)
    return RESUME


@case
def lock_leads_away(place: Place) -> list[str]:
    (place.run / ".lock").unlink(missing_ok=True)
    (place.run / ".lock").symlink_to(place.canary)
    return RESUME


@case
def checkpoints_lead_away(place: Place) -> list[str]:
    (place.run / "checkpoints").rename(place.here / "others")
    (place.run / "checkpoints").symlink_to(place.here / "others")
    return RESUME


@case
def records_lead_away(place: Place) -> list[str]:
    (place.run / ".hydra").rename(place.here / "others")
    (place.run / ".hydra").symlink_to(place.here / "others")
    return RESUME


# ---------------------------------------------------------------- sweeps


def in_sweep(change: Callable[[Place, Path], Any]) -> Callable[[Place], None]:
    return lambda place: change(place, place.sweep())


def at(name: str, make: Callable[[Path], Any]) -> Callable[[Place], None]:
    """Put something in place of a file of the sweep's folder."""

    def change(place: Place, job: Path) -> None:
        (job.parent / name).unlink(missing_ok=True)
        make(job.parent / name)

    return in_sweep(change)


holds("sweep_is_a_list", at("sweep.json", lambda p: p.write_text("[1]")), SWEEP)
holds("sweep_has_no_arguments", at("sweep.json", lambda p: p.write_text("{}")), SWEEP)
holds("sweep_has_odd_arguments", at("sweep.json", lambda p: p.write_text('{"arguments": {"a": 1}}')), SWEEP)
holds("sweep_is_a_pipe", at("sweep.json", os.mkfifo), SWEEP)
holds("sweep_is_huge", at("sweep.json", sparse), SWEEP)
holds("jobs_are_a_pipe", at("jobs.jsonl", os.mkfifo), SWEEP)
holds("sweep_s_lock_is_a_pipe", at(".lock", os.mkfifo), SWEEP)


@case
def jobs_lead_away(place: Place) -> list[str]:
    place.sweep()
    (place.here / "sweep" / "jobs.jsonl").unlink()
    (place.here / "sweep" / "jobs.jsonl").symlink_to(place.canary)
    return SWEEP


@case
def job_s_folder_leads_away(place: Place) -> list[str]:
    job = place.sweep()
    job.rename(place.here / "others")
    job.symlink_to(place.here / "others")
    return SWEEP


@case
def job_s_config_asks_for_the_environment(place: Place) -> list[str]:
    place.change(("algo.gamma", "${oc.env:PGRUN_SECRET}"), ("seed", 7), checkpoint=False)
    place.sweep()
    return SWEEP


@case
def job_s_result_is_a_list(place: Place) -> list[str]:
    (place.sweep() / "result.json").write_text("[]")
    return SWEEP


@case
def job_s_log_leads_away(place: Place) -> list[str]:
    job = place.sweep()
    (job / "result.json").unlink()
    (job / "pgrun.log").unlink()
    (job / "pgrun.log").symlink_to(place.canary)
    return SWEEP


# ---------------------------------------------------------------- demonstrations

DEMOS = ["algo=behaviour_cloning", *TRAINED[1:5], "network.hidden=[8]", "demonstrations=demos.npz", "hydra.run.dir=new"]
holds("demonstrations_of_objects", lambda p: p.demonstrations(rewards=np.array([Writes(str(p.canary))] * 4)), DEMOS)
holds("demonstrations_of_text", lambda p: p.demonstrations(rewards=np.array(["a", "b", "c", "d"])), DEMOS)
holds("demonstrations_of_records", lambda p: p.demonstrations(actions=np.zeros(4, [("a", "i4")])), DEMOS)
holds("demonstrations_in_an_odd_format", lambda p: p.demonstrations(format=np.array(["x", "y"])), DEMOS)
holds("demonstrations_of_odd_spaces", lambda p: p.demonstrations(action_space="[" * 100_000), DEMOS)
holds("demonstrations_are_a_pipe", lambda p: os.mkfifo(p.here / "demos.npz"), DEMOS)
holds("demonstrations_are_a_folder", lambda p: (p.here / "demos.npz").mkdir(), DEMOS)
holds("demonstrations_are_a_pickle", lambda p: Path(p.pickled()).rename(p.here / "demos.npz"), DEMOS)


def member(name: str, header: bytes, size: int = 0) -> Callable[[Place], None]:
    """Replace an array by one of a header and so many megabytes of zeros."""

    def change(place: Place) -> None:
        place.demonstrations()
        old = place.here / "demos.npz"
        with zipfile.ZipFile(old) as good:
            parts = {part: good.read(part) for part in good.namelist()}
        with zipfile.ZipFile(old, "w", zipfile.ZIP_DEFLATED) as file:
            for part, data in parts.items():
                if part != f"{name}.npy":
                    file.writestr(part, data)
            with file.open(f"{name}.npy", "w", force_zip64=True) as written:
                written.write(header)
                for _ in range(size):
                    written.write(bytes(1_000_000))

    return change


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


holds("demonstrations_that_inflate", member("rewards", header((2 * 10**8,)), 1600), DEMOS)
holds("demonstrations_that_claim", member("rewards", header((3 * 10**8,))), DEMOS)
holds("demonstrations_that_claim_all", member("rewards", header((HUGE,))), DEMOS)


@case
def demonstrations_of_unlike_lengths(place: Place) -> list[str]:
    n, short = 40_000, 20_000
    starts = np.zeros(n, bool)
    starts[:short] = True
    ends = np.append(starts[1:], True)
    rows = {"rewards": np.ones(n, np.float32), "actions": np.zeros(n, np.int64)}
    place.demonstrations(
        observations=np.zeros((n, 4), np.float32),
        episode_starts=starts,
        terminations=ends,
        truncations=np.zeros(n, bool),
        **rows,
    )
    return DEMOS
