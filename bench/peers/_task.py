"""Work of one job, the same for every peer.

Environment: KIND (no-op, smtp or slow), FOLDER, COUNT, CONCURRENCY, SMTP_PORT, REDIS_URL, DATABASE_URL and REDELIVERY.
"""

import asyncio
import html
import os
import re
import time
from collections import deque
from email.message import EmailMessage
from pathlib import Path
from smtplib import SMTP
from typing import Any

import aiosmtplib

from bench.peers._tally import Tally

REDIS_URL = os.environ.get("REDIS_URL", "")
DATABASE_URL = os.environ.get("DATABASE_URL", "")
# Seconds after which a job of a killed worker may be taken by another; 0 leaves each peer its own.
REDELIVERY = int(os.environ.get("REDELIVERY", "0"))
COUNT = int(os.environ.get("COUNT", "0"))
CONCURRENCY = int(os.environ.get("CONCURRENCY", "1"))

_KIND = os.environ.get("KIND", "no-op")
_FOLDER = Path(os.environ.get("FOLDER", "."))
_PORT = int(os.environ.get("SMTP_PORT", "25"))
_SLOW_SECONDS = 0.1
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


_tally = Tally(_FOLDER, names=_KIND == "slow")
# Connections to the SMTP server that no job uses now.
_idle: deque[SMTP] = deque()
_idle_async: deque[aiosmtplib.SMTP] = deque()
_texts: dict[str, str] = {}


def run(data: dict[str, Any]) -> None:
    """Do a job's work, in a thread, a greenlet or a process."""
    _tally.begin(data["number"])
    if _KIND == "smtp":
        try:
            connection = _idle.pop()
        except IndexError:
            connection = SMTP("127.0.0.1", _PORT)
        connection.send_message(_message(data))
        _idle.append(connection)
    elif _KIND == "slow":
        time.sleep(_SLOW_SECONDS)
    _tally.end(data["number"])


async def run_async(data: dict[str, Any]) -> None:
    """Do a job's work on an event loop."""
    _tally.begin(data["number"])
    if _KIND == "smtp":
        try:
            connection = _idle_async.pop()
        except IndexError:
            connection = aiosmtplib.SMTP(hostname="127.0.0.1", port=_PORT, start_tls=False)
            await connection.connect()
        await connection.send_message(_message(data))
        _idle_async.append(connection)
    elif _KIND == "slow":
        await asyncio.sleep(_SLOW_SECONDS)
    _tally.end(data["number"])


def jobs() -> list[dict[str, Any]]:
    """Return what the jobs to enqueue hold: the fields that node_peer/produce.mjs gives each."""
    return [
        {
            "number": i,
            "emailAddress": f"user{i}@example.com",
            "templateData": {
                "firstName": f"First{i}",
                "lastName": f"Last{i}",
                "company": f"Company {i % 1000} & Sons",
                "product": f"Product {i % 100}",
                "price": f"{10 + i % 90}.99",
                "city": f"City {i % 500}",
                "month": "October",
                "code": f"CODE-{i}",
                "score": i % 101,
            },
            "unsubscribeUrl": f"https://example.com/u/{i}",
        }
        for i in range(COUNT)
    ]


def _message(data: dict[str, Any]) -> EmailMessage:
    values = {**data["templateData"], "unsubscribeUrl": data["unsubscribeUrl"]}
    message = EmailMessage()
    message["From"], message["To"] = "News <news@acme.test>", data["emailAddress"]
    message["Subject"] = _render("subject", values)
    message["List-Unsubscribe"] = f"<{data['unsubscribeUrl']}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(_render("text", values))
    message.add_alternative(_render("html", values), subtype="html")
    return message


def _render(name: str, values: dict[str, Any]) -> str:
    if name not in _texts:
        _texts[name] = (_FOLDER / f"template.{name}").read_text("utf-8")
    change = html.escape if name == "html" else str
    return _PLACEHOLDER.sub(lambda found: change(str(values.get(found[1], ""))), _texts[name])
