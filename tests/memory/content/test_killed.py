"""kill -9 in the middle of a flush, a demotion, a compaction, of everything at once: nothing durable is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amx_server.memory.content import ContentStore, Owner, address_of
from amx_server.memory.content.records import HEADER_BYTES, SEGMENT_HEADER_BYTES
from tests.memory.content.auditing import audit
from tests.memory.content.killed_worker import OPTIONS, value

pytestmark = [pytest.mark.process, pytest.mark.fault, pytest.mark.slow]

ROUNDS = 13  # of each of four kinds: 52 kills
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """The process that forks those that are killed."""
    command = [sys.executable, "-m", "tests.memory.content.killed_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def known(journal: Path) -> tuple[set[int], set[int]]:
    """Numbers that must be there, and numbers that may."""
    certain: set[int] = set()
    possible: set[int] = set()
    for line in journal.read_text().splitlines() if journal.exists() else []:
        number = int(line[1:])
        certain.discard(number)
        possible.discard(number)
        if line[0] != "-":
            (certain if line[0] == "+" else possible).add(number)
    return certain, possible


@pytest.mark.parametrize("phase", ["flush", "demotion", "compaction", "background"])
def test_killed_store_verifies_clean_and_has_lost_nothing(
    tmp_path: Path, worker: subprocess.Popen[str], phase: str
) -> None:
    folder, journal = tmp_path / "content", tmp_path / "journal"
    assert worker.stdin
    assert worker.stdout
    held: set[int] = set()
    for seed in range(1, ROUNDS + 1):
        order = [str(folder), str(journal), phase, str(seed), " ".join(map(str, sorted(held)))]
        worker.stdin.write("\t".join(order) + "\n")
        worker.stdin.flush()
        assert int(worker.stdout.readline()) == -signal.SIGKILL, f"round {seed} did not get to its kill"
        certain, possible = known(journal)
        held = check(folder, certain, possible, f"{phase}, round {seed}")
        journal.write_text("".join(f"+{number}\n" for number in held))
    assert held


def check(folder: Path, certain: set[int], possible: set[int], when: str) -> set[int]:
    """Opens what the kill has left; returns the numbers that go on being held."""
    with ContentStore(folder, OPTIONS) as store:
        assert store.damages == [], when
        assert store.verify().clean, when
        for number in certain:
            address = address_of(value(number))
            assert store.references(address) == 1, f"{when}: {number}"
            assert store.get(address) == value(number), f"{when}: {number}"
        held = certain | {number for number in possible if store.references(address_of(value(number)))}
        for number in held:
            assert store.get(address_of(value(number))) == value(number), f"{when}: {number}"
        result = store.reconcile([(Owner(), address_of(value(number)), 1) for number in held])
        assert result.missing == [], when
        audit(store)
        store.collect()  # one cycle
        addresses = {address_of(value(number)) for number in held}
        pieces = {link for address in addresses for link in store._contents.index[address].links}
        assert store._contents.index.keys() == addresses | pieces, when
        store.compact(0.0)
        stats = store.stats()
        bookkeeping = stats.segments * SEGMENT_HEADER_BYTES + 20 * HEADER_BYTES + 48 * len(held) + 200
        assert stats.disk_bytes - stats.live_bytes < bookkeeping, when
        audit(store)
    return held
