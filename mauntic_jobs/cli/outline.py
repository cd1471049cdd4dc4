"""Outline of the command line: what the help of the program shows of each command, without importing any."""

from collections.abc import Mapping
from typing import NamedTuple

RUN = "Run jobs"
SEND = "Send messages"
SEE = "See how everything stands"
MEND = "Put things right"
SET_UP = "Set up"
# The headings of the help, in their order.
PANELS = (RUN, SEND, SEE, MEND, SET_UP)


class Entry(NamedTuple):
    """A command as help lists it: under a heading, with the first sentences of its own help."""

    panel: str
    summary: str


# The jobs of this package, in the order of their registry.
JOBS: Mapping[str, Entry] = {
    "aggregate-hourly": Entry(RUN, "Rebuild the daily event rollups of the hour's day."),
    "generate-daily-reports": Entry(RUN, "Rebuild yesterday's figures of every campaign."),
    "monthly-usage-summary": Entry(RUN, "Rebuild last month's usage of every organization."),
    "segment-trigger-eval": Entry(RUN, "Let contacts of segments enter the journeys they trigger."),
    "stale-execution-cleanup": Entry(RUN, "Cancel executions that have been idle for over a week."),
    "warmup-daily-reset": Entry(RUN, "Let the warm-up counters of sending domains start the new day."),
}

# Each command is made in the module of its name. Under a heading, groups of commands come last.
COMMANDS: Mapping[str, Entry] = {
    "work": Entry(RUN, "Run the scheduled jobs that BullMQ puts on their queues, one at a time for each queue."),
    "deliver": Entry(SEND, "Deliver the messages on the platform's queues, until SIGTERM or SIGINT."),
    "enqueue": Entry(
        SEND, "Put test messages on a delivery queue the way a campaign does; of one, print the delivery id."
    ),
    "status": Entry(SEE, "Show how jobs, queues, deliveries and alerts stand. Red is where an operator must act."),
    "metrics": Entry(SEE, "Print the numbers of jobs, queues and deliveries in Prometheus's text format."),
    "coverage": Entry(SEE, "Show which days or months of a job are done, missing, failed, stale, empty or shrunk."),
    "verify": Entry(SEE, "Compare each recorded figure with the raw events, and list those that differ."),
    "doctor": Entry(SEE, "Check the whole installation, and say for each finding what to do. Changes nothing."),
    "recover": Entry(
        MEND,
        "Put back what a Redis that lost its data owes: messages, steps of journeys, job schedulers. Doubles nothing.",
    ),
    "demo": Entry(
        SET_UP,
        "Run all six jobs on a month of sample activity, twice, and deliver a campaign, "
        "on servers that end with the demo.",
    ),
    "new-job": Entry(SET_UP, "Write a package with one job and its test, to install beside mauntic-jobs."),
    "help": Entry(SET_UP, "Show the help of a command, as its --help does."),
    "version": Entry(SET_UP, "Print the version, as --version does."),
    "schedule": Entry(RUN, "When the jobs run, and running what is due. Without a command: `schedule list`."),
    "deliveries": Entry(SEND, "The delivery ledger: what became of each message, and what a human has to decide."),
    "dlq": Entry(MEND, "Dead letters: failed jobs of the queues and failed runs, as one list."),
    "providers": Entry(SEND, "The providers that messages go out by, and how organizations have configured them."),
    "runs": Entry(SEE, "The ledger: which job ran when, for which window, and how it ended."),
    "show": Entry(SEE, "The figures that the jobs recorded, and which run wrote them."),
    "explain": Entry(SEE, "How a figure came about, and why a contact is in a journey or not. Changes nothing."),
    "backfill": Entry(
        MEND, "Rebuild many windows of a job, with a record of which are done: it goes on where it was stopped."
    ),
    "db": Entry(SET_UP, "The database: the schema mauntic_jobs, and the indexes on the platform's tables."),
    "outbox": Entry(MEND, "The outbox: jobs that committed runs want put on BullMQ queues."),
    "monitor": Entry(SEE, "Watch for conditions that need an operator, and check the jobs from a second host."),
    "alerts": Entry(SEE, "Alerts: what was told to whom, and whether the channels work."),
    "config": Entry(SET_UP, "The settings: where each comes from, and what it is."),
    "dev": Entry(
        SET_UP, "Development servers on this machine: Postgres and Valkey, and the platform's tables in them."
    ),
}
