"""Rows of the tables about delivery, from stored results."""

from collections.abc import Mapping
from typing import Any

from bench._job_tables import Result, Row, spread_text

_TITLES = {"node": "Node", "node no-op": "Node", "no-op": "the consumer", "deliver": "`deliver`"}


def rates(result: Result) -> list[Row]:
    """Return the rates of `deliver` and of the Node engine."""
    return [
        {
            "": each["kind"],
            "at once": str(each["concurrency"]),
            "Node, a second": spread_text(_first(each)["rate"], 0),
            "ours, a second": spread_text(_last(each)["rate"], 0),
            "ratio": spread_text(each["ratio"]),
            "Node's CPU, to ours": spread_text(each["cpu_ratio"]),
        }
        for each in result["results"]
    ]


def cpu(result: Result) -> list[Row]:
    """Return the CPU milliseconds of a message by process."""
    return [
        {
            "": each["kind"],
            "at once": str(each["concurrency"]),
            "by": _TITLES[way],
            "Node or Python": f"{own['client']['median']:.2f}",
            **{name: f"{own[name]['median']:.2f}" for name in ("Postgres", "Valkey", "sink")},
            "peak memory": f"{own['rss_mb']['max']:.0f} MB",
        }
        for each in result["results"]
        for way, own in each["ways"].items()
    ]


def relay(result: Result) -> list[Row]:
    """Return the rates and the CPU over a Postfix that keeps what it takes."""
    return [
        {
            "at once": str(each["concurrency"]),
            "Node, a second": spread_text(_first(each)["rate"], 0),
            "ours, a second": spread_text(_last(each)["rate"], 0),
            "ratio": spread_text(each["ratio"]),
            "Node's CPU, to ours": spread_text(each["cpu_ratio"]),
            "Postfix's CPU ms, with Node": spread_text(_first(each)["sink"]),
            "with ours": spread_text(_last(each)["sink"]),
        }
        for each in result["results"]
    ]


def memory(result: Result) -> list[Row]:
    """Return the resident memory as messages go by."""
    return [
        {"": each["kind"], "done": f"{sample['jobs']:,}", "resident memory": f"{sample['rss_mb']:.1f} MB"}
        for each in result["results"]
        for sample in each["samples"]
    ]


def idle_memory(result: Result) -> list[Row]:
    """Return the memory of commands that have nothing to deliver."""
    return [
        {
            "command": f"`{command}`",
            "processes": str(len(each)),
            "proportional memory": f"{sum(each):.0f} MB",
            "of each": ", ".join(f"{own:.0f} MB" for own in each),
        }
        for command, each in result["proportional_mb"].items()
    ]


def idle(result: Result) -> list[Row]:
    """Return how long a message takes from an idle queue."""
    took = sorted(result["milliseconds"])
    at = {f"p{share}": took[min(len(took) * share // 100, len(took) - 1)] for share in (50, 90, 99)}
    return [
        {
            "messages": str(len(took)),
            "each after": f"{result['idle_seconds']:g} s of idleness",
            **{name: f"{value:.1f} ms" for name, value in at.items()},
            "longest": f"{took[-1]:.1f} ms",
        }
    ]


def ledger(result: Result) -> list[Row]:
    """Return what the ledger writes for a message."""
    return [
        {
            "content": f"{each['payload']:,} B",
            "at a time": str(each["batch"]),
            "log of a message": f"{sum(each['log'].values()):,.0f} B",
            "CPU of the server": f"{each['cpu_ms']:.2f} ms",
            "heap": f"{each['table']['heap']:,.0f} B",
            "HOT updates": f"{each['table']['hot'] / max(each['table']['updates'], 1):.0%}",
        }
        for each in result["results"]
    ]


def providers(result: Result) -> list[Row]:
    """Return the CPU milliseconds of a message, by provider."""
    return [
        {
            "provider": each["provider"],
            "at once": str(each["concurrency"]),
            "`deliver`": f"{each['cpu_ms_per_message']['deliver']['median']:.2f}",
            "of these, the adapter and its exchange": f"{each['cpu_ms_per_message']['exchange']['median']:.2f}",
            "the HTTP client alone": f"{each['cpu_ms_per_message']['client']['median']:.2f}",
            "Node with the SDK": f"{each['cpu_ms_per_message']['node']['median']:.2f}" if "node" in each else "",
            "Node's CPU, to ours": spread_text(each["node"]["cpu"], 1) if "node" in each else "",
            "Node's time, to ours": spread_text(each["node"]["time"], 1) if "node" in each else "",
        }
        for each in result["results"]
    ]


def governed(result: Result) -> list[Row]:
    """Return the share of an allowed rate that is sent, by way."""
    return [
        {
            "over": f"SMTP, {each['over']}" if each["over"].isdigit() else f"{each['over']}, 429",
            "rate": f"{each['rate']}/s",
            "processes": str(each["processes"]),
            "way": each["way"],
            "sent, of what is allowed": f"{each['sent']:.1%}",
            "refused, of the messages": f"{each['refused']:.1%}",
            "most in a second": str(each["peak"]),
            "learned after": _seconds(each["learned"]),
        }
        for each in result["rates"]
    ]


def _seconds(number: float | None) -> str:
    return "never" if number is None else f"{number:.0f} s"


def small_beside_large(result: Result) -> list[Row]:
    """Return how long a small organization waits beside a large one."""
    own = result["turns"]
    return [
        {"messages before": f"{own['beside']:,}", "20 of another organization sent after": f"{own['seconds']:.2f} s"}
    ]


def turns(result: Result) -> list[Row]:
    """Return how a long queue is sorted into turns."""
    return [{"": name, "measured": str(value)} for name, value in result.items() if name not in ("origin", "machine")]


def fairness(result: Result) -> list[Row]:
    """Return what an organization keeps of its throughput beside another in trouble."""
    return [
        {
            "at once": str(each["concurrency"]),
            "alone, messages a second": spread_text(each["alone"], 0),
            **{f"beside: {name}": f"{share['median']:.0%}" for name, share in each["shares"].items()},
        }
        for each in result["results"]
    ]


def peers_no_op(result: Result) -> list[Row]:
    """Return the peers without any work."""
    return _peers(result, "no-op")


def peers_smtp(result: Result) -> list[Row]:
    """Return the peers over SMTP."""
    return _peers(result, "smtp")


def peers_ahead(result: Result) -> list[Row]:
    """Return where another system is ahead of ours, by the medians."""
    rows = [
        {
            "": each["kind"],
            "at once": str(each["concurrency"]),
            "system": name,
            "ahead by": f"{1 / ratio:.2f} times {what}",
        }
        for each in result["results"]
        for name, own in each["ways"].items()
        for ratio, what in (
            (own["rate_ratio"]["median"], "the rate"),
            (own["cpu_ratio"]["median"], "as many for the same CPU"),
        )
        if ratio < 1
    ]
    return rows or [{"": "", "at once": "", "system": "none", "ahead by": ""}]


def _peers(result: Result, kind: str) -> list[Row]:
    return [
        {
            "at once": str(each["concurrency"]),
            "system": name,
            "a second": spread_text(own["rate"], 0),
            "CPU ms, all processes": spread_text(own["cpu_ms"]),
            "our rate, to its": spread_text(own["rate_ratio"]),
            "its CPU, to ours": spread_text(own["cpu_ratio"]),
        }
        for each in result["results"]
        if each["kind"] == kind
        for name, own in each["ways"].items()
    ]


def peer_settings(result: Result) -> list[Row]:
    """Return how each peer is set, and what becomes of a job whose worker is killed."""
    return [
        {"system": name, "version": each["version"], "set": each["settings"], "a job of a killed worker": each["after"]}
        for name, each in result["systems"].items()
    ]


def claims(result: Result) -> list[Row]:
    """Return the rates and the CPU of claims of work, by processes."""
    return [
        {
            "processes": str(each["processes"]),
            "ours, a second": spread_text(each["ways"]["ours"]["rate"], 0),
            "procrastinate, a second": spread_text(each["ways"]["procrastinate"]["rate"], 0),
            "ratio": spread_text(each["rate_ratio"]),
            "CPU ms, ours": spread_text(each["ways"]["ours"]["cpu_ms"]),
            "CPU ms, procrastinate": spread_text(each["ways"]["procrastinate"]["cpu_ms"]),
        }
        for each in result["results"]
    ]


def peer_kills(result: Result) -> list[Row]:
    """Return what became of the jobs of a killed worker."""
    return [
        {
            "system": name,
            "in hand": str(each["in hand"]),
            "not done in time": str(each["never"]),
            "done twice": str(each["twice"]),
            "all done after": "" if each["never"] else f"{each['seconds']:.0f} s",
        }
        for name, each in result["results"].items()
    ]


def _first(each: Mapping[str, Any]) -> Any:
    return next(iter(each["ways"].values()))


def _last(each: Mapping[str, Any]) -> Any:
    return list(each["ways"].values())[-1]
