"""Ray's inside: asking a cluster whether it wants a token, and sending the user's."""

from __future__ import annotations

from contextlib import suppress


def send_token_where_asked(address: str) -> None:
    """Send the user's token to a cluster that asks for one; a connection to it, left to itself, sends none."""
    with suppress(ImportError, AttributeError):  # Ray before it knew of tokens
        from ray._private.authentication.authentication_token_setup import _enable_token_auth
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.exceptions import AuthenticationError

        try:
            GcsClient(address=address)
        except AuthenticationError:
            _enable_token_auth()
        except Exception:  # what else is wrong, the connection itself will say
            return


def silence_workers() -> None:
    """Keep Ray from printing what its workers print."""
    import ray

    ray._private.worker._worker_logs_enabled = False
