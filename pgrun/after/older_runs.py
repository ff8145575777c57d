"""Records of runs that were made before runs wrote run.json: from Hydra's files, read as plain YAML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pgrun.run.result_file import flatten

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([\w.]+)(?:,\s*([^}]*))?\}")


class ConfigLoader(LOADER):  # type: ignore[misc, valid-type]
    """YAML as OmegaConf reads it: 1e-3 is a number, too."""


ConfigLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def older_record(folder: Path, result: dict[str, Any]) -> dict[str, Any] | None:
    """Gather what run.json would hold; None where the folder holds no run of pgrun's.

    Args:
        folder: the run directory.
        result: the content of its result.json.
    """
    config = read(folder / ".hydra" / "config.yaml")
    if not isinstance(config, dict) or not isinstance(config.get("algo"), dict) or "seed" not in config:
        return None
    flat = without_references(flatten(config))
    chosen = choices(folder / ".hydra" / "hydra.yaml")
    target = str(flat.get("algo._target_", "")).rpartition(".")[2].lower()
    env_id = flat.get("env.id") or flat.get("env.world._target_") or flat.get("env._target_")
    overrides = read(folder / ".hydra" / "overrides.yaml")
    told = read(folder / ".hydra" / "resumed.yaml")
    return {
        "algo": result.get("algo") or chosen.get("algo") or target,
        "env": result.get("env") or chosen.get("env") or str(env_id),
        "env_id": result.get("env_id") or str(env_id),
        "seed": config["seed"],
        "total_steps": config.get("total_steps"),
        "overrides": overrides if isinstance(overrides, list) else [],
        "resumed_with": told if isinstance(told, list) else [],
        "choices": {key: value for key, value in chosen.items() if not key.startswith(("hydra/", "tuned/"))},
        "config": flat,
    }


def read(path: Path) -> Any:
    """Read a YAML file; None if it is missing or torn."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=ConfigLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return None


def without_references(flat: dict[str, Any]) -> dict[str, Any]:
    """Put values in the place of references to other keys, such as ${num_envs}, as far as they are that simple."""
    found = dict(flat)
    for _ in range(3):  # a reference to a reference to a value
        for key, value in found.items():
            if isinstance(value, str) and (match := REFERENCE.fullmatch(value)):
                default = yaml.load(match[2], Loader=ConfigLoader) if match[2] else value
                found[key] = found.get(match[1], default)
    return found


def choices(path: Path) -> dict[str, str]:
    """Read the chosen members of config groups from hydra.yaml, of which they are a small part."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    if "    choices:" not in lines:
        return {}
    block = []
    for line in lines[lines.index("    choices:") + 1 :]:
        if not line.startswith("      "):
            break
        block.append(line)
    try:
        content = yaml.load("\n".join(block), Loader=ConfigLoader)
    except yaml.YAMLError:
        return {}
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}
