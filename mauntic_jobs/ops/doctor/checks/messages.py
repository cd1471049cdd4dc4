"""Checks of the delivery ledger: whether results can be recorded, and what its messages lack."""

import json
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.migrations.platform import SCHEMAS
from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.checks.grants import DELIVERING, lacking
from mauntic_jobs.ops.doctor.finding import Finding, error, ok, several, warning
from mauntic_jobs.sql import statements
from mauntic_jobs.wording import plural

_AREA = "messages"
_LEDGER = "mauntic_jobs.deliveries"
_LEASE = timedelta(seconds=60)

_sql = statements("deliveries")
_doctor_sql = statements("doctor")


def _recording(site: Site) -> Iterator[Finding]:
    """Claim and record a message of an organization that does not exist, and roll it back."""
    functions = site.session.row(_doctor_sql["delivery_functions"])
    hidden = site.session.rows(_doctor_sql["row_security"], {"schemas": [*SCHEMAS, "mauntic_jobs"]})
    if lacking(site.session, DELIVERING) or hidden or not functions["present"] or functions["read_only"]:
        # A finding of its own.
        return
    try:
        with site.session.rehearsal():
            _record(site)
    except MaunticJobsError as problem:
        yield error(
            f"a message that was sent cannot be recorded: {str(problem).rstrip('.')}",
            "Correct what is named: until then results are kept in the ledger alone",
        )
    else:
        yield ok("results of messages can be recorded")


def _record(site: Site) -> None:
    key: dict[str, object] = {"n": 0, "organization_id": str(uuid4()), "delivery_id": "doctor"}
    claim = {**key, "channel": "email", "contact_id": str(uuid4()), "address": "ann@example.com", "queue_job": "doctor"}
    claim |= {"message_id": "<doctor@mauntic-jobs.test>", "campaign_id": "doctor", "owner": str(uuid4()), "ready": True}
    (row,) = site.session.rows(_sql["claim"], {"claims": json.dumps([claim]), "lease": _LEASE})
    result = {**key, "fence": row["json_agg"][0]["fence"], "state": "sent", "provider": "custom_smtp doctor"}
    result |= {"provider_message_id": "<doctor@mauntic-jobs.test>", "reject": "bounced"}
    parameters = {"results": json.dumps([result]), "resend_after": _LEASE}
    site.session.rows(_sql["record"], {**parameters, "record_activity": site.settings.record_activity})


def _lacks_functions(site: Site) -> bool:
    return not site.session.row(_doctor_sql["delivery_functions"])["present"]


def _unrecorded(site: Site) -> Iterator[Finding]:
    if _lacks_functions(site):
        return
    row = site.session.row(_doctor_sql["unrecorded"])
    if row["results"]:
        yield warning(
            f"{plural(row['results'], 'result')} not recorded whole, the last: {row['error']}",
            "mauntic-jobs deliveries reconcile, once the cause is gone",
        )
    else:
        yield ok("all results are recorded whole")


def _unknown_fields(site: Site) -> Iterator[Finding]:
    if _lacks_functions(site):
        return
    since = site.now() - timedelta(days=1)
    rows = site.session.rows(_doctor_sql["unknown_fields"], {"since": since})
    if rows:
        fields = [f"{row['field']} ({row['messages']:,})" for row in rows]
        yield warning(
            f"fields of templates that were left empty in the last 24 h, with messages: {several(fields)}",
            f"mauntic-jobs deliveries show {rows[0]['example']}; correct the template, or give it a default",
        )
    else:
        yield ok("no field of a template was unknown in the last 24 h")


CHECKS = (
    Check(_AREA, "recording", _recording, Service.POSTGRES, reads=(_LEDGER,)),
    Check(_AREA, "unrecorded", _unrecorded, Service.POSTGRES, reads=(_LEDGER,)),
    Check(_AREA, "unknown_fields", _unknown_fields, Service.POSTGRES, reads=(_LEDGER,)),
)
