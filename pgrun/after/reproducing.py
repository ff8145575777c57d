"""Running a run again, and finding the first evaluation at which the two part."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from pgrun.after.reproduced import Entry, Reproduced
from pgrun.config.resolve import resolved
from pgrun.config.suggest import nearest
from pgrun.config.values import validate_keys
from pgrun.config.walk import keys
from pgrun.errors import UserError
from pgrun.run import manifest, provenance
from pgrun.run.alone import alone
from pgrun.run.build import build
from pgrun.run.changes import report_stale_config
from pgrun.run.claim import refuse_taken
from pgrun.run.console import shown
from pgrun.run.directory import check_run, flat, hydra_of, load_run
from pgrun.run.logs import logged
from pgrun.run.run import Run
from pgrun.system.atomic import told as telling
from pgrun.system.secrets import STARS
from pgrun.trust.files import read_yaml


class Comparison:
    """Compares a run's evaluations with those of an earlier one as they come, and stops it where they part.

    Args:
        then: the earlier run's evaluations.
        until: the environment step to stop at; None: go on to the end.
    """

    def __init__(self, then: Sequence[Entry], until: int | None) -> None:
        self.then, self.until = list(then), until
        self.now: list[Entry] = []  # the new run's evaluations, which it adds to
        self.stopped = False  # whether it stopped the new run

    def __call__(self, steps: int, mean: float) -> bool:
        """Return True to stop: the runs have parted, or enough is compared."""
        enough = (self.until is not None and steps >= self.until) or len(self.now) >= len(self.then)
        self.stopped = self.parted() is not None or (enough and not self.then[-1].get("final"))
        return self.stopped

    def parted(self) -> int | None:
        """Return the number of the first evaluation that differs; None if none does."""
        pairs = enumerate(zip(self.then, self.now, strict=False))
        return next((i for i, (a, b) in pairs if essence(a) != essence(b)), None)


def essence(entry: Entry) -> tuple[Any, ...]:
    """Return what has to be the same of an evaluation."""
    return tuple(entry.get(key) for key in ("env_steps", "updates", "return", "parameters"))


def reproduce_run(
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    until: int | None = None,
    into: Path | None = None,
    trust: bool = False,
    quiet: bool = False,
) -> Reproduced:
    """Run a run again, from its start, in a new directory, and compare the two at each evaluation.

    Args:
        folder: the run directory.
        overrides: `key=value` each, to see when a change first shows.
        until: stop at the first evaluation from this environment step on; None: go to the run's end.
        into: the new run directory; None: one beside the run, called RUN-reproduced.
        trust: use its code although it was not made here.
        quiet: print nothing and show no progress.

    Raises:
        UserError: it is no run directory, has no evaluations to compare with, or can't be run here.
    """
    begin = time.perf_counter()
    check_run(folder)
    record = provenance.read(folder)
    then = list(record.get("evaluations", []))
    if not then:
        raise UserError(without_evaluations(folder))
    config, names = load_run(folder, trust=trust)
    changed = undo_changes(config, record)
    notes = list(changed)
    config = overridden(config, overrides)
    notes += unreached(then, until)
    if changed:
        until = min(until or first_change(record), first_change(record))
    if until is not None:
        then = [entry for entry in then if not (changed and entry.get("final"))]
        last = next((i for i, entry in enumerate(then) if entry["env_steps"] >= until), len(then))
        then = then[:last] if changed else then[: last + 1]  # after a change the run is another one
        if not then:
            raise UserError(f"{shown(folder)} was changed by pgrun resume before its first evaluation")
    if races(config):
        notes.append("its processes race each other, so that no two runs of it are the same")
    target = into or free_beside(folder)
    refuse_taken(target.absolute(), f"--into {target}", None)
    with report_stale_config(folder):
        parts = build(config, fresh=True)
    prepare_folder(folder, target, config, overrides)
    comparison = Comparison(then, until)
    with alone(target), logged(target, quiet=quiet):
        known: dict[str, Any] = {"names": names, "hydra": hydra_of(target), "quiet": quiet, "trusted": trust}
        known["reproduces"] = str(folder.absolute())
        run = Run(config, parts, target.absolute(), begin=begin, hopeless=comparison, **known)
        comparison.now = run.provenance.evaluations
        result = run.execute()
    if result["status"] == "interrupted" and not comparison.stopped:
        raise KeyboardInterrupt
    return outcome(target, comparison, record, provenance.read(target), notes)


def outcome(folder: Path, comparison: Comparison, then: Entry, now: Entry, notes: list[str]) -> Reproduced:
    """Sum up a comparison."""
    at, compared = comparison.parted(), min(len(comparison.then), len(comparison.now))
    found = Reproduced(folder, compared, notes=notes, differences=differences(then, now))
    if at is None and compared < len(comparison.then):  # the new run ended sooner
        found.then, found.now = comparison.then[compared], {}
    elif at is not None:
        found.then, found.now = comparison.then[at], comparison.now[at]
    found.last_step = comparison.then[compared - 1]["env_steps"] if compared else 0
    return found


def undo_changes(config: DictConfig, record: Entry) -> list[str]:
    """Take back the changes that `pgrun resume` was told, since the run began without them; say which they are."""
    changes = [text for session in record.get("sessions", []) for text in session.get("changes", [])]
    named = list(dict.fromkeys(text.partition("=")[0] for text in changes))
    free = ("device", "act_device", "log", "checkpoint", "parallel")
    for key in named:
        value = OmegaConf.select(OmegaConf.create(record["config"]), key)
        OmegaConf.update(config, key, value, force_add=True)
    deciding = [key for key in named if key.partition(".")[0] not in free]
    if not deciding:
        return []
    step = first_change(record)
    return [
        f"it was resumed at step {step:,} with other {', '.join(deciding)}: only evaluations before that are compared"
    ]


def unreached(then: Sequence[Entry], until: int | None) -> list[str]:
    """Say so where a run ended before the step up to which it should be compared."""
    last = then[-1]["env_steps"]
    if until is None or until <= last:
        return []
    return [f"step {until:,} is not reached: the run's last evaluation is at step {last:,}"]


def without_evaluations(folder: Path) -> str:
    """Say that a run has no evaluations to compare with, and why."""
    if (folder / provenance.FILE).exists():
        return f"{shown(folder)} has no evaluations in {provenance.FILE} to compare with: it ended before its first one"
    try:
        lost = provenance.FILE in (manifest.read(folder) or {})
    except manifest.Damaged:
        lost = True
    why = "it was deleted" if lost else "a version before 0.2 made the run, or it was deleted"
    return f"{shown(folder)} has no {provenance.FILE}, with the evaluations to compare with: {why}"


def first_change(record: Entry) -> int:
    """Return the environment step at which a run was first resumed with changes."""
    return min(session["first_step"] for session in record["sessions"] if session.get("changes"))


def overridden(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Change keys of a config.

    Raises:
        UserError: there is no such key, or a value is wrong.
    """
    known = list(keys(config))
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals:
            raise UserError(f"can't read {text!r}: write key=value")
        if key not in known:
            raise UserError(f"the run's config has no {key} (did you mean {nearest(key, known, 1)[0]}?)")
        config = resolved(DictConfig(OmegaConf.merge(config, OmegaConf.from_dotlist([text]))))
    validate_keys(config, (text.partition("=")[0] for text in overrides))
    return config


def races(config: DictConfig) -> bool:
    """Tell whether a run's processes race."""
    return any(name in str(OmegaConf.select(config, "parallel._target_") or "") for name in ("hogwild", "ray"))


def free_beside(folder: Path) -> Path:
    """Name a directory beside a run that is not there yet."""
    plain = folder.absolute()
    names = (f"{plain.name}-reproduced{'' if n == 1 else f'-{n}'}" for n in itertools.count(1))
    return next(path for name in names if not (path := plain.with_name(name)).exists())


def prepare_folder(folder: Path, target: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    """Make the new run directory, with what Hydra would have written into it."""
    files: dict[str, Any] = {"hydra.yaml": read_yaml(folder / ".hydra" / "hydra.yaml")}
    if hydra_of(folder) is not None:
        task = files["hydra.yaml"]["hydra"].setdefault("overrides", {})
        task["task"] = files["overrides.yaml"] = [*(task.get("task") or ()), *overrides]
    with telling("can't write into", target):
        (target / ".hydra").mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if content is not None:
                (target / ".hydra" / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        (target / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(config), encoding="utf-8")


def differences(then: Entry, now: Entry) -> list[str]:
    """List what differs between two runs' provenances, one line each."""
    lines = [f"config: {line}" for line in unequal(flat_values(then.get("config")), flat_values(now.get("config")))]
    one, other = (record.get("sessions", [{}])[0] for record in (then, now))
    for part in ("versions", "machine"):
        lines += [f"{part}: {line}" for line in unequal(one.get(part) or {}, other.get(part) or {})]
    return lines + code_differences(one.get("code"), other.get("code"))


def code_differences(one: Entry | None, other: Entry | None) -> list[str]:
    """Say how the code of two runs differs, as far as git knows."""
    if one is None or other is None:
        if one == other:
            return []
        return [f"code: {'no git repository then' if one is None else 'no git repository now'}"]
    if one["commit"] != other["commit"]:
        return [f"code: commit {one['commit'][:12]} then, {other['commit'][:12]} now"]
    diffs = [(code.get("diff") or {}).get("sha256") for code in (one, other)]
    if diffs[0] == diffs[1] and one.get("changed") == other.get("changed"):
        return []
    return [f"code: the same commit {one['commit'][:12]}, with other changes that are not committed (code.diff)"]


def flat_values(config: Any) -> Entry:
    """Return a config as values by dotted key."""
    return flat(config) if isinstance(config, dict) else {}


def unequal(one: Entry, other: Entry) -> list[str]:
    """List the keys whose values differ, with both values; masked ones are left out."""
    changed = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    return [
        f"{key} {one.get(key, '(none)')} then, {other.get(key, '(none)')} now"
        for key in changed
        if STARS not in (one.get(key), other.get(key))
    ]
