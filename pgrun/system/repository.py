"""The state of the code in the working directory, as its git repository knows it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pgrun.system.secrets import STARS, masked

LONGEST = 256 * 1024  # bytes of a diff that are kept
MOST = 50  # names of files that git doesn't know
PATIENCE = 5.0  # seconds for one call of git
FRESH = 30.0  # seconds for which the jobs of a process share an answer
PRIVATE_FILE = re.compile(r"(?:^|/)(?:\.env[^/]*|\.netrc|id_\w+|[^/]+\.(?:pem|key|p12))$")


class Code(NamedTuple):
    """The state of the code."""

    facts: dict[str, Any]  # commit, whether it is changed, the diff's digest and size, names git doesn't know
    diff: str  # what differs from the commit, secrets masked; cut where it is long


def code_of(folder: Path) -> Code | None:
    """Read the state of the repository that a folder is in; None where there is none, or no git."""
    return _code_of(folder, int(time.monotonic() / FRESH))


@lru_cache(maxsize=4)
def _code_of(folder: Path, _: int) -> Code | None:
    commit = git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    whole = git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")
    others = (git(folder, "ls-files", "--others", "--exclude-standard") or "").splitlines()
    diff = None if whole is None else masked(without_private_files(whole))
    facts: dict[str, Any] = {"commit": commit.strip(), "changed": None if diff is None else bool(diff)}
    if diff:
        data = diff.encode()
        facts["diff"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "cut": len(data) > LONGEST}
        diff = data[:LONGEST].decode(errors="ignore")
    if others:
        facts["unknown_to_git"] = [*others[:MOST], *([f"and {len(others) - MOST} more"] if len(others) > MOST else [])]
    return Code(facts, diff or "")


def git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints; None where it fails, takes too long or is not there."""
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def without_private_files(diff: str) -> str:
    """Replace the contents of files that hold secrets by their nature, such as .env, in a diff."""
    parts = re.split(r"(?m)^(?=diff --git )", diff)
    return "".join(
        f"{head}\n{STARS}\n" if (head := part.partition("\n")[0]) and PRIVATE_FILE.search(head) else part
        for part in parts
    )
