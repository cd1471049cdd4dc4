"""The configuration of a segment trigger: which segment, and how often a contact may enter.

Source: `journey.journey_triggers.config` of the platform.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.timekeeping.window import naive

# About a century: more is a mistake, and would leave the calendar.
_Days = Annotated[int, Field(ge=1, le=36_500)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class ReEntry(_Config):
    """Whether a contact that was in the journey may enter again: never, always, or some days after it last entered."""

    type: Literal["once", "always", "cooldown"] = "once"
    cooldown_days: Annotated[_Days | None, Field(alias="cooldownDays")] = None

    @model_validator(mode="after")
    def _check_cooldown(self) -> "ReEntry":
        if self.type == "cooldown" and self.cooldown_days is None:
            raise ValueError("a cooldown needs cooldownDays")
        return self


class EntryCap(_Config):
    """At most `max_count` entries of a contact within `window_days`."""

    max_count: Annotated[int, Field(alias="maxCount", ge=0, le=1_000_000)]
    window_days: Annotated[_Days, Field(alias="windowDays")]


class SegmentTrigger(_Config):
    """A trigger's configuration."""

    segment_id: Annotated[UUID, Field(alias="segmentId")]
    re_entry: Annotated[ReEntry, Field(alias="reEntry")] = ReEntry()
    frequency_cap: Annotated[EntryCap | None, Field(alias="frequencyCap")] = None

    def rules(self, now: datetime) -> dict[str, object]:
        """Return the entry rules as parameters of the `candidates` statement, at the instant `now`."""
        match self.re_entry.type:
            case "once":
                since = datetime.min.replace(tzinfo=UTC)
            case "always":
                since = datetime.max.replace(tzinfo=UTC)
            case _:
                since = now - timedelta(days=self.re_entry.cooldown_days or 0)
        cap = self.frequency_cap
        return {
            "no_entry_since": naive(since),
            "cap": None if cap is None else cap.max_count,
            "cap_since": None if cap is None else naive(now - timedelta(days=cap.window_days)),
        }

    def waits(self, then: datetime, now: datetime) -> list[tuple[datetime, datetime]]:
        """Return when executions started whose time to wait ran out after `then`, up to `now`: after and until.

        The first is empty: it stands for executions that nothing is waited for after.
        """
        days = [self.frequency_cap.window_days] if self.frequency_cap is not None else []
        if self.re_entry.type == "cooldown":
            days.append(self.re_entry.cooldown_days or 0)
        return [(then, then), *((then - timedelta(days=each), now - timedelta(days=each)) for each in days)]


def parse_trigger(raw: object) -> SegmentTrigger:
    """Check a configuration as stored. Raises JobFailedError that names what is wrong."""
    try:
        return SegmentTrigger.model_validate(raw)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc'])) or 'config'}: {problem['msg']}" for problem in error.errors()]
        raise JobFailedError(f"the trigger's configuration cannot be used: {'; '.join(problems)}") from None
