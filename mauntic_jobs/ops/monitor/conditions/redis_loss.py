"""Loss of Redis' data, as an alert that only `recover` ends."""

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.installation import Installation
from mauntic_jobs.recovery.marker import Loss, mark, open_loss
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session


def redis_losses(installation: Installation) -> list[Alert]:
    """Raise the marker, and return an alert while a loss was not recovered from."""
    loss = mark(installation.session, installation.redis, installation.settings, installation.now)
    return [] if loss is None else [_alert(loss, installation.settings)]


def noticed_losses(session: Session, settings: Settings) -> list[Alert]:
    """Return an alert for a loss that another process has noticed, by Postgres alone."""
    loss = open_loss(session, settings)
    return [] if loss is None else [_alert(loss, settings)]


def _alert(loss: Loss, settings: Settings) -> Alert:
    return Alert(
        cause=Cause.REDIS_LOST,
        key=settings.queue_prefix,
        severity=Severity.CRITICAL,
        summary=loss.sentence,
        action="mauntic-jobs recover",
        details={
            "since": loss.since.isoformat(timespec="seconds"),
            "kept_until": loss.kept_until.isoformat(timespec="seconds") if loss.kept_until else None,
        },
    )
