"""The organizations' providers: whether their configurations open, are complete, and may be reached."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress

from mauntic_jobs.delivery.sending.allowed_networks import Network, NetworkError
from mauntic_jobs.delivery.sending.providers.registry import network_of
from mauntic_jobs.delivery.sending.providers.smtp import host_and_port
from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.deadline import within
from mauntic_jobs.ops.doctor.finding import Finding, error, not_checked, ok, several, warning
from mauntic_jobs.ops.providers.list import ConfiguredProvider, list_providers
from mauntic_jobs.wording import plural

_AREA = "providers"
_TABLE = "delivery.provider_configs"
_LIST = "mauntic-jobs providers list"
_MAX_HOSTS = 200
# Well within what Postgres has, so that a slow name server is not taken for a slow Postgres.
_LOOKUP_SECONDS = 8.0


def _key(site: Site) -> Iterator[Finding]:
    encrypted = [each for each in _active(site) if each.encrypted]
    sealed = [each for each in encrypted if each.sealed]
    counts = f"{len(sealed):,} of {len(encrypted):,} encrypted configurations"
    if site.settings.encryption_key is None and encrypted:
        yield error(f"{counts} cannot be opened: there is no key", "Set ENCRYPTION_KEY to the platform's")
    elif encrypted and len(sealed) == len(encrypted):
        yield error(f"{counts} do not open: the key is another", "Set ENCRYPTION_KEY to the platform's")
    elif sealed:
        yield warning(f"{counts} do not open with ENCRYPTION_KEY", f"{_LIST} says which; write them anew")
    else:
        yield ok(f"all {len(encrypted):,} encrypted configurations open" if encrypted else "nothing is encrypted")


def _configurations(site: Site) -> Iterator[Finding]:
    active = _active(site)
    providers = [each for each in active if not each.sealed]
    # Who has another provider for the channel can still send; what is sealed is a finding of its own.
    able = {(each.organization, each.channel) for each in active if each.problem is None or each.sealed}
    found: dict[tuple[str, str], list[ConfiguredProvider]] = defaultdict(list)
    for each in providers:
        if each.problem is not None:
            found[each.type, each.problem].append(each)
    for (kind, problem), those in found.items():
        stuck = {each.organization for each in those if (each.organization, each.channel) not in able}
        text = f"{kind} {those[0].id}{f' and {len(those) - 1:,} more' if len(those) > 1 else ''}: {problem}"
        if stuck:
            without = f"{plural(len(stuck), 'organization')} without another"
            yield error(f"{text}; {without}", f"{_LIST} --org {min(stuck, key=str)}")
        else:
            yield warning(text, f"{_LIST} --org {those[0].organization}")
    if not found:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(each.type for each in providers).items())
        yield ok(f"all are complete: {kinds}" if kinds else "none is configured")


def _keys(site: Site) -> Iterator[Finding]:
    unknown = Counter(f"{each.type} {name}" for each in _active(site) for name in each.unknown)
    ignored = Counter(f"{each.type} {name}" for each in _active(site) for name in each.ignored)
    if unknown:
        yield warning(
            f"keys that no provider of the type has, and what they ask for is not done: {_counts(unknown)}", _LIST
        )
    elif ignored:
        yield ok(f"keys that change nothing: {_counts(ignored)}")
    else:
        yield ok("all keys are known")


def _counts(names: Counter[str]) -> str:
    return several([f"{name} ({count:,})" for name, count in names.most_common()])


def _storage(site: Site) -> Iterator[Finding]:
    plain = [each for each in _active(site) if not each.encrypted]
    if plain:
        yield warning(
            f"{plural(len(plain), 'configuration')} with secrets in the open",
            f"mauntic-jobs providers encrypt --type {plain[0].type} --file FILE gives what to store instead",
        )
    else:
        yield ok("none is stored in the open")


def _hosts(site: Site) -> Iterator[Finding]:
    providers = [each for each in _active(site) if each.type == "custom_smtp" and each.problem is None]
    hosts = list(dict.fromkeys(host_and_port(each.config) for each in providers if each.config))
    network = network_of(site.settings)
    answers: dict[tuple[str, int], str | None] = {}
    with suppress(TimeoutError):
        within(_LOOKUP_SECONDS, lambda: asyncio.run(_look_up(network, hosts[:_MAX_HOSTS], answers)))
    refused = [problem for problem in answers.values() if problem]
    if refused:
        yield warning(
            f"{plural(len(refused), 'SMTP host')} out of reach: {several(refused)}",
            "Correct it, or allow its network in MAUNTIC_ALLOWED_NETWORKS or its port in MAUNTIC_SMTP_PORTS",
        )
    if len(answers) < len(hosts):
        yield not_checked(
            f"{plural(len(hosts) - len(answers), 'SMTP host')} not looked up within {_LOOKUP_SECONDS:g} s"
        )
    elif not refused:
        yield ok(
            f"all SMTP hosts may be reached: {several([host for host, _ in hosts])}"
            if hosts
            else "there are no SMTP hosts"
        )


async def _look_up(
    network: Network, hosts: Sequence[tuple[str, int]], answers: dict[tuple[str, int], str | None]
) -> None:
    """Put into `answers` why a host may not be reached, or None. What has no answer in time has none there."""

    async def look_up(host: tuple[str, int]) -> None:
        try:
            await network.resolve(*host)
        except NetworkError as refusal:
            answers[host] = str(refusal)
        else:
            answers[host] = None

    # Those that have not begun are given up, so that the process does not wait for them at its end.
    async with asyncio.timeout(_LOOKUP_SECONDS):
        await asyncio.gather(*(look_up(host) for host in hosts))


def _active(site: Site) -> list[ConfiguredProvider]:
    return [each for each in list_providers(site.session, site.settings) if each.active]


CHECKS = tuple(
    Check(_AREA, name, look, Service.POSTGRES, reads=(_TABLE,))
    for name, look in (
        ("key", _key),
        ("configurations", _configurations),
        ("keys", _keys),
        ("storage", _storage),
        ("hosts", _hosts),
    )
)
