"""Settings of the toolkit, and the checks of their values."""

import re
from datetime import UTC, timedelta, tzinfo
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, SecretStr, field_validator, model_validator

from mauntic_jobs.settings.alert_channels import AnyChannel, HttpAddress
from mauntic_jobs.settings.types import (
    MAIL_PORTS,
    ApiAddress,
    AutoPause,
    CampaignChannels,
    CertificateFile,
    ChannelSettings,
    Duration,
    HostName,
    JobSettings,
    LimitsOfDeadLetters,
    MessageLimits,
    Networks,
    Ports,
    PositiveDuration,
    Recipients,
    Redirections,
    Retention,
    ScheduledShrink,
    SegmentReading,
    WatchInterval,
    ZoneName,
)

_MAX_RETRY_DELAY = timedelta(hours=1)


class Settings(BaseModel):
    """The effective settings of one process. `load` of `sources` reads them; each default is checked like a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_default=True)

    database_url: SecretStr | None = Field(
        None, validation_alias="DATABASE_URL", description="Postgres; a transaction-mode pooler is fine"
    )
    database_read_url: SecretStr | None = Field(
        None, validation_alias="DATABASE_READ_URL", description="a read replica of Postgres, for the large scans"
    )
    redis_url: SecretStr | None = Field(None, validation_alias="REDIS_URL", description="Redis or Valkey")
    embedded: bool = Field(False, description="use the development servers on this machine")
    connect_timeout: PositiveDuration = Field(timedelta(seconds=10), description="for a connection to Postgres")
    statement_timeout: PositiveDuration = Field(timedelta(minutes=10), description="for one statement of a job")
    work_mem: str = Field("64MB", pattern=r"^\d+(kB|MB|GB)$", description="work_mem of a job's transaction")
    lateness_grace: Duration = Field(
        timedelta(hours=2), ge=timedelta(), description="how long after midnight yesterday is still rebuilt"
    )
    scheduled_shrink: ScheduledShrink = Field(
        ScheduledShrink.NONE,
        description="which recorded values a scheduled run may lower by itself: none, or of gone_organizations",
    )
    late_events_window: Duration = Field(
        timedelta(days=7),
        ge=timedelta(),
        le=timedelta(days=31),
        description="how far back the daily report looks for events that came late; 0s for not at all",
    )
    campaign_channels: CampaignChannels = Field(
        CampaignChannels.ONE,
        description="what a campaign's figures of a day count: one channel, email where there is any, or all of them",
    )
    platform_timezone: ZoneName = Field(
        "UTC", description="zone of the times that the platform writes to contact_activity.created_at by default"
    )
    max_attempts: PositiveInt = Field(4, description="attempts of a run, the first included")
    retry_delay: Duration = Field(
        timedelta(seconds=1), ge=timedelta(), description="wait before the first retry; doubles each time"
    )
    takeover_after: PositiveDuration = Field(
        timedelta(seconds=60), description="silence after which a run's owner counts as dead"
    )
    segments_compatibility: SegmentReading = Field(
        SegmentReading.STRICT,
        description="how criteria of segments are read: strict, as documented, or as the platform's own count does",
    )
    queue_prefix: str = Field("bull", min_length=1, description="prefix of the platform's BullMQ queues")
    port: int | None = Field(
        None,
        ge=1,
        le=65_535,
        validation_alias="PORT",
        description="where commands that stay serve /health and /metrics",
    )
    listen_address: str | None = Field(
        None, min_length=1, description="the one address that they listen on; by default all, IPv6 included"
    )
    launcher_id: str | None = Field(
        None, min_length=1, description="which clock this is, in the ledger; by default the host's name"
    )
    jobs: dict[str, JobSettings] = Field(
        {},
        description="cron, catch_up, max_attempts, retry_delay, heartbeat_url and sentry_monitor by job; what "
        "`schedule set` writes to the database wins over the first two",
    )
    channels: dict[Literal["email", "sms", "push"], ChannelSettings] = Field(
        {}, description="queue, prefix, concurrency, attempts, retry_delay, quiet_hours and frequency_cap by channel"
    )
    contacts_timezone: ZoneName = Field("UTC", description="zone of contacts that have none, for quiet_hours")
    encryption_key: SecretStr | None = Field(
        None,
        validation_alias="ENCRYPTION_KEY",
        description="64 hex characters; opens the configuration of delivery providers",
    )
    allowed_networks: Networks = Field(
        "", description="private networks that delivery providers may be in, such as 10.1.0.0/16, separated by commas"
    )
    recipients_allow: Recipients | None = Field(
        None,
        description="only these get messages, where it is not production: domains, addresses, numbers with a +, device "
        "tokens, `reserved` for domains that are reserved for tests; separated by commas",
    )
    recipients_redirect: Redirections = Field(
        "", description="where messages to others go instead: an email address, a number; separated by a comma"
    )
    smtp_ports: Ports = Field(list(MAIL_PORTS), description="ports that SMTP servers on the internet may have")
    message_limits: MessageLimits = Field(MessageLimits(), description="payload, template_output and template_steps")
    send_timeout: Annotated[PositiveDuration, Field(le=timedelta(seconds=30))] = Field(
        timedelta(seconds=30), description="how long a provider may take to open an exchange, and to answer at its end"
    )
    provider_urls: dict[str, ApiAddress] = Field(
        {}, description="other addresses of the providers' APIs, by type, such as a test server's"
    )
    ehlo_name: HostName | None = Field(
        None, description="name that SMTP servers are greeted with; by default the domain of the sender"
    )
    smtp_ca_file: CertificateFile | None = Field(
        None, description="certificates in PEM of authorities that SMTP servers' certificates may be from as well"
    )
    record_activity: bool = Field(False, description="write a row of contact_activity for each message sent")

    upkeep: bool = Field(
        True, description="the clock also watches and prunes: monitor run, db prune and verify at their times"
    )
    watch_every: WatchInterval = Field(
        timedelta(minutes=1),
        description="how often the clock watches: a part of an hour, or 1h for a database that sleeps",
    )
    auto_pause: AutoPause = Field(
        "on",
        description="the monitor pauses an organization whose messages bounce or are complained about too often: on "
        "until an operator resumes it, a time such as 6h, or off",
    )
    dead_letters: LimitsOfDeadLetters = Field(
        [], description="when a queue has too many dead letters: depth, growth, window, age, and where for some of them"
    )
    overdue_after: PositiveDuration = Field(
        timedelta(minutes=5), description="a slot that has been due for longer is overdue"
    )
    alerts: list[AnyChannel] = Field([], description="channels of alerts, in the order in which they are tried")
    alert_repeat: PositiveDuration = Field(
        timedelta(hours=4), description="after this long an alert that is still open is sent again"
    )
    alert_timeout: Annotated[PositiveDuration, Field(le=timedelta(seconds=10))] = Field(
        timedelta(seconds=10), description="how long sending alerts may take in all, whatever the channels do"
    )
    sentry_dsn: HttpAddress | None = Field(None, description="DSN of the Sentry project that gets cron check-ins")
    retain_contact_data: Retention = Field(
        timedelta(days=30), description="how long whom a message went to, and what it said, is kept once it is settled"
    )
    retain_deliveries: Retention = Field(
        timedelta(days=90), ge=timedelta(days=7), description="how long settled deliveries are kept"
    )
    retain_runs: Retention = Field(timedelta(days=400), description="how long runs are kept")
    retain_outbox: Retention = Field(timedelta(days=30), description="how long published jobs of the outbox are kept")
    retain_figure_changes: Retention = Field(
        timedelta(days=90), description="how long is kept what runs changed in figures"
    )
    retain_alerts: Retention = Field(timedelta(days=90), description="how long alerts that are over are kept")
    retain_discarded: Retention = Field(
        timedelta(days=90), description="how long copies of discarded dead letters are kept"
    )
    retain_duplicates: Retention = Field(
        timedelta(days=400), description="how long duplicates that were moved aside are kept"
    )
    metrics_dir: str | None = Field(
        None, min_length=1, description="where runs leave their numbers for node-exporter, a file for each job"
    )

    log_format: Literal["auto", "human", "json"] = Field(
        "auto", description="what stderr gets: sentences or JSON; auto is JSON off a terminal, of commands that stay"
    )

    @field_validator("encryption_key")
    @classmethod
    def _is_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", value.get_secret_value()):
            raise ValueError("it must be 64 hex characters")
        return value

    @model_validator(mode="after")
    def _has_one_zone(self) -> Self:
        if self.record_activity and self.platform_zone != UTC:
            raise ValueError("record_activity writes in UTC, which platform_timezone says that the platform does not")
        return self

    @property
    def platform_zone(self) -> tzinfo:
        """The zone of `contact_activity.created_at`."""
        return UTC if self.platform_timezone == "UTC" else ZoneInfo(self.platform_timezone)

    def retry_delays(self, job: str) -> list[timedelta]:
        """Return the waits before the second and each later attempt of `job`: each twice the last, to an hour."""
        own = self.jobs.get(job, JobSettings())
        attempts = own.max_attempts or self.max_attempts
        delay = self.retry_delay if own.retry_delay is None else own.retry_delay
        return [min(delay * 2 ** min(retry, 30), max(delay, _MAX_RETRY_DELAY)) for retry in range(attempts - 1)]
