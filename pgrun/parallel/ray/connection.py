"""A connection to Ray: to a running cluster, or to one of this process alone."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

from pgrun.compat.ray import send_token_where_asked, silence_workers
from pgrun.errors import UserError
from pgrun.system.signals import signals_kept, unheard_by_children

SETTINGS = {  # Ray's, where the user has none
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no warning about GPUs
    "RAY_worker_niceness": "0",  # else what runs on it is the last to get a busy machine's cores
}


def connect(address: str | None, cpus: int | None, key: str) -> None:
    """Connect this process to Ray.

    Args:
        address: of a running cluster, or "auto" for this machine's; None: one is started here, which ends with this
            process or with `disconnect`.
        cpus: that one started here has; None: the machine's.
        key: the configuration's name for the address, for the messages.

    Raises:
        UserError: Ray can't be reached.
    """
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    silence_workers()  # a worker's end has a line of ours
    options: dict[str, Any] = {"address": address or "local"}
    if address is None:
        options |= {"num_cpus": cpus, "include_dashboard": False}
    else:
        knock(address, key)
        show_token(address)
    with signals_kept(), unheard_by_children():
        try:
            ray.init(**options, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"{key}={address}: Ray can't be reached: {str(error).splitlines()[0]}") from error


def disconnect() -> None:
    """Leave the cluster, or end the one of this process."""
    import ray

    with signals_kept():
        ray.shutdown()


def knock(address: str, key: str) -> None:
    """Raise UserError where nobody answers, which Ray takes long to say."""
    wrong = UserError(f"{key}={address} is no address: give HOST:PORT, such as 10.0.0.1:6379")
    if not isinstance(address, str):  # what YAML takes for a number
        raise wrong
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon and address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), timeout=10.0).close()
    except ValueError:
        raise wrong from None
    except OSError as error:
        raise UserError(f"{key}={address}: no Ray answers there ({error.strerror or error})") from error


def show_token(address: str) -> None:
    """Where a cluster asks for a token, send the user's: `ray start` makes it ask as soon as there is one, and a
    connection to it, left to itself, sends none.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    send_token_where_asked(address)
