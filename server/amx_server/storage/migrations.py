"""The schema of the SQLite store and every change ever made to it, numbered and applied in order, never backwards.

A released migration is never edited: files written by it exist. A change is a new entry at the end.
"""

from __future__ import annotations

from typing import Final

import apsw

from amx_server.core.errors import FAILED_PRECONDITION, AmxError

# Marks a SQLite file as ours ("AMXE"), so that a foreign database is refused instead of being altered.
APPLICATION_ID: Final = 0x414D5845

_V1: Final = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', 0), ('next_seq', 1);

CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    message_id TEXT NOT NULL,
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    handler TEXT NOT NULL,
    priority INTEGER NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    available_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    outcome BLOB NOT NULL,
    CHECK (state <> 0 OR ended_at_ms = 0)
) STRICT;
CREATE UNIQUE INDEX messages_by_id ON messages (namespace, message_id);
-- Pending messages in order of seq (their ended_at_ms is 0) and ended ones in order of their end, in one index.
CREATE INDEX messages_by_state ON messages (state, ended_at_ms);

CREATE TABLE memory (
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    entry TEXT NOT NULL,
    value BLOB NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    version INTEGER NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (namespace, agent, key, name, entry)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    definition BLOB NOT NULL,
    next_run_at_ms INTEGER NOT NULL,
    last_run_at_ms INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    from_definition INTEGER NOT NULL,
    PRIMARY KEY (namespace, agent, key, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE subscriptions (
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    pattern TEXT NOT NULL,
    handler TEXT NOT NULL,
    filter TEXT NOT NULL,
    PRIMARY KEY (namespace, agent, key, pattern)
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
    ordinal INTEGER PRIMARY KEY, -- order of first registration
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    definition BLOB NOT NULL,
    pinned INTEGER NOT NULL,
    UNIQUE (namespace, name, version)
) STRICT;
"""

# Versions of memories, snapshots, forks, suspensions, and large values by address.
#
# A size beside a blob: 0, the blob is the value; above, it is the address of content with that many bytes. In memories
# also -1, the entry was removed from what a fork inherits, and -2, so was the whole memory.
_V2: Final = """
ALTER TABLE messages ADD COLUMN body_size INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN outcome_size INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN definition_size INTEGER NOT NULL DEFAULT 0;
ALTER TABLE memory ADD COLUMN size INTEGER NOT NULL DEFAULT 0;

-- The versions of each instance are a chain, from the latest to the oldest that is kept. Commits append to it and to
-- the history, whichever instance they are of: that is several times cheaper than to have them in order of instance.
CREATE TABLE memory_versions (
    id INTEGER PRIMARY KEY,
    previous INTEGER NOT NULL, -- id of the version before; 0: none
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    changes INTEGER NOT NULL,
    gap INTEGER NOT NULL DEFAULT 0 -- versions that followed are forgotten
) STRICT;
INSERT INTO memory_versions
    SELECT row_number() OVER (), 0, namespace, agent, key, max(version), unixepoch() * 1000, '', sum(name <> ''), 0
    FROM memory GROUP BY namespace, agent, key;

CREATE TABLE memory_heads (
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    id INTEGER NOT NULL, -- of the latest version
    version INTEGER NOT NULL,
    versions INTEGER NOT NULL, -- that are kept
    oldest_ms INTEGER NOT NULL, -- when the oldest of them was committed
    PRIMARY KEY (namespace, agent, key)
) STRICT, WITHOUT ROWID;
INSERT INTO memory_heads SELECT namespace, agent, key, id, version, 1, at_ms FROM memory_versions;

-- What present memories do not have any more: there from `version` on, and last in the version whose id is `last`.
CREATE TABLE memory_history (
    last INTEGER NOT NULL,
    name TEXT NOT NULL,
    entry TEXT NOT NULL,
    version INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    used INTEGER NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (last, name, entry)
) STRICT, WITHOUT ROWID;
DELETE FROM memory WHERE name = '';

CREATE TABLE memory_snapshots (
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (namespace, agent, key, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE memory_forks (
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL, -- of the fork, from which on it inherits
    at_ms INTEGER NOT NULL,
    source_key TEXT NOT NULL,
    source_version INTEGER NOT NULL,
    PRIMARY KEY (namespace, agent, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX memory_forks_by_source ON memory_forks (namespace, agent, source_key, source_version);

CREATE TABLE suspensions (
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (namespace, agent, key)
) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: Final = (_V1, _V2)
SCHEMA_VERSION: Final = len(MIGRATIONS)


def migrate(db: apsw.Connection, path: str) -> None:
    """Brings the store to SCHEMA_VERSION in one transaction, or leaves it as it was.

    Raises AmxError STORAGE_FOREIGN when the file is another program's database and STORAGE_TOO_NEW when a newer
    engine wrote it; apsw.Error when SQLite cannot do it.
    """
    with db:  # a savepoint: everything below or nothing
        application_id = db.pragma("application_id")
        version = db.pragma("user_version")
        assert isinstance(application_id, int) and isinstance(version, int)
        if application_id != APPLICATION_ID:
            if application_id or version or db.execute("SELECT count(*) FROM sqlite_schema").get:
                raise AmxError(
                    FAILED_PRECONDITION,
                    "STORAGE_FOREIGN",
                    f"{path} is a SQLite database of another program; name another file for the engine's store",
                )
            db.pragma("application_id", APPLICATION_ID)
        if version > SCHEMA_VERSION:
            raise AmxError(
                FAILED_PRECONDITION,
                "STORAGE_TOO_NEW",
                f"{path} has schema version {version}, this engine knows versions up to {SCHEMA_VERSION};"
                " run an engine at least as new as the one that wrote it, or restore a backup made before the upgrade",
                metadata={"schema_version": str(version), "known_version": str(SCHEMA_VERSION)},
            )
        for number in range(version, SCHEMA_VERSION):
            db.execute(MIGRATIONS[number], can_cache=False)
        if version != SCHEMA_VERSION:
            db.pragma("user_version", SCHEMA_VERSION)
