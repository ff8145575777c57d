"""The output of commands: replace characters that a terminal lacks, and keep stdout for a result alone."""

from __future__ import annotations

import codecs
import ctypes
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

SPELT = {
    **{"±": "+/-", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "×": "x", "·": "*", "≥": ">=", "≤": "<="},
    **{"∇": "grad ", "Σ": "sum", "∞": "inf", "‖": "||", "’": "'", "‘": "'", "“": '"', "”": '"', "′": "'", "√": "sqrt"},
}


def spelt(character: str) -> str:
    """Write a character in ASCII, as readably as possible."""
    if character in SPELT:
        return SPELT[character]
    name = unicodedata.name(character, "")
    if name.startswith("GREEK SMALL LETTER "):
        return name.removeprefix("GREEK SMALL LETTER ").split()[0].lower()
    if name.startswith("GREEK CAPITAL LETTER "):
        return name.removeprefix("GREEK CAPITAL LETTER ").split()[0].capitalize()
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or character.encode("ascii", "backslashreplace").decode()


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace a character that can't be encoded; an undecodable byte becomes that byte again."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return spelt(character), error.start + 1


codecs.register_error("pgrun.spelt", _replaced)


def spell_what_is_lacking() -> None:
    """Make stdout and stderr spell characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="pgrun.spelt")


@contextmanager
def stdout_alone() -> Iterator[None]:
    """Send to stderr what is printed in the block: by Python, by C code, and by child processes."""
    stdout = sys.stdout
    kept = None
    with suppress(OSError, ValueError):  # a stream is closed
        stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        with suppress(OSError, ValueError):
            stdout.flush()  # code that kept the old sys.stdout may have printed there
        with suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).fflush(None)  # C code's buffers
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def end_stdout() -> None:
    """Send to stderr what is still printed while the process ends."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        os.dup2(2, 1)
