"""Name of the operator who runs a command, for what is written down of a decision."""

import getpass
import os
import socket


def operator_name() -> str:
    """Return the user and the host, such as `ops on jobs-1`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for it
        user = f"user {os.getuid()}"
    return f"{user} on {socket.gethostname()}"
