"""Values of a contact and of criteria as they may be shown: nothing that names a person, unless it is asked for."""

from mauntic_jobs.redaction.payloads import mask_payload
from mauntic_jobs.segments.judgement import JudgedCondition

# What a contact is to the organization, and not who it is.
_IMPERSONAL = {
    *("id", "organization_id", "status", "stage", "lead_score", "lead_grade"),
    *("last_activity_at", "created_at", "updated_at"),
}


def contact_value(judged: JudgedCondition, *, reveal: bool) -> str | None:
    """Return what the contact has, None for nothing; masked where it may be personal, unless `reveal` is set."""
    value = judged.contact_value
    if not value or reveal or judged.column in _IMPERSONAL:
        return value
    name = judged.column or judged.condition.field
    masked: str = mask_payload({"custom_fields": {name: value}})["custom_fields"].popitem()[1]
    return masked


def criterion_value(judged: JudgedCondition, *, reveal: bool) -> object:
    """Return what a condition compares with: tenants write it, and addresses and numbers of persons are masked."""
    return mask_payload(judged.condition.value, reveal=reveal)
