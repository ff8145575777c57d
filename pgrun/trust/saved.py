"""Decide whether a saved run may be used: whether it was made here, or what of it somebody has to be trusted for."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgrun.config.packages import is_package
from pgrun.config.paths import config_dir
from pgrun.config.renamed import renew
from pgrun.errors import NotTrusted, UserError
from pgrun.trust.code import needs_trust, top_names
from pgrun.trust.files import read_yaml
from pgrun.trust.finder import allow
from pgrun.trust.record import digest, known, made_here
from pgrun.trust.references import Unresolved, resolve, told

MOST_TOLD = 20  # reasons that a refusal names
RECORDS = {"config.yaml", "hydra.yaml", "overrides.yaml", "resumed.yaml"}  # what a run's .hydra holds
NAME = re.compile(r"[\w./@+-]+")


@dataclass(frozen=True)
class Admitted:
    """A run's config that may be used.

    Args:
        config: the config as plain values; of a run that is not trusted, with references resolved.
        trusted: whether its own code and references may be used, too.
    """

    config: dict[str, Any]
    trusted: bool


def places_of(hydra: Any) -> list[str]:
    """List the folders where a run's code lies: where it was started, and those that hold its folders of configs.

    Args:
        hydra: the `hydra` node that it was composed with, as plain values or a config; None where that is lost.
    """
    runtime = hydra.get("runtime") if hydra is not None and hasattr(hydra, "get") else None
    if runtime is None or not hasattr(runtime, "get"):
        return []
    places = [str(runtime.get("cwd"))] if runtime.get("cwd") else []
    for source in runtime.get("config_sources") or []:
        if hasattr(source, "get") and source.get("schema") == "file" and not is_package(source):
            places.append(str(Path(str(source.get("path"))).parent))
    return [place for place in places if Path(place) != config_dir().parent]


def marks(config: dict[str, Any], places: Sequence[str]) -> list[str]:
    """Compute the digests by which a config is known: with its folders of code, and in case these are lost."""
    renewed = renew(config)
    return [digest(renewed, places), digest(renewed, ())]


def admit(
    folder: Path,
    config: dict[str, Any],
    hydra: dict[str, Any] | None,
    *,
    trust: bool,
    away: Sequence[str] = (),
    home: Path | None = None,
) -> Admitted:
    """Return a saved run's config if it may be used, and let its own code be found if it is trusted.

    Args:
        folder: the run directory.
        config: its config as plain values, references and all.
        hydra: the `hydra` node beside it; None where that is lost.
        trust: whether the user trusts whoever made it.
        away: links in the folder that lead out of it.
        home: the run directory, if the folder is one within it.

    Raises:
        NotTrusted: it is not known as one that was made here, and asks for what only a trusted one may.
    """
    places = places_of(hydra)
    whole, bare = marks(config, places)
    wants, safe = wanted(config, hydra, places)
    place = home or folder
    with_code = known(whole, place)
    is_known = with_code or known(bare, place)
    if away and not (trust or made_here(whole, folder) or made_here(bare, folder)):
        raise NotTrusted(
            f"{folder} was not made here (pgrun has no record of it), and {away[0]} leads out of it; --trust allows it"
        )
    if wants and not is_known:
        names = "; ".join(wants[:MOST_TOLD]) + (f"; and {len(wants) - MOST_TOLD} more" if wants[MOST_TOLD:] else "")
        if not trust:
            raise NotTrusted(
                f"{folder} was not made here (pgrun has no record of it), and would {names}. If you trust who made "
                "it: --trust"
            )
        print(f"pgrun: {folder} is trusted to {names}", file=sys.stderr, flush=True)
    if is_known or trust:
        allow(top_names(config), places if trust or with_code else ())
        return Admitted(config, trusted=True)
    assert safe is not None  # or it would be wanted to resolve the rest
    return Admitted(safe, trusted=False)


def wanted(
    config: dict[str, Any], hydra: dict[str, Any] | None, places: Sequence[str]
) -> tuple[list[str], dict[str, Any] | None]:
    """List what a run asks for that needs trust, and resolve its references where they are harmless."""
    renewed, safe, wants = renew(config), None, []
    try:
        safe = resolve(renewed)
    except Unresolved as error:
        wants = [f"resolve {error}"]
    runtime = hydra.get("runtime") if hydra is not None else None
    choices = runtime.get("choices") if isinstance(runtime, dict) else None
    for group in ("algo", "env"):
        name = choices.get(group) if isinstance(choices, dict) else None
        if isinstance(name, str) and not NAME.fullmatch(name):
            wants.append(f"resolve {told(name)}" if "${" in name else f"call its {group} by an odd name")
    return wants + needs_trust(renewed if safe is None else safe, places), safe


def is_saved(folder: Path) -> bool:
    """Return whether a folder of configs is the one in which a run keeps its config, not one of the user's own."""
    return folder.name == ".hydra" or folder.resolve().name == ".hydra" or (folder / "hydra.yaml").exists()


def admit_again(folder: Path, *, trust: bool) -> None:
    """Check a run's folder of configs before `--config-dir RUN/.hydra` composes it.

    Args:
        folder: that folder.
        trust: whether the user trusts whoever made it.

    Raises:
        UserError: it can't be read, holds more than a run's own files, or needs trust.
    """
    config, hydra = read_yaml(folder / "config.yaml"), read_yaml(folder / "hydra.yaml")
    config = {} if config is None else config
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.yaml'} holds no mapping, as key: value")
    node = hydra.get("hydra") if isinstance(hydra, dict) else None
    admit(folder, config, node if isinstance(node, dict) else None, trust=trust, home=folder.resolve().parent)
    odd = sorted(path.name for path in folder.iterdir() if path.name not in RECORDS)
    odd += [f"{key}: in config.yaml" for key in ("defaults", "hydra") if key in config]
    if odd and not trust:
        raise UserError(f"{folder} holds {odd[0]}, which a run does not keep there; --trust composes it all the same")
