"""The command `mauntic-jobs`."""

from typing import Annotated

import typer

from mauntic_jobs import __version__
from mauntic_jobs.cli import alerts, config, db, deliveries, dev, dlq, monitor, outbox, providers, runs, schedule
from mauntic_jobs.cli.command import new_app
from mauntic_jobs.cli.deliver import register_deliver
from mauntic_jobs.cli.demo import register_demo
from mauntic_jobs.cli.doctor import register_doctor
from mauntic_jobs.cli.enqueue import register_enqueue
from mauntic_jobs.cli.jobs import register_jobs
from mauntic_jobs.cli.metrics import register_metrics
from mauntic_jobs.cli.output import print_line
from mauntic_jobs.cli.status import register_status
from mauntic_jobs.cli.work import register_work

_HELP = (
    "Scheduled jobs and message delivery for the Mauntic marketing platform.\n\n"
    "Every option can be set in the environment: --limit of `runs list` is MAUNTIC_RUNS_LIST_LIMIT."
)

app = new_app(_HELP, auto_envvar_prefix="MAUNTIC", completion=True)
register_jobs(app)
register_status(app)
register_metrics(app)
app.add_typer(schedule.app, name="schedule")
register_work(app)
register_deliver(app)
register_enqueue(app)
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(dlq.app, name="dlq")
app.add_typer(providers.app, name="providers")
app.add_typer(runs.app, name="runs")
register_doctor(app)
app.add_typer(db.app, name="db")
app.add_typer(outbox.app, name="outbox")
app.add_typer(monitor.app, name="monitor")
app.add_typer(alerts.app, name="alerts")
app.add_typer(config.app, name="config")
app.add_typer(dev.app, name="dev")
register_demo(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"mauntic-jobs {__version__}")
        raise typer.Exit


@app.callback(help=_HELP)
def _root(
    *,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            allow_from_autoenv=False,  # MAUNTIC_VERSION may well mean something else
            show_envvar=False,
            metavar="",
            help="Print the version.",
        ),
    ] = False,
) -> None:
    return None


def main() -> None:
    """Run the command line of this process and exit."""
    app(prog_name="mauntic-jobs")
