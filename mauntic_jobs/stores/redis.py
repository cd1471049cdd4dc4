"""Redis or Valkey: Lua scripts in pipelined batches, and its errors in our own terms."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from mauntic_jobs.config import Settings, masked
from mauntic_jobs.errors import ConfigurationError, JobFailedError, MaunticJobsError, UnavailableError

# Calls sent before their answers are read: enough to hide the network, little enough to buffer.
_BATCH = 1_000


class RedisScripts:
    """A connection that runs scripts. Its methods raise MaunticJobsError, with the exit code and advice that fit."""

    def __init__(self, client: Any, shown_url: str) -> None:
        self._client = client
        self._shown_url = shown_url

    def run(self, script: bytes, calls: Iterable[tuple[Sequence[str], Sequence[str | int]]]) -> list[Any]:
        """Run a script once for each pair of keys and arguments, in batches, and return the results in order."""
        remaining, results = iter(calls), []
        try:
            digest = self._client.script_load(script)
            while batch := list(islice(remaining, _BATCH)):
                pipeline = self._client.pipeline(transaction=False)
                for keys, arguments in batch:
                    pipeline.evalsha(digest, len(keys), *keys, *arguments)
                results += pipeline.execute()
        except Exception as error:
            raise _translated(error, self._shown_url) from error
        return results

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def open_redis(settings: Settings) -> RedisScripts:
    """Connect. Raises UnavailableError or ConfigurationError; a cluster is a ConfigurationError."""
    if settings.redis_url is None:
        raise ConfigurationError(
            "There is no Redis to work on. Set REDIS_URL (or redis_url in mauntic-jobs.toml), or add --embedded to use "
            "the development servers on this machine."
        )
    import redis
    from redis.backoff import ExponentialWithJitterBackoff
    from redis.retry import Retry

    url = settings.redis_url.get_secret_value()
    try:
        client = redis.Redis.from_url(
            url,
            protocol=2,
            socket_timeout=12,
            socket_connect_timeout=max(2.0, settings.connect_timeout.total_seconds()),
            retry=Retry(ExponentialWithJitterBackoff(cap=1, base=0.05), 2),
        )
        in_cluster = client.info("cluster").get("cluster_enabled")
    except Exception as error:
        raise _translated(error, masked(url)) from error
    if in_cluster:
        client.close()
        raise ConfigurationError(
            f"{masked(url)} is a Redis Cluster, which the platform's keys cannot be used on: several of them belong "
            "together, and nothing in their names keeps them on one node. Use a Redis that is no cluster."
        )
    return RedisScripts(client, masked(url))


def _translated(error: Exception, shown_url: str) -> MaunticJobsError:
    import redis.exceptions as kinds

    text = " ".join(str(error).split())
    if isinstance(error, kinds.AuthenticationError | kinds.NoPermissionError):
        return ConfigurationError(f"Redis refused the login or a command at {shown_url}: {text}. Check REDIS_URL.")
    if isinstance(error, kinds.ConnectionError | kinds.TimeoutError | kinds.ReadOnlyError | OSError):
        return UnavailableError(f"Cannot reach Redis at {shown_url}: {text}. Check that it is running, and REDIS_URL.")
    if isinstance(error, ValueError):
        return ConfigurationError(f"REDIS_URL is no address of a Redis: {text}.")
    return JobFailedError(f"Redis refused a command: {text}.")
