"""Values by address in the SQLite store: which rows have one, who has it, and what a transaction frees.

The size beside a value says what the value is: see the second migration. Triggers note every address that a row gives
up, so whatever a transaction does, what it frees is known after it.
"""

# ruff: noqa: S608 - the SQL is put together from constants; values are always bound

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final

import apsw

from amx_server.core.errors import AmxError
from amx_server.storage.interface import Blobs
from amx_server.storage.sqlite_versions import Rows

REFERS: Final = -3
"""Size of a value that is the JSON text of an address, `"content:<64 hexadecimal digits>"`, and keeps what is there."""
TEXT_BYTES: Final = 74
_ADDRESS_BYTES: Final = 32
_HOLDERS_NAMED: Final = 10
_TEXT_START: Final = b'"content:'

Reference = tuple[str, str, bytes]  # namespace, agent, address; see Blobs

_NOTE_FREED: Final = "amx_freed"
_HOLDS: Final = f"(old.size > 0 OR old.size = {REFERS})"
_FREE: Final = "INSERT INTO freed (namespace, agent, size, value) VALUES"
_FREE_MEMORY: Final = f"{_FREE} (old.namespace, old.agent, old.size, old.value)"
_HELD: Final = f"size > 0 OR size = {REFERS}"

# Rows of `memory` that are overwritten or go: those that went to the history keep their reference there.
PREPARE: Final = f"""
CREATE TEMP TABLE freed (
    id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, agent TEXT NOT NULL, size INTEGER NOT NULL, value BLOB NOT NULL
);
CREATE TEMP TRIGGER freed_first AFTER INSERT ON freed WHEN new.id = 1 BEGIN SELECT {_NOTE_FREED}(); END;
CREATE TEMP TRIGGER memory_overwritten AFTER UPDATE OF value ON memory
    WHEN {_HOLDS} AND (old.version >= new.version OR NOT EXISTS (SELECT 1 FROM memory_heads
        WHERE namespace = old.namespace AND agent = old.agent AND key = old.key))
    BEGIN {_FREE_MEMORY}; END;
CREATE TEMP TRIGGER history_overwritten AFTER UPDATE OF value ON memory_history WHEN {_HOLDS}
    BEGIN {_FREE_MEMORY}; END;
CREATE TEMP TRIGGER history_forgotten AFTER DELETE ON memory_history WHEN {_HOLDS}
    BEGIN {_FREE_MEMORY}; END;
CREATE TEMP TRIGGER outcome_overwritten AFTER UPDATE OF outcome ON messages WHEN old.outcome_size > 0
    BEGIN {_FREE} ('', '', 1, old.outcome); END;
CREATE TEMP TRIGGER message_forgotten AFTER DELETE ON messages WHEN old.outcome_size > 0
    BEGIN {_FREE} ('', '', 1, old.outcome); END;
CREATE TEMP TRIGGER definition_overwritten AFTER UPDATE OF definition ON agents WHEN old.definition_size > 0
    BEGIN {_FREE} ('', '', 1, old.definition); END;
"""

_REFERENCES: Final = f"""
    SELECT namespace, agent, size, value FROM memory WHERE {_HELD}
    UNION ALL SELECT namespace, agent, size, value FROM memory_history WHERE {_HELD}
    UNION ALL SELECT '', '', outcome_size, outcome FROM messages WHERE outcome_size > 0
    UNION ALL SELECT '', '', definition_size, definition FROM agents WHERE definition_size > 0"""

_ADDRESS: Final = "CASE WHEN size > 0 THEN value ELSE unhex(CAST(substr(value, 10, 64) AS TEXT)) END"
_HOLDERS: Final = f"""
    SELECT 'memory ''' || name || ''', entry ''' || entry || ''' of ' || agent || '/' || key || ' in ' || namespace
        AS holder, {_ADDRESS} AS address FROM memory WHERE {_HELD}
    UNION ALL SELECT 'memory ''' || name || ''', entry ''' || entry || ''' of ' || agent || '/' || key || ' in '
        || namespace || ', from version ' || version, {_ADDRESS} FROM memory_history WHERE {_HELD}
    UNION ALL SELECT 'result of message ' || message_id || ' in ' || namespace, outcome
        FROM messages WHERE outcome_size > 0
    UNION ALL SELECT 'definition of agent ' || name || ' ' || version || ' in ' || namespace, definition
        FROM agents WHERE definition_size > 0"""


class Keeping:
    """The values of one batch that do not stay in their rows, gathered while the rows are put together."""

    __slots__ = ("_address_sizes", "_addresses", "_places", "_read", "_values", "references")

    def __init__(self) -> None:
        self._values: list[Reference] = []
        self._places: list[tuple[int, int]] = []
        self._addresses: list[Reference] = []
        self._address_sizes: list[int] = []
        self._read: dict[bytes, bytes] = {}  # texts that were found to be addresses
        self.references: list[Reference] = []
        """What was kept."""

    def large(self, namespace: str, agent: str, value: bytes, at: int, size_at: int) -> None:
        """The parameter `at` is a large value; that of its size is at `size_at`."""
        self._values.append((namespace, agent, value))
        self._places.append((at, size_at))

    def text(self, namespace: str, agent: str, value: bytes, size_at: int) -> None:
        """A value has the length of an address as JSON text. Perhaps it is one."""
        address = self._read.get(value)
        if address is None:
            if not value.startswith(_TEXT_START):
                return
            try:
                address = bytes.fromhex(value[len(_TEXT_START) : -1].decode("ascii"))
            except ValueError:
                return
            if len(address) != _ADDRESS_BYTES:
                return
            self._read[value] = address
        self._addresses.append((namespace, agent, address))
        self._address_sizes.append(size_at)

    def keep(self, blobs: Blobs, parameters: list[apsw.SQLiteValue]) -> None:
        """Has it all kept, and puts addresses and sizes into the parameters. Raises AmxError; nothing is kept then."""
        if not self._values and not self._addresses:
            return
        found, there = blobs.keep(self._values, self._addresses)
        for (namespace, agent, value), (at, size_at), address in zip(self._values, self._places, found, strict=True):
            if address:
                parameters[at], parameters[size_at] = address, len(value)
                self.references.append((namespace, agent, address))
        for reference, size_at, is_there in zip(self._addresses, self._address_sizes, there, strict=True):
            if is_there:
                parameters[size_at] = REFERS
                self.references.append(reference)


class Freed:
    """What transactions of one connection free."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._any = False
        db.create_scalar_function(_NOTE_FREED, self._note, 0)
        db.execute(PREPARE, can_cache=False)

    def _note(self, *_: apsw.SQLiteValue) -> None:
        """Called by the first row that a transaction frees."""
        self._any = True

    def take(self) -> list[Reference]:
        """What the transactions since the last call freed, as often as they did. Costs nothing where they did not."""
        if not self._any:
            return []
        self._any = False
        listed = self._db.execute(
            f"SELECT json_group_array(json_array(namespace, agent, hex({_ADDRESS}))) FROM temp.freed"
        ).get
        self._db.execute("DELETE FROM temp.freed")
        assert isinstance(listed, str)
        return [(namespace, agent, bytes.fromhex(address)) for namespace, agent, address in json.loads(listed)]


def references(db: apsw.Connection) -> Iterator[Reference]:
    """Every reference of every row."""
    for namespace, agent, address in db.execute(f"SELECT namespace, agent, {_ADDRESS} FROM ({_REFERENCES})"):
        assert isinstance(namespace, str) and isinstance(agent, str) and isinstance(address, bytes)
        yield namespace, agent, address


def holders(rows: Rows, addresses: Sequence[bytes]) -> dict[bytes, list[str]]:
    """See Store.holders."""
    wanted = json.dumps([address.hex() for address in addresses])
    found: dict[bytes, list[str]] = {}
    for holder, address in rows.rows(
        ("holder", "lower(hex(address))"),
        (),
        f"SELECT holder, address FROM ({_HOLDERS}) WHERE address IN (SELECT unhex(value) FROM json_each(?))",
        (wanted,),
    ):
        who = found.setdefault(bytes.fromhex(address), [])
        if len(who) < _HOLDERS_NAMED:
            who.append(holder)
    return found


def named(error: AmxError, holder: str) -> AmxError:
    """The error, with who refers to the content."""
    return AmxError(error.code, error.reason, f"{holder}: {error.message}", metadata=error.metadata)
