"""For `providers.py`: a Node engine that sends with the vendors' own SDKs."""

import json
import os
import subprocess
from typing import Any

from bench._deliver_rig import PEER, program
from mauntic_jobs.settings.settings import Settings

# The address of firebase-admin cannot be changed.
PROVIDERS = ("postmark", "sendgrid", "ses", "twilio")


def run(settings: Settings, url: str, channel: str, concurrency: int, messages: int) -> dict[str, Any]:
    """Send so many messages of a channel's queue over the API at the URL.

    Return `messages`, `seconds` and `cpu_seconds` from when the first have been sent, as many as are sent at once.
    """
    assert settings.database_url is not None  # noqa: S101 - it is given
    assert settings.redis_url is not None  # noqa: S101 - it is given
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "PREFIX": f"{settings.queue_prefix}:delivery",
        "QUEUE": f"send-{channel}",
        "CHANNEL": channel,
        "CONCURRENCY": str(concurrency),
        "COUNT": str(messages),
        "WARM_UP": str(concurrency),
        "API": url,
        "NODE_NO_WARNINGS": "1",
    }
    command = [program("node"), "providers.mjs"]
    done = subprocess.run(command, cwd=PEER, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
