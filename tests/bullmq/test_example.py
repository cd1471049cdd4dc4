"""The example of docs/bullmq.md, run as it stands."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from mauntic_jobs.bullmq import Queue
from tests.bullmq.queues import ask, fields_of, ids_in
from tests.support import environment, wait_until

_PAGE = Path(__file__).parents[2] / "docs" / "bullmq.md"


def test_the_example_registers_a_scheduler_and_works_until_it_is_told_to_stop(queue: Queue) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    address = '"redis://redis.example.com:6379/0", "reports:weekly"'
    assert address in example
    there = replace(queue, name="reports:weekly")
    program = example.replace(address, f'"{there.redis_url}", "{there.name}", "{there.prefix}"')
    worker = subprocess.Popen([sys.executable, "-c", program], env=environment(), stderr=subprocess.PIPE, text=True)
    (job,) = wait_until(lambda: ids_in(there, "delayed"), "the scheduler")
    ask(there, "ZADD", f"{there.key}:delayed", 0, job)
    ask(there, "ZADD", f"{there.key}:marker", 0, "0")
    wait_until(lambda: ids_in(there, "completed") == [job], "the job")
    assert "T06:00:00+00:00" in fields_of(there, job)["returnvalue"]
    worker.terminate()
    _, errors = worker.communicate()
    assert (worker.returncode, errors) == (0, "")
