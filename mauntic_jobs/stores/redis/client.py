"""Redis or Valkey: Lua scripts in pipelined batches, and its errors in our own terms."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha1
from threading import Lock
from typing import Any, Protocol

from mauntic_jobs.errors import ConfigurationError, JobFailedError, MaunticJobsError, UnavailableError
from mauntic_jobs.redaction.urls import mask_url
from mauntic_jobs.settings.settings import Settings

Call = tuple[Sequence[str], Sequence[str | int]]

# Threads that import the driver at the same time find half of it.
_IMPORTING = Lock()

# Keys and arguments sent before answers are read: enough to hide the network, little enough to buffer.
_BATCH_VALUES = 10_000
ANSWER_SECONDS = 12

# Of the errors without a class of their own, those that pass: a long script, a full disk, a lost replica, a failover.
_PASSING = ("BUSY", "UNKILLABLE", "MISCONF", "NOREPLICAS", "UNBLOCKED")
# What stops a script in the middle while its keys are moved one after the other.
_MOVING = ("non local key", "rehashing of the slot")


class RedisServers(Protocol):
    """One server or the nodes of a cluster; the methods raise the driver's errors."""

    is_cluster: bool

    def send(self, calls: Sequence[Sequence[Any]], script: tuple[bytes, set[object]] | None = None) -> list[Any]:
        """Send commands at once; return their answers in order, errors of servers among them."""

    def ask_each(self, words: Sequence[Any]) -> dict[str, Any]:
        """Return the answer of each node to one command without keys, by its name; one server has no name."""

    def close(self) -> None:
        """Close all connections."""


class RedisScripts:
    """A connection that runs scripts. Its methods raise MaunticJobsError, with the exit code and advice that fit."""

    def __init__(self, servers: RedisServers, shown_url: str) -> None:
        self._servers = servers
        self._shown_url = shown_url

    @property
    def in_cluster(self) -> bool:
        """Whether this is a cluster, where the keys of one script must be in one hash slot."""
        return self._servers.is_cluster

    def run(self, script: bytes, calls: Iterable[Call]) -> list[Any]:
        """Run a script once for each pair of keys and arguments, in batches, and return the results in order.

        Nothing is sent twice. After an error any of the calls may have been made: those of earlier batches have been,
        those of later ones have not.
        """
        results: list[object] = []
        digest, loaded = sha1(script, usedforsecurity=False).hexdigest(), set[object]()
        for batch in _batches(calls):
            words = [("EVALSHA", digest, len(keys), *encoded(keys), *encoded(arguments)) for keys, arguments in batch]
            results += self._send(words, (script, loaded), [keys for keys, _ in batch])
        return results

    def command(self, *words: str | float) -> Any:
        """Send one command and return its answer. It may be one that waits, for less than ten seconds."""
        return self._send([(words[0], *encoded(words[1:]))])[0]

    def commands(self, calls: Iterable[Sequence[str | float]]) -> list[Any]:
        """Send commands that may be repeated, all at once, and return their answers in order."""
        return self._send([(words[0], *encoded(words[1:])) for words in calls])

    def on_each_node(self, *words: str | float) -> dict[str, Any]:
        """Send one command without keys to each node, and return the answers by its name; one server has no name."""
        from redis.exceptions import RedisError

        try:
            return self._servers.ask_each((words[0], *encoded(words[1:])))
        except (RedisError, OSError) as error:
            raise translated(error, self._shown_url) from error

    def close(self) -> None:
        """Close the connection."""
        self._servers.close()

    def _send(
        self,
        calls: Sequence[Sequence[Any]],
        script: tuple[bytes, set[object]] | None = None,
        keys: Sequence[Sequence[str]] = (),
    ) -> list[Any]:
        from redis.exceptions import RedisError

        try:
            answers = self._servers.send(calls, script)
        except (RedisError, OSError) as error:
            raise translated(error, self._shown_url) from error
        # The driver's own error would repeat the arguments, which can be anybody's data.
        for place, answer in enumerate(answers):
            if isinstance(answer, Exception):
                raise translated(answer, self._shown_url, keys[place] if keys else ()) from answer
        return answers


def open_redis(settings: Settings, name: str | None = None) -> RedisScripts:
    """Connect, under a name that CLIENT LIST shows, if one is given and the server allows it.

    Raises UnavailableError or ConfigurationError; a cluster without hash tags is a ConfigurationError.
    """
    with _IMPORTING:
        from redis.exceptions import RedisError

        from mauntic_jobs.stores.redis.servers import ClusterServers, OneServer

    url = checked_url(settings)
    client = _client(url, settings, name)
    try:
        if not client.info("cluster").get("cluster_enabled"):
            return RedisScripts(OneServer(client), mask_url(url))
        check_tags(settings)
        return RedisScripts(ClusterServers(client, f"{settings.queue_prefix}:"), mask_url(url))
    except (RedisError, OSError) as error:
        client.close()
        ours = translated(error, mask_url(url))
        if isinstance(ours, JobFailedError):  # to a request that every Redis answers
            raise ConfigurationError(f"{ours} Check REDIS_URL.") from error
        raise ours from error
    except ConfigurationError:
        client.close()
        raise


def check_tags(settings: Settings) -> None:
    """Raise ConfigurationError if a cluster would keep the keys of one queue on several nodes."""
    from mauntic_jobs.stores.redis.slots import without_tag

    names = list(without_tag(settings))
    if names:
        raise ConfigurationError(
            f"{mask_url(checked_url(settings))} is a Redis Cluster, which keeps the keys of a queue on several nodes "
            f"unless their names have a hash tag, and {' and '.join(names)} {'has' if len(names) == 1 else 'have'} "
            "none. Set MAUNTIC_QUEUE_PREFIX={mauntic}, or another name in braces, and give Node's BullMQ the same "
            "prefix, or use a Redis that is no cluster."
        )


def encoded(words: Sequence[Any]) -> list[Any]:
    """Return the words of a command with texts as bytes. Ids of jobs may be any bytes, and are written as read."""
    return [word.encode(errors="surrogateescape") if isinstance(word, str) else word for word in words]


def checked_url(settings: Settings) -> str:
    """Return where Redis is, or raise ConfigurationError that says how to tell."""
    if not settings.redis_url:
        raise ConfigurationError(
            "There is no Redis to work on. Set REDIS_URL (or redis_url in mauntic-jobs.toml), or add --embedded to use "
            "the development servers on this machine."
        )
    from redis.connection import parse_url

    url = settings.redis_url.get_secret_value()
    try:
        parse_url(url)  # type: ignore[no-untyped-call]  # the driver gives it none
    except ValueError:  # its text may repeat the password
        raise ConfigurationError(
            "REDIS_URL is no address of a Redis: write it like redis://user:password@host:6379/0, with rediss:// for "
            "TLS, and with characters such as / # ? @ in the password percent-encoded."
        ) from None
    return url


def connection_options(settings: Settings) -> dict[str, object]:
    """Return the driver's options for every connection, but for what retries."""
    return {
        "protocol": 2,
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": max(2.0, settings.connect_timeout.total_seconds()),
    }


def _client(url: str, settings: Settings, name: str | None) -> Any:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    def set_up(connection: Any) -> None:
        connection.on_connect()
        connection.send_command("CLIENT", "SETNAME", name)
        # The name is for people: a user that may not set it works without.
        with suppress(redis.ResponseError):
            connection.read_response()

    # The driver would send a whole batch again. The runner tries again, and knows what can stand that.
    options = {**connection_options(settings), "retry": Retry(NoBackoff(), 0)}
    return redis.Redis.from_url(url, **options, redis_connect_func=set_up if name else None)


def _batches(calls: Iterable[Call]) -> Iterator[list[Call]]:
    batch: list[Call] = []
    values = 0
    for keys, arguments in calls:
        batch.append((keys, arguments))
        values += len(keys) + len(arguments)
        if values >= _BATCH_VALUES:
            yield batch
            batch, values = [], 0
    if batch:
        yield batch


def translated(error: Exception, shown_url: str, keys: Sequence[str] = ()) -> MaunticJobsError:  # noqa: PLR0911 - a table in code
    """Return what an error of the driver amounts to. `keys` are those of the call that it answers."""
    import redis.exceptions as kinds

    text = " ".join(str(error).split()).rstrip(".")
    match error:
        case kinds.AuthenticationError() | kinds.NoPermissionError():
            return ConfigurationError(
                f"Redis refused the login or a command at {shown_url}: {text}. Check REDIS_URL, and what its user may."
            )
        case kinds.ReadOnlyError():
            return UnavailableError(
                f"Redis at {shown_url} is a replica: {text}. A failover may be under way; otherwise name the primary "
                "in REDIS_URL."
            )
        case kinds.OutOfMemoryError():
            return UnavailableError(
                f"Redis at {shown_url} is out of memory: {text}. Free some, or raise its maxmemory."
            )
        case kinds.ConnectionError() | kinds.TimeoutError() | OSError():
            return UnavailableError(
                f"Cannot reach Redis at {shown_url}: {text}. Check that it is running, and REDIS_URL."
            )
        case kinds.NoScriptError() | kinds.MasterDownError():
            return UnavailableError(f"Redis at {shown_url} was replaced or restarted just now: {text}.")
        case kinds.TryAgainError() | kinds.AskError():
            return UnavailableError(f"The cluster at {shown_url} is moving keys to another node: {text}.")
        case kinds.ResponseError() if any(each in text for each in _MOVING):
            return UnavailableError(f"The cluster at {shown_url} is moving keys to another node: {text}.")
        case kinds.ClusterDownError():
            return UnavailableError(f"The cluster at {shown_url} does not serve all keys now: {text}.")
        case kinds.ResponseError() if text.startswith(_PASSING):
            return UnavailableError(f"Redis at {shown_url} cannot do its work now: {text}.")
    place = f" on {keys[0]}" if keys else ""
    others = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return JobFailedError(f"Redis at {shown_url} refused a command{place}{others}: {text}.")
