"""Every process of a peer notes how many jobs it has done."""

import os
import threading
from pathlib import Path

from bench.peers._tally import PLACE, Tally


def _noted(folder: Path) -> list[int]:
    return sorted(PLACE.unpack(path.read_bytes())[2] for path in folder.glob("*.tally"))


def test_threads_share_a_tally(tmp_path: Path) -> None:
    tally = Tally(tmp_path, names=True)

    def work() -> None:
        for number in range(200):
            tally.begin(number)
            tally.end(number)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _noted(tmp_path) == [1000]
    assert len((tmp_path / "done.txt").read_text().split()) == 1000


def test_a_forked_process_has_a_tally_of_its_own(tmp_path: Path) -> None:
    tally = Tally(tmp_path, names=False)
    tally.begin(0)
    tally.end(0)
    child = os.fork()
    if child == 0:
        for number in (1, 2):
            tally.begin(number)
            tally.end(number)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _noted(tmp_path) == [1, 2]
