"""Files of plans: written with a digest, and read back with every doubt told."""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from mauntic_jobs import __version__
from mauntic_jobs.backfill.coverage import BucketState
from mauntic_jobs.backfill.plan import BackfillRequest, PlannedWindow
from mauntic_jobs.backfill.preview import DatabaseId, PreviewedWindow
from mauntic_jobs.cli.documents.plan import BackfillPlanJson, PlannedWindowJson, PlanSchema, WindowPreviewJson
from mauntic_jobs.errors import RefusedError, UsageError
from mauntic_jobs.job import BucketPreview, Fingerprint
from mauntic_jobs.redaction.printable import json_text
from mauntic_jobs.timekeeping.window import Window

_FAMILY = "mauntic-jobs/backfill-plan/"
(_SCHEMA,) = get_args(PlanSchema)
_MADE_BY = "`mauntic-jobs backfill plan JOB --out FILE` makes one."


def as_document(
    request: BackfillRequest, windows: Sequence[PreviewedWindow], database: DatabaseId, now: datetime
) -> BackfillPlanJson:
    """Return a plan for JSON, with its digest."""
    seconds = [each.seconds for each in windows if each.preview is not None]
    document: BackfillPlanJson = {
        "schema": _SCHEMA,
        "digest": "",
        "version": __version__,
        "made_at": now,
        "database": {"system": database.system, "name": database.name},
        "job": request.job.name,
        "options": request.options.model_dump(mode="json", exclude_defaults=True),
        "reprocess": list(request.reprocess),
        "newest_first": request.newest_first,
        "parallel": request.parallel,
        "stop_after_failures": request.stop_after_failures,
        "seconds": None if None in seconds else round(sum(each or 0 for each in seconds), 3),
        "windows": [_window(each) for each in windows],
    }
    document["digest"] = _digest(json.loads(json_text(document)))
    return document


def write_plan(path: Path, document: BackfillPlanJson) -> None:
    """Write a plan to a file, whole or not at all. Raises UsageError where that cannot be done."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(json_text(document, indent=2) + "\n", "utf-8")
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None


def read_plan(path: Path) -> BackfillPlanJson:
    """Read a plan. Raises UsageError for a file that is none of this version, and RefusedError for an edited one."""
    try:
        text = path.read_text("utf-8")
        content = json.loads(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise UsageError(f"{path} is no plan, since it is no JSON. {_MADE_BY}") from None
    schema = str(content.get("schema")) if isinstance(content, dict) else ""
    if not schema.startswith(_FAMILY):
        raise UsageError(f"{path} is no plan of a backfill. {_MADE_BY}")
    if schema != _SCHEMA:
        raise UsageError(f"{path} is a plan of another version: {schema}, and not {_SCHEMA}. Make the plan anew.")
    if content.get("digest") != _digest(content):
        raise RefusedError(f"{path} was edited since it was made: its digest is not that of its content. Make another.")
    try:
        return TypeAdapter(BackfillPlanJson).validate_json(text)
    except ValidationError as error:
        where = ".".join(str(each) for each in error.errors()[0]["loc"])
        raise UsageError(f"{path} is no whole plan: {where}: {error.errors()[0]['msg']}. Make another.") from None


def planned_windows(plan: BackfillPlanJson) -> list[PlannedWindow]:
    """Return the windows of a plan, in their order, with what they must look like."""
    return [
        PlannedWindow(
            Window(each["window"]["start"], each["window"]["end"]),
            BucketState(each["found"]),
            each["reason"],
            each["skipped"],
            None if each["preview"] is None else Fingerprint(**each["preview"]["fingerprint"]),
        )
        for each in plan["windows"]
    ]


def _digest(content: dict[str, object]) -> str:
    rest = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _window(each: PreviewedWindow) -> PlannedWindowJson:
    window = each.planned.window
    return {
        "window": {"start": window.start, "end": window.end},
        "found": each.planned.found,
        "reason": each.planned.reason,
        "skipped": each.planned.skipped,
        "preview": None if each.preview is None else _preview(each.preview, each.seconds),
    }


def _preview(found: BucketPreview, seconds: float | None) -> WindowPreviewJson:
    return {
        "events": found.events,
        "present": found.present,
        "future": found.future,
        "withheld": {"groups": found.withheld, "present": found.withheld_old, "counted": found.withheld_new},
        "largest": [
            {
                "organization_id": row["organization_id"],
                "type": row["kind"],
                "present": row["old_total"],
                "future": row["old_total"] if row["withheld"] else row["new_total"],
                "withheld": row["withheld"],
            }
            for row in found.largest
        ],
        "seconds": seconds,
        "fingerprint": {"input": found.fingerprint.input, "target": found.fingerprint.target},
    }
