"""Messages between ranks: plain values, and tensors among them."""

from __future__ import annotations

import io
from typing import Any

import torch
import torch.distributed as dist

from pgrun.core import ranks


def gather(x: Any) -> list[Any]:
    """Collect a value from each rank: on the leader a list ordered by rank, on the others []."""
    values = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    with ranks.meeting():
        dist.gather_object(x, values)
    return values or []


def broadcast(x: Any) -> Any:
    """Send the leader's value to every rank and return it."""
    box = [x]
    with ranks.meeting():
        dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]


def packed(x: Any) -> bytes:
    """Serialize tensors and plain values to bytes."""
    buffer = io.BytesIO()
    torch.save(x, buffer)
    return buffer.getvalue()


def unpacked(data: bytes) -> Any:
    """Deserialize what `packed` made; tensors are loaded onto the CPU."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
