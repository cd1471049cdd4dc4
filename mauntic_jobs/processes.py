"""Child processes that run a function of this program: forks where these are safe, and else processes of their own."""

import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from threading import active_count
from typing import Any


def may_fork() -> bool:
    """Return whether this process may be forked; a fork has imported already what it needs.

    In one of several threads it may hang, and so it may on macOS, whose libraries have threads of their own.
    """
    return sys.platform == "linux" and active_count() == 1


def new_process(target: Callable[..., None], arguments: Sequence[Any], *, fork: bool) -> BaseProcess:
    """Return a process to be started. Unless it is a fork, `target` must be a function of a module."""
    if fork:
        # Python ends daemons with this process, if that fails before it looks after them.
        return get_context("fork").Process(target=target, args=arguments, daemon=True)
    # Without it Python looks for the modules that it starts with in the working directory first.
    os.environ["PYTHONSAFEPATH"] = "1"
    return get_context("spawn").Process(target=target, args=arguments)
