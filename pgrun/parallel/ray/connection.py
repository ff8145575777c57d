"""The connection to Ray: to a running cluster, or to one that this process starts for itself."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

from pgrun.compat.ray import send_token_where_asked, silence_workers
from pgrun.errors import UserError
from pgrun.system.signals import signals_kept, unheard_by_children

SETTINGS = {  # environment variables of Ray, unless the user has set them
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no warning about GPUs
    "RAY_worker_niceness": "0",  # by default workers yield the cores of a busy machine to all others
}


def connect(address: str | None, cpus: int | None, key: str) -> None:
    """Connect this process to Ray.

    Args:
        address: of a running cluster, or "auto" for this machine's; None: start one here, which ends with this process
            or with `disconnect`.
        cpus: CPUs of a cluster that is started here; None: all of the machine's.
        key: the config key of the address, for messages.

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
    """Leave the cluster, or end the one that this process started."""
    import ray

    with signals_kept():
        ray.shutdown()


def knock(address: str, key: str) -> None:
    """Raise UserError if nobody answers at an address; Ray itself takes long to notice that."""
    wrong = UserError(f"{key}={address} is no address: give HOST:PORT, such as 10.0.0.1:6379")
    if not isinstance(address, str):  # YAML read it as a number
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
    """Send the user's token if the cluster asks for one.

    `ray start` makes a cluster ask for a token as soon as the user has one, but a new connection doesn't send it by
    itself.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    send_token_where_asked(address)
