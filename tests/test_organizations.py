"""Every statement over a tenant's table says whose rows it means."""

import re
from pathlib import Path

import pytest

from mauntic_jobs import sql
from mauntic_jobs.migrations.files import migrations
from mauntic_jobs.sql import statements

# Tables with a column organization_id.
_TABLES = {
    *("analytics.contact_activity", "analytics.event_aggregates", "analytics.campaign_daily_stats"),
    *("delivery.delivery_jobs", "delivery.delivery_events", "delivery.provider_configs", "delivery.suppressions"),
    *("delivery.sending_domains", "crm.contacts", "crm.segments", "crm.companies", "content.templates"),
    *("journey.journeys", "journey.journey_versions", "journey.journey_steps", "journey.journey_triggers"),
    *("journey.journey_executions", "journey.step_executions", "mauntic_jobs.deliveries"),
    "mauntic_jobs.provider_pauses",
    "mauntic_jobs.figure_changes",
}
_REFERENCE = re.compile(
    rf"\b(?:FROM|JOIN|UPDATE|USING|,)\s+({'|'.join(re.escape(each) for each in sorted(_TABLES))})\b(?:\s+AS\s+(\w+))?"
)
# Statements that mean the rows of all organizations, and why that is right.
_OF_ALL = {
    "deliveries.check": "it reads no row",
    "deliveries.unrecorded": "the ledger's upkeep goes through all rows, each with its key",
    "deliveries.end_leases": "the ledger's upkeep goes through all rows, each with its key",
    "deliveries.swept": "the ledger's upkeep goes through all rows",
    "evidence.evidence": "the ledger's upkeep goes through all rows, each with its key",
    "deliveries.owed": "the ledger's upkeep goes through all rows, each with its key",
    "deliveries.being_sent": "the ledger's upkeep counts all rows",
    "deliveries.uncertain": "the ledger's upkeep looks at all rows",
    "deliveries.campaigns": "it lists the campaigns of the platform, and counts each within its organization",
    "deliveries.close_campaigns": "each row is judged by its own counts",
    "deliveries.template_owner": "an operator names a template, and asks whose it is",
    "outbox.due": "what is to be published, whose it is does not matter; executions are found by their ids",
    "outbox.unmoved": "what was published, whose it is does not matter; executions are found by their ids",
    "recovery.under_way": "an operator's view of the whole platform, grouped by organization",
    "pauses.list": "a process asks which providers are paused, each with its key",
    "providers.organizations": "an operator's shell asks which organizations there are",
    "restrictions.provider": "an operator names a provider, and asks whose it is",
    "contact_journey.journey": "an operator names a journey, and asks whose it is",
    "delivery_desk.campaign_owner": "an operator names a campaign, and asks whose it is",
}
# Files whose statements are about the whole platform.
_PLATFORM_WIDE = {
    "campaign_daily_stats": "a job rebuilds days of all organizations, grouped by organization",
    "event_counts": "a job counts days and months of all organizations, grouped by organization",
    "event_aggregates": "a job rebuilds days of all organizations, grouped by organization",
    "late_events": "a job counts events of all organizations, grouped by organization",
    "monthly_usage": "a job rebuilds months of all organizations, grouped by organization",
    "rollup_days": "the sum of a day's rollups is one number, of all organizations",
    "segment_triggers": "a job lists the triggers of all organizations, each with its own",
    "segment_marks": "a job keeps a mark of each trigger, and finds what changed in all organizations in one scan",
    "stale_executions": "a job ends executions one by one, by their ids",
    "sending_domains": "a job lists the domains of all organizations, each with its own",
    "platform_indexes": "indexes and duplicates are of whole tables",
    "retention": "rows are removed by their age, whose they are does not matter",
    "warmup_domains": "an operator's view of the whole platform, grouped by organization",
    "status": "an operator's view of the whole platform",
    "reputation": "an operator's view of the whole platform, grouped by organization",
    "monitor": "an operator's view of the whole platform",
    "doctor": "an operator's view of the whole platform",
    "demo": "it fills a database of its own",
    "demo_audience": "it fills a database of its own",
    "demo_campaign": "it fills a database of its own",
}
_FILES = sorted(path.stem for path in (Path(sql.__file__).parent).glob("*.sql") if path.stem != "platform")
_STATEMENTS = [
    pytest.param(statements(file)[name].decode(), id=f"{file}.{name}")
    for file in _FILES
    if file not in _PLATFORM_WIDE
    for name in statements(file)
    if f"{file}.{name}" not in _OF_ALL
]


def lacking(text: str) -> list[str]:
    """Return the tables that a statement reads or changes without saying of which organization."""
    text = re.sub(r"--.*", "", text)
    return [table for table, alias in _REFERENCE.findall(text) if not _is_named(text, alias)]


def _is_named(text: str, alias: str) -> bool:
    column = rf"\b{alias}\.organization_id\b" if alias else r"(?<![.\w])organization_id\b"
    compared = (
        rf"{column}\s*(?:=|IN\b)|=\s*{column}|\(\s*{column}[^()]*\)\s*(?:IN\b|=|>)|\(\s*\w+\s*\)\.organization_id"
    )
    return bool(re.search(compared, text))


@pytest.mark.parametrize("text", _STATEMENTS)
def test_a_statement_names_the_organization(text: str) -> None:
    assert lacking(text) == []


def _functions() -> list[str]:
    """Return the functions of the schema, as the last migration that makes each has it."""
    made = re.compile(r"CREATE (?:OR REPLACE )?FUNCTION (mauntic_jobs\.\w+).*?AS \$\$(.*?)\$\$", re.DOTALL)
    return list({name: body for migration in migrations() for name, body in made.findall(migration.sql)}.values())


@pytest.mark.parametrize("body", _functions())
def test_a_function_names_the_organization(body: str) -> None:
    assert lacking(body) == []


@pytest.mark.parametrize("exception", [*_OF_ALL, *_PLATFORM_WIDE])
def test_an_exception_is_still_one(exception: str) -> None:
    file, _, name = exception.partition(".")
    assert name in statements(file) if name else file in _FILES


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SELECT 1 FROM delivery.delivery_jobs WHERE id = 1", ["delivery.delivery_jobs"]),
        ("UPDATE delivery.delivery_jobs AS job SET a = 1 FROM x WHERE job.id = x.id", ["delivery.delivery_jobs"]),
        ("SELECT organization_id FROM crm.contacts AS c WHERE c.id = any(1)", ["crm.contacts"]),
        ("SELECT 1 FROM crm.contacts AS c JOIN x ON c.organization_id = x.organization_id", []),
        ("SELECT 1 FROM crm.contacts WHERE (organization_id, id) IN (SELECT 1, 2)", []),
    ],
)
def test_what_lacks_it_is_found(text: str, found: list[str]) -> None:
    assert lacking(text) == found
