"""`providers`: the organizations' providers and their configuration."""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from mauntic_jobs.cli.documents.providers import ProviderCheckJson, ProviderJson, ProviderLimitJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.options import Org, Wide
from mauntic_jobs.cli.framework.output import log, print_json, print_line, print_table
from mauntic_jobs.delivery.sending.providers.keys import TYPES
from mauntic_jobs.errors import ExitCode, UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.ops.providers.check import ProviderTrial, channel_of, check_providers
from mauntic_jobs.ops.providers.limits import ProviderLimit, read_limits
from mauntic_jobs.ops.providers.list import ConfiguredProvider, connection_limits, encrypted, list_providers
from mauntic_jobs.ops.rate_limit import Pace, parse_rate
from mauntic_jobs.ops.release import Released, release
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import format_duration
from mauntic_jobs.wording import plural

app = new_app("The providers that messages go out by, and how organizations have configured them.")


@command(app, "list", example="mauntic-jobs providers list --json", prints=list[ProviderJson])
def list_all(
    settings: Settings,
    *,
    org: Org = None,
    wide: Wide = False,
    json: JsonOutput = False,
) -> None:
    """Show each provider, in the order in which they are tried, and what is wrong with its configuration.

    Opens encrypted configurations with ENCRYPTION_KEY, and names their keys but never what they hold.
    """
    with connect(settings) as session:
        providers = list_providers(session, settings, org)
    if json:
        print_json([_as_json(provider) for provider in providers])
        return
    if not providers:
        log("no provider is configured")
    _print_by_organization(((each.organization, _row(each)) for each in providers), wide=wide)


@command(
    app,
    "check",
    example="mauntic-jobs providers check --org 7b0e1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b",
    prints=list[ProviderCheckJson],
)
def check(
    settings: Settings,
    *,
    org: Org = None,
    send_to: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Send a test message there by each provider of its channel; needs --org."),
    ] = None,
    retry_now: Annotated[bool, typer.Option("--retry-now", help="Let what waits for those that work be sent.")] = False,
    rate: Annotated[
        str, typer.Option(metavar="RATE", help="With --retry-now, of deferred messages: 5/s, 300/m.")
    ] = "50/s",
    wide: Wide = False,
    json: JsonOutput = False,
) -> None:
    """Log in at each active provider without sending anything, and say what is wrong. Exit code 1 if anything is.

    An SMTP server is also asked to take a message from the provider's `from` to postmaster@example.com, an address that
    gets no mail, and the question is taken back before there is a message.
    """
    pace = Pace(parse_rate(rate))
    if send_to and org is None:
        raise UsageError("Say whose providers are to send the test message: --org.")
    if send_to:
        channel_of(send_to)
    with connect(settings) as session:
        providers = [each for each in list_providers(session, settings, org) if each.active]
    checks = asyncio.run(check_providers(settings, providers, send_to))
    released = _release(settings, checks, pace) if retry_now else None
    if json:
        counts = released.messages if released is not None else {}
        print_json(
            [{**_as_json(each.provider), **_result(each), "released": counts.get(each.provider.id)} for each in checks]
        )
    else:
        _print_checks(checks, released, wide=wide)
    if any(each.problem for each in checks):
        raise typer.Exit(ExitCode.FAILED)


def _print_checks(checks: Sequence[ProviderTrial], released: Released | None, *, wide: bool) -> None:
    if not checks:
        log("no provider is active")
    for organization, own in groupby(checks, lambda each: each.provider.organization):
        print_line(f"organization {organization}")
        print_table(({**_who(each.provider), **_result(each)} for each in own), wide=wide)
    if released is not None:
        print_line(f"{plural(released.total, 'message')} released")
        for provider in released.paused_again:
            log(f"{provider} was paused again: what is left goes on waiting", "warning")


def _release(settings: Settings, checks: Sequence[ProviderTrial], pace: Pace) -> Released:
    working = [each.provider for each in checks if each.problem is None]
    with connect(settings) as session, closing(open_redis(settings)) as redis:
        return release(session, redis, settings, working, pace, clock.now())


@command(app, "limits", example="mauntic-jobs providers limits", prints=list[ProviderLimitJson])
def limits(settings: Settings, *, org: Org = None, wide: Wide = False, json: JsonOutput = False) -> None:
    """Show which providers are limited, in a second, in a day and at once, and how many messages wait for their turn.

    A rate is configured, or that of the account at SES, or learned when a provider refuses for it: HTTP 429, or an SMTP
    4xx that names a rate or a limit.
    """
    with connect(settings) as session:
        configured = connection_limits(list_providers(session, settings, org))
    with closing(open_redis(settings)) as redis:
        found = list(read_limits(redis, settings, clock.now(), org, configured))
    if json:
        print_json([_limit_json(each) for each in found])
        return
    if not found:
        log("no provider is limited")
    _print_by_organization(((each.organization, _limit_row(each)) for each in found), wide=wide)


def _print_by_organization(rows: Iterable[tuple[UUID, Row]], *, wide: bool) -> None:
    for organization, own in groupby(rows, lambda each: each[0]):
        print_line(f"organization {organization}")
        print_table((row for _, row in own), wide=wide)


def _limit_row(limit: ProviderLimit) -> Row:
    state = f"{limit.rate:.3g}/s, {limit.rate_source}" if limit.rate else "no rate limit"
    if limit.connections is not None:
        at_once = f"{plural(limit.connections, 'connection')} a process"
        state += f"; {at_once if limit.connections else 'no connection is kept'}"
    if limit.daily is not None:
        state += f"; {limit.used:,} of {limit.daily:,} in 24 h"
    if limit.full_until is not None:
        state += f", none left until {limit.full_until:%Y-%m-%d %H:%M:%S} UTC"
    if limit.paused_until is not None:
        state += f"; asks to be left alone until {limit.paused_until:%Y-%m-%d %H:%M:%S} UTC"
    lasts = None if limit.seconds is None else format_duration(timedelta(seconds=round(limit.seconds)))
    return {
        "channel": limit.channel,
        "provider": limit.provider,
        "limit": state,
        "waiting": limit.waiting,
        "takes about": lasts if limit.waiting else None,
    }


def _limit_json(limit: ProviderLimit) -> ProviderLimitJson:
    return {
        **limit._asdict(),  # type: ignore[typeddict-item]
        "rate": limit.rate,
        "seconds": limit.seconds,
    }


@command(app, "encrypt", example="mauntic-jobs providers encrypt --type sendgrid --file sendgrid.json", prints=str)
def encrypt_config(
    settings: Settings,
    *,
    kind: Annotated[str, typer.Option("--type", metavar="TYPE", help=f"{', '.join(TYPES)}.")],
    file: Annotated[str, typer.Option(metavar="FILE", help="The configuration, a JSON object; - reads it from stdin.")],
) -> None:
    """Encrypt a configuration with ENCRYPTION_KEY, and print what belongs in delivery.provider_configs.config.

    It is checked first: all the keys of its type have to be there. Secrets are given in a file, never as options.
    """
    sealed, unknown = encrypted(kind, _read(file), settings)
    if unknown:
        log(f"a provider of the type {kind} has no {', '.join(unknown)}: encrypted all the same, and not used")
    print_json(sealed)


def _read(file: str) -> str:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8.") from None


def _who(provider: ConfiguredProvider) -> Row:
    return {"provider": provider.id, "type": provider.type}


def _result(check: ProviderTrial) -> Row:
    works = "works, and has taken the message" if check.sent else f"works: {check.asked}" if check.asked else "works"
    state = check.problem or works
    return {"seconds": round(check.seconds, 2), "state": state}


def _row(provider: ConfiguredProvider) -> Row:
    remarks = [provider.problem or "valid"]
    remarks += [f"unknown: {' '.join(provider.unknown)}"] if provider.unknown else []
    remarks += [f"ignored: {' '.join(provider.ignored)}"] if provider.ignored else []
    remarks += [] if provider.encrypted else ["not encrypted"]
    remarks += [] if provider.active else ["not active"]
    return {
        **_who(provider),
        "priority": provider.priority,
        "state": ", ".join(remarks),
    }


def _as_json(provider: ConfiguredProvider) -> ProviderJson:
    return {
        "provider": provider.id,
        "organization": provider.organization,
        "channel": provider.channel,
        "type": provider.type,
        "priority": provider.priority,
        "active": provider.active,
        "stored": "encrypted" if provider.encrypted else "plain",
        "state": provider.problem or "valid",
        "ignored": list(provider.ignored),
        "unknown": list(provider.unknown),
    }
