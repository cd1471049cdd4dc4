"""Drawings of the proofs of figures: sentences first, then tables that hold what the sentences say."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mauntic_jobs.jobs.generate_daily_reports import FIGURES
from mauntic_jobs.ops.figures.campaign_proof import Attribution, CampaignExplanation, EventGroup
from mauntic_jobs.ops.figures.canvas import Canvas, blank, heading, left_out, paragraph, section, table, written_by
from mauntic_jobs.ops.figures.history import FigureChange, changes_table
from mauntic_jobs.ops.figures.lineage import RebuildingRun
from mauntic_jobs.ops.figures.table import Cell, date_text, id_text, time_text
from mauntic_jobs.ops.figures.usage_proof import UsageDay, UsageExplanation
from mauntic_jobs.wording import plural

if TYPE_CHECKING:
    from rich.text import Text

_RUNS_SHOWN = 10
_DAY_HEADINGS = ("date", "events", "daily rollups", "first event", "last event")
# Why events do not count; those of other campaigns are their own.
_REASONS = {
    Attribution.OTHER_CHANNEL: "another channel than the one that the row counts",
    Attribution.NO_MESSAGE: "not an event of a message",
    Attribution.OTHER_FORM: "has the campaign's id, but is neither ID nor campaign:ID",
    Attribution.NO_SOURCE: "has no source",
    Attribution.NO_CAMPAIGN: "names no campaign",
}
_SOURCE_LENGTH = 48


def campaign_lines(found: CampaignExplanation, canvas: Canvas, limit: int) -> "list[Text]":
    """Return the explanation of a campaign's figures."""
    lines = [
        *heading(f"Campaign {found.campaign_id} on {found.date}"),
        *paragraph(f"Organization {found.organization_id}."),
        *paragraph(_campaign_verdict(found)),
        *_repair(_campaign_command(found), agrees=found.agrees or bool(found.withheld)),
        *blank(),
        *table(["figure", "recorded", "counted now"], [_figure(found, name) for name in FIGURES]),
        *written_by(found.written, changed="changed figures of that day"),
    ]
    counted = [each for each in found.groups if each.attribution is Attribution.COUNTED]
    lines += [*section("Events that it counts"), *_groups(counted, limit, canvas)]
    for reason, why in _REASONS.items():
        groups = [each for each in found.groups if each.attribution is reason]
        if groups:
            number = sum(each.events for each in groups)
            lines += [*section(f"{plural(number, 'event')} not counted: {why}")]
            lines += _groups(groups, limit, canvas, examples=True)
    others = sum(each.events for each in found.groups if each.attribution is Attribution.OTHER_CAMPAIGN)
    if others:
        lines += [*blank(), *paragraph(f"Events of that day that name another campaign: {others:,}.")]
    for late in found.late:
        whose = f"{plural(late.events, 'event')} of the organization's day came late"
        lines += [*blank(), *paragraph(f"{whose}, found at {time_text(late.found_at)} UTC.")]
    return [*lines, *_runs(found.runs), *_history(found.changes, limit)]


def usage_lines(found: UsageExplanation, canvas: Canvas, limit: int) -> "list[Text]":
    """Return the explanation of an organization's usage of a month."""
    days = _by_day(found.days)
    types: list[list[Cell]] = [
        [each.event_type, each.events, each.contacts, each.counted_events, each.counted_contacts]
        for each in found.types
    ]
    return [
        *heading(f"Usage of organization {found.organization_id} in {found.month.start:%Y-%m}"),
        *paragraph(_usage_verdict(found)),
        *_repair(_usage_command(found), agrees=found.agrees or any(each.withheld for each in found.types)),
        *blank(),
        *table(["event type", "events", "contacts", "counted now", "contacts"], types[:limit]),
        *left_out(len(types), limit),
        *written_by(found.written, changed="changed usage of that month"),
        *section("Events by day, all types"),
        *table(_DAY_HEADINGS, [_usage_day(each, canvas) for each in days]),
        *_runs(found.runs),
        *_history(found.changes, limit),
    ]


def _campaign_verdict(found: CampaignExplanation) -> str:
    if found.recorded is None and found.counted is None:
        return "It has no row, and no events that count for it."
    until = "" if found.over else " The day is not over."
    channel = f" They count {found.channel} events." if found.channel else ""
    if found.agrees:
        return f"The figures are what a recount of the events says.{channel}{until}"
    if found.recorded is None:
        return f"No figures are recorded, though there are events.{channel}{until}"
    names = ", ".join(found.differences())
    if found.withheld:
        withheld = f"and a run withholds them: {found.withheld}"
        return f"The figures differ from a recount in {names}, {withheld}.{channel}{until}"
    return f"The figures differ from a recount in {names}.{channel}{until}"


def _campaign_command(found: CampaignExplanation) -> str:
    ids = f"--org {found.organization_id} --campaign {found.campaign_id}"
    return f"mauntic-jobs generate-daily-reports --date {found.date} {ids}"


def _usage_command(found: UsageExplanation) -> str:
    return f"mauntic-jobs monthly-usage-summary --month {found.month.start:%Y-%m} --org {found.organization_id}"


def _repair(command: str, *, agrees: bool) -> "list[Text]":
    """Return the command that records what was counted, whole, so that it can be copied."""
    from rich.text import Text

    return [] if agrees else [Text("To record what was counted:"), Text(f"    {command}")]


def _usage_verdict(found: UsageExplanation) -> str:
    until = "" if found.over else " The month is not over."
    if not found.types:
        return f"Nothing is recorded, and there are no events.{until}"
    if all(each.events is None for each in found.types) and not any(each.withheld for each in found.types):
        counted = sum(each.counted_events or 0 for each in found.types)
        return f"Nothing is recorded, though there are {plural(counted, 'event')}.{until}"
    differing = [each.event_type for each in found.types if not each.agrees]
    if not differing:
        total = sum(each.events or 0 for each in found.types)
        return f"All {plural(total, 'event')} that are recorded are found, and no other: a recount agrees.{until}"
    withheld = {each.withheld for each in found.types if each.withheld}
    if withheld:
        return f"A recount differs in {', '.join(differing)}; runs withhold: {', '.join(sorted(withheld))}.{until}"
    return f"A recount differs in {', '.join(differing)}.{until}"


def _figure(found: CampaignExplanation, name: str) -> list[Cell]:
    old, new = found.recorded or {}, found.counted or {}
    return [name, old.get(name), new.get(name)]


def _groups(groups: Sequence[EventGroup], limit: int, canvas: Canvas, *, examples: bool = False) -> "list[Text]":
    headings = ["event type", "source", "events", "contacts", *(["such as"] if examples else [])]
    rows: list[list[Cell]] = [
        [
            each.event_type,
            "-" if each.source is None else _shortened(each.source, canvas),
            each.events,
            each.contacts,
            *([id_text(each.examples[0], whole=canvas.ids_whole)] if examples else []),
        ]
        for each in groups[:limit]
    ]
    return [*table(headings, rows), *left_out(len(groups), limit)] if rows else paragraph("None.")


def _shortened(source: str, canvas: Canvas) -> str:
    return source if canvas.ids_whole or len(source) <= _SOURCE_LENGTH else f"{source[:_SOURCE_LENGTH]}..."


def _by_day(days: Iterable[UsageDay]) -> list[list[UsageDay]]:
    groups: dict[object, list[UsageDay]] = {}
    for each in days:
        groups.setdefault(each.date, []).append(each)
    return list(groups.values())


def _usage_day(rows: Sequence[UsageDay], canvas: Canvas) -> list[Cell]:
    firsts = sorted((each.first_at, each.first_id) for each in rows if each.first_at and each.first_id)
    lasts = sorted((each.last_at, each.last_id) for each in rows if each.last_at and each.last_id)
    return [
        date_text(rows[0].date),
        sum(each.events for each in rows),
        sum(each.rollup_events for each in rows),
        id_text(firsts[0][1], whole=canvas.ids_whole) if firsts else None,
        id_text(lasts[-1][1], whole=canvas.ids_whole) if lasts else None,
    ]


def _runs(runs: Sequence[RebuildingRun]) -> "list[Text]":
    if not runs:
        return []
    rows: list[list[Cell]] = [[run.id, time_text(run.at), "yes" if run.changed else "no"] for run in runs[:_RUNS_SHOWN]]
    return [*section("Runs that rebuilt it, the latest first"), *table(["run", "ended at", "changed figures"], rows)]


def _history(changes: Sequence[FigureChange], limit: int) -> "list[Text]":
    return [*section("Changes, the latest first"), *changes_table(changes, limit)] if changes else []
