"""SummaryWriter's inside: writing a summary that has no method of its own."""

from __future__ import annotations

from typing import Any


def add_summary(writer: Any, summary: Any) -> None:
    """Write a summary into a SummaryWriter's event file."""
    writer._get_file_writer().add_summary(summary)
