"""What ranks tell one another beside tensors: any plain values, and tensors among them."""

from __future__ import annotations

import io
from typing import Any

import torch
import torch.distributed as dist

from pgrun.core import ranks


def gather(x: Any) -> list[Any]:
    """What each rank brings, by rank, on the leader; [] on the others."""
    found = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    with ranks.meeting():
        dist.gather_object(x, found)
    return found or []


def broadcast(x: Any) -> Any:
    """The leader's, on every rank."""
    box = [x]
    with ranks.meeting():
        dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]


def packed(x: Any) -> bytes:
    """Tensors and plain values as bytes."""
    buffer = io.BytesIO()
    torch.save(x, buffer)
    return buffer.getvalue()


def unpacked(data: bytes) -> Any:
    """The way back, on the CPU."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
