"""Faults of an installation, and the one finding that the doctor has of each."""

from collections.abc import Callable
from typing import NamedTuple

from mauntic_jobs.delivery.sending.providers.config import encrypt
from tests.ops.rig import KEY, Rig
from tests.support import organization

_NOBODY = "127.0.0.1:1"
_ROLLUP_KEY = "analytics.mauntic_jobs_event_aggregates_key"


Spoil = Callable[[Rig], None]


class Fault(NamedTuple):
    """What is done to an installation, and the finding: how bad, where, and words of it."""

    spoil: Spoil
    severity: str
    area: str
    check: str
    words: str


FAULTS: list[Fault] = []


def _fault(severity: str, area: str, check: str, words: str) -> Callable[[Spoil], Spoil]:
    def register(spoil: Spoil) -> Spoil:
        FAULTS.append(Fault(spoil, severity, area, check, words))
        return spoil

    return register


_EVENT_IN_KOLKATA = (
    "INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, created_at) VALUES"
    " (gen_random_uuid(), gen_random_uuid(), 'x', clock_timestamp() AT TIME ZONE 'Asia/Kolkata')"
)


@_fault("error", "database", "grants", "may neither run jobs nor deliver: it lacks INSERT on")
def role_without_writing(rig: Rig) -> None:
    rig.execute("REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mauntic_jobs FROM {role}")


@_fault("error", "database", "grants", "the role lacks UPDATE on crm.segments")
def role_without_a_grant(rig: Rig) -> None:
    rig.execute("REVOKE UPDATE ON crm.segments FROM {role}")


@_fault("warning", "providers", "keys", "sendgrid dkim (1)")
def keys_unknown(rig: Rig) -> None:
    rig.provider("sendgrid", encrypt({"apiKey": "SG.1", "dkim": True}, KEY))


@_fault("error", "messages", "recording", "a message that was sent cannot be recorded: Postgres refused")
def events_refused(rig: Rig) -> None:
    rig.execute("ALTER TABLE delivery.delivery_events ADD CHECK (event_type <> 'sent') NOT VALID")


_UNSETTLED = (
    "INSERT INTO mauntic_jobs.deliveries (organization_id, delivery_id, channel, state, queue_job, owner, {columns})"
    " VALUES (gen_random_uuid(), 'd1', 'email', 'sent', 'j1', gen_random_uuid(), {values})"
)


@_fault("warning", "messages", "unrecorded", "1 result not recorded whole, the last: it was refused")
def results_refused(rig: Rig) -> None:
    rig.execute(_UNSETTLED.format(columns="unrecorded", values="jsonb_build_object('error', 'it was refused')"))


@_fault("warning", "messages", "unknown_fields", "contact.nickname (1)")
def fields_unknown(rig: Rig) -> None:
    rig.execute(_UNSETTLED.format(columns="unknown_fields", values="ARRAY['contact.nickname']"))


@_fault("error", "postgres", "writing", "are read-only")
def read_only(rig: Rig) -> None:
    rig.execute("ALTER ROLE {role} SET default_transaction_read_only = on")


@_fault("error", "postgres", "replica", "is no read replica of DATABASE_URL: it is no standby")
def no_replica(rig: Rig) -> None:
    rig.variables["DATABASE_READ_URL"] = rig.variables["DATABASE_URL"]


@_fault("warning", "postgres", "role", "is a superuser")
def superuser(rig: Rig) -> None:
    rig.execute("ALTER ROLE {role} SUPERUSER")


@_fault("error", "database", "row_security", "may hide rows of crm.contacts")
def row_security(rig: Rig) -> None:
    rig.execute("ALTER TABLE crm.contacts ENABLE ROW LEVEL SECURITY")


@_fault("warning", "postgres", "time_zone", "are in Europe/Berlin")
def time_zone(rig: Rig) -> None:
    rig.execute("ALTER ROLE {role} SET timezone = 'Europe/Berlin'")


@_fault("error", "postgres", "event_times", "minutes ahead of the clock in UTC")
def events_in_the_future(rig: Rig) -> None:
    rig.execute(_EVENT_IN_KOLKATA)


@_fault("error", "database", "indexes", "mauntic_jobs_event_aggregates_key on")
def key_missing(rig: Rig) -> None:
    rig.execute(f"DROP INDEX {_ROLLUP_KEY}")


@_fault("error", "database", "indexes", "with 2 duplicate rows in its way")
def duplicates(rig: Rig) -> None:
    key_missing(rig)
    for _ in range(3):
        rig.execute(
            "INSERT INTO analytics.event_aggregates (organization_id, date, event_type)"
            " VALUES (%(organization)s, '2026-10-05', 'email_sent')",
            organization=organization(1),
        )


@_fault("warning", "database", "indexes", "mauntic_jobs_contacts_by_organization")
def index_missing(rig: Rig) -> None:
    rig.execute("DROP INDEX crm.mauntic_jobs_contacts_by_organization")


@_fault("error", "database", "migrations", "are pending: 0006 delivery_functions")
def migration_pending(rig: Rig) -> None:
    rig.execute("DELETE FROM mauntic_jobs.migrations WHERE version = 6")


@_fault("error", "database", "migrations", "was applied from another text")
def migration_edited(rig: Rig) -> None:
    rig.execute("UPDATE mauntic_jobs.migrations SET checksum = 'other' WHERE version = 2")


@_fault("not_checked", "database", "migrations", "may not read mauntic_jobs.migrations")
def migrations_closed(rig: Rig) -> None:
    rig.execute("REVOKE SELECT ON mauntic_jobs.migrations FROM {role}")


@_fault("error", "database", "platform", "crm.segment_contacts")
def table_missing(rig: Rig) -> None:
    rig.execute("ALTER TABLE crm.segment_contacts RENAME TO members")


@_fault("error", "redis", "eviction", "is allkeys-lru")
def evicting(rig: Rig) -> None:
    rig.redis.config_set("maxmemory-policy", "allkeys-lru")


@_fault("warning", "redis", "persistence", "keeps nothing on disk")
def forgetful(rig: Rig) -> None:
    rig.redis.config_set("appendonly", "no")


@_fault("error", "redis", "memory", "% of its memory is used")
def full(rig: Rig) -> None:
    rig.redis.config_set("maxmemory", round(rig.redis.info("memory")["used_memory"] * 1.02))


@_fault("error", "redis", "role", "is a replica")
def replica(rig: Rig) -> None:
    rig.redis.replicaof("127.0.0.1", 1)


def user(rig: Rig, *rules: str) -> None:
    rig.redis.execute_command("ACL", "SETUSER", "jobs", "on", ">its-password", "~*", "+@all", *rules)
    rig.variables["REDIS_URL"] = rig.variables["REDIS_URL"].replace("redis://", "redis://jobs:its-password@")


@_fault("not_checked", "redis", "persistence", "cannot be read")
def no_config(rig: Rig) -> None:
    user(rig, "-config")
    rig.redis.config_set("appendonly", "no")


@_fault("error", "redis", "scripts", "refused the login or a command")
def no_scripts(rig: Rig) -> None:
    user(rig, "-@scripting")


def redis_password(rig: Rig) -> None:
    user(rig, "resetpass", ">another")


@_fault("error", "queues", "pause", "analytics:aggregate-hourly is paused")
def paused(rig: Rig) -> None:
    rig.redis.hset(f"{rig.base}:meta", "paused", 1)


@_fault("error", "queues", "pause", "1 job in paused, where no worker takes them, beside 2 in wait")
def two_lists(rig: Rig) -> None:
    rig.redis.lpush(f"{rig.base}:wait", "a", "b")
    rig.redis.lpush(f"{rig.base}:paused", "c")


@_fault("warning", "queues", "keys", "keys begin with other:")
def other_prefix(rig: Rig) -> None:
    rig.variables["MAUNTIC_QUEUE_PREFIX"] = "other"


@_fault("warning", "clocks", "bullmq", "schedules hourly (0 * * * *) on")
def node_scheduler(rig: Rig) -> None:
    rig.redis.zadd(f"{rig.base}:repeat", {"hourly": 1})
    rig.redis.hset(f"{rig.base}:repeat:hourly", mapping={"name": "aggregate", "pattern": "0 * * * *"})


@_fault("warning", "clocks", "ledger", "by schedule on one and by schedule on two")
def two_clocks(rig: Rig) -> None:
    for hour, host in enumerate(("one", "two")):
        rig.execute(
            "INSERT INTO mauntic_jobs.runs (job, slot, claims_slot, window_start, window_end, launcher, launcher_id,"
            " host, pid, version, fencing_token, status, finished_at)"
            " VALUES ('aggregate-hourly', %(slot)s::timestamptz, true, %(slot)s::timestamptz - interval '1 hour',"
            " %(slot)s::timestamptz, 'schedule', '', %(host)s, 1, '0', 1, 'succeeded', clock_timestamp())",
            slot=f"2026-10-05T0{hour}:00Z",
            host=host,
        )


@_fault("error", "providers", "key", "1 of 1 encrypted configurations do not open")
def other_key(rig: Rig) -> None:
    rig.variables["ENCRYPTION_KEY"] = "ff" * 32


@_fault("error", "providers", "key", "there is no key")
def no_key(rig: Rig) -> None:
    del rig.variables["ENCRYPTION_KEY"]


@_fault("warning", "providers", "key", "1 of 2 encrypted configurations do not open")
def one_sealed(rig: Rig) -> None:
    rig.provider("postmark", encrypt({"serverToken": "t"}, "ff" * 32))


@_fault("error", "providers", "configurations", "authToken is missing; 1 organization without")
def provider_incomplete(rig: Rig) -> None:
    rig.provider("twilio", encrypt({"accountSid": "AC", "fromNumber": "+15550100"}, KEY), "sms")


@_fault("warning", "providers", "configurations", "accessKeyId is missing")
def spare_provider_incomplete(rig: Rig) -> None:
    rig.provider("ses", encrypt({"region": "eu-west-1"}, KEY))


@_fault("warning", "providers", "storage", "1 configuration with secrets in the open")
def provider_plain(rig: Rig) -> None:
    rig.provider("postmark", {"serverToken": "hunter2"})


@_fault("warning", "providers", "hosts", "'10.0.0.1' is in a private network")
def private_host(rig: Rig) -> None:
    rig.provider("custom_smtp", encrypt({"host": "10.0.0.1"}, KEY))


@_fault("error", "jobs", "settings", "aggregate-hurly")
def unknown_job(rig: Rig) -> None:
    rig.variables["MAUNTIC_JOBS"] = '{"aggregate-hurly": {"max_attempts": 1}}'


@_fault("warning", "alerts", "channels", "no alert is sent")
def no_alerts(rig: Rig) -> None:
    del rig.variables["MAUNTIC_ALERTS"]


@_fault("error", "crontab", "lines", "line 13: generate-daily-reports is called at `0 5 * * *`")
def crontab_drift(rig: Rig) -> None:
    rig.edit("crontab", "0 2 * * * mauntic-jobs generate", "0 5 * * * mauntic-jobs generate")


@_fault("error", "crontab", "lines", "line 10: aggregate-hourly is called at `0 * * * *`")
def crontab_settings(rig: Rig) -> None:
    rig.variables["MAUNTIC_JOBS"] = '{"aggregate-hourly": {"cron": "5 * * * *"}}'


@_fault("error", "crontab", "lines", "has no line for warmup-daily-reset")
def crontab_short(rig: Rig) -> None:
    rig.edit("crontab", "0 0 * * * mauntic-jobs warmup-daily-reset", "# ")


@_fault("warning", "crontab", "lines", "has no line for `monitor run`, `db prune`, and no clock runs that")
def crontab_unwatched(rig: Rig) -> None:
    rig.edit("crontab", "* * * * * mauntic-jobs monitor run", "# ")
    rig.edit("crontab", "30 4 * * * mauntic-jobs db prune", "# ")


@_fault("error", "crontab", "lines", "`dlq watch` is a part of `monitor run`")
def crontab_of_an_earlier_version(rig: Rig) -> None:
    rig.edit(
        "crontab",
        "mauntic-jobs monitor run",
        "mauntic-jobs dlq watch --once --quiet\n* * * * * mauntic-jobs monitor run",
    )


def crontab_strange(rig: Rig) -> None:
    rig.edit("crontab", "mauntic-jobs aggregate-hourly", "mauntic-jobs count-hourly")


@_fault("error", "crontab", "lines", "cannot be read: No such file or directory")
def crontab_gone(rig: Rig) -> None:
    (rig.directory / "crontab").unlink()


@_fault("warning", "crontab", "lines", "does not call mauntic-jobs")
def crontab_empty(rig: Rig) -> None:
    (rig.directory / "crontab").write_text("MAILTO=ops@example.com\n")


@_fault("warning", "files", "secrets", "(mode 0644), which holds DATABASE_URL")
def crontab_for_everybody(rig: Rig) -> None:
    file = rig.directory / "crontab"
    file.write_text(f"DATABASE_URL=postgresql://jobs:hunter2@db.example.com/mauntic\n{file.read_text()}")
    file.chmod(0o644)


@_fault("error", "fly", "files", "line 6: Fly ends `deliver --all` after 20s, and it may take 25s")
def kill_timeout(rig: Rig) -> None:
    rig.edit("fly/delivery-engine.toml", "kill_timeout = 60", 'kill_timeout = "20s"')


@_fault("error", "fly", "files", "after 1m, and it may take 2m to stop")
def long_drain(rig: Rig) -> None:
    rig.edit("fly/delivery-engine.toml", "deliver --all", "deliver --all --drain-timeout 2m")


@_fault("error", "fly", "files", "and it may take 1m30s to stop")
def long_drain_by_variable(rig: Rig) -> None:
    rig.edit("fly/delivery-engine.toml", "[env]\n", "[env]\nMAUNTIC_DELIVER_DRAIN_TIMEOUT = '90s'\n")


@_fault("error", "fly", "files", "line 15: it runs `work journey:segment-trigger-eval`")
def fly_drift(rig: Rig) -> None:
    rig.edit("fly/journey-executor.toml", " journey:stale-execution-cleanup", "")


@_fault("error", "fly", "files", "schedule is daily, and should be hourly")
def fly_clock(rig: Rig) -> None:
    rig.edit("fly/hourly-schedule.json", '"hourly"', '"daily"')


@_fault("error", "fly", "files", "Fly checks port 8080, and PORT is 8081")
def fly_port(rig: Rig) -> None:
    rig.edit("fly/journey-executor.toml", 'PORT = "8080"', 'PORT = "8081"')


@_fault("warning", "fly", "files", "line 12: REDIS_URL is in the open")
def fly_secret(rig: Rig) -> None:
    rig.edit("fly/journey-executor.toml", "[env]\n", '[env]\nREDIS_URL = "redis://:hunter2@example.com"\n')


@_fault("error", "fly", "files", "journey-executor.toml cannot be read")
def fly_broken(rig: Rig) -> None:
    rig.edit("fly/journey-executor.toml", "[build]", "[build")


def unknown_database(rig: Rig) -> None:
    rig.variables["DATABASE_URL"] += "x"


def postgres_away(rig: Rig) -> None:
    rig.variables["DATABASE_URL"] = f"postgresql://jobs:hunter2@{_NOBODY}/platform"


def no_database(rig: Rig) -> None:
    del rig.variables["DATABASE_URL"]


def redis_away(rig: Rig) -> None:
    rig.variables["REDIS_URL"] = f"redis://:hunter2@{_NOBODY}/0"
