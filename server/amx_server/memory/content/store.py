"""The content store: bytes by their BLAKE3 address, each content once, in three tiers. See docs/memory.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from amx_server.memory.content.address import Data, node_address_of
from amx_server.memory.content.collection import Collected, collection
from amx_server.memory.content.compaction import DEAD_SHARE, Compacted, Compactor
from amx_server.memory.content.contents import Contents, Damage
from amx_server.memory.content.demotion import Demotion
from amx_server.memory.content.entry import CHUNKED, LEAF, NODE
from amx_server.memory.content.errors import content_not_a_node, content_too_large, disk_failed, store_closed
from amx_server.memory.content.maintenance import Maintenance, MaintenanceThread
from amx_server.memory.content.options import ContentOptions, Owner
from amx_server.memory.content.quarantine import Quarantine
from amx_server.memory.content.reading import Reader
from amx_server.memory.content.reconciliation import Reconciled, reconcile
from amx_server.memory.content.recovery import recover
from amx_server.memory.content.references import Node, update
from amx_server.memory.content.repair import Repair
from amx_server.memory.content.saving import Saving
from amx_server.memory.content.statistics import Stats, measure
from amx_server.memory.content.steps import STEP_S, Steps
from amx_server.memory.content.verification import Verified, verification
from amx_server.memory.content.writing import Writer
from amx_server.storage.lock import StoreLock

ENGINE = Owner()
_LEAST_BYTES = 4096  # of a tier


class ContentStore:
    """Bytes by address. Every method may be called by any thread; all are synchronous.

    What is put lives until a collection finds that nothing retains, links to or pins it. What is retained is durable
    after the next `flush`. Methods raise AmxError, with the reasons named in each, and change nothing when they do.
    """

    def __init__(self, folder: Path | None = None, options: ContentOptions | None = None) -> None:
        """Opens the store in `folder`, which is made where it does not exist; None: in memory only, without cold tier.

        Raises AmxError STORAGE_UNAVAILABLE when another process has it open, CONTENT_DISK_FAILED where it cannot be
        read. Damage is no error: see `damages`.
        """
        self._options = options or ContentOptions()
        self._name = str(folder) if folder is not None else "in memory"
        self._lock: StoreLock | None = None
        contents = self._contents = Contents(self._options)
        quarantine = Quarantine(contents, folder / "quarantine" if folder is not None else None)
        if folder is not None:
            self._open(folder, quarantine)
        writer = Writer(contents)
        self._demotion = Demotion(contents, writer)
        self._reader = Reader(contents, self._demotion, quarantine)
        self._saving = Saving(contents, self._demotion.packer, writer)
        self._repair = Repair(contents, self._reader, writer)
        self._compactor = Compactor(contents, self._reader, writer, self._saving, self._repair)
        self._maintenance = Maintenance(contents, self._demotion, self._compactor)
        self._thread = MaintenanceThread(self._maintenance) if self._options.background else None
        self._hot = contents.hot
        self._high_bytes = 0
        self.squeeze(1.0)
        self._hits = 0
        self._puts = 0
        self._known = 0
        self._closed = False

    # --- content

    def put(self, data: Data) -> bytes:
        """Stores a value and returns its address; known content costs its hash and a lookup.

        The value is safe from the next collection, not from the one after: retain or pin it before. Raises
        CONTENT_TOO_LARGE, CONTENT_MEMORY_FULL.
        """
        address = blake3(data).digest()
        self._put(address, data)
        return address

    def shared(self, data: bytes) -> bytes:
        """Stores a value as `put` does, and returns the object that the hot tier has of it: equal bytes, held once.

        Takes no longer than its hash: where the hot tier has no room, nothing is stored, and `data` itself comes back.
        Raises CONTENT_TOO_LARGE, CONTENT_MEMORY_FULL.
        """
        hot = self._hot
        address = blake3(data).digest()
        if address not in hot:
            if hot.bytes + len(data) > hot.budget:
                return data
            self._put(address, data)
            self._reader.promote(address, data)
        found = hot.peek(address)
        return data if found is None else found

    def put_node(self, links: Sequence[bytes], body: Data = b"") -> bytes:
        """Stores a node: links to content that is in the store, and a body. What it links to lives as long as it does.

        Raises CONTENT_NOT_FOUND for a link, and as `put` does.
        """
        links = tuple(links)
        address = node_address_of(links, body)
        contents = self._contents
        self._puts += 1
        with contents.lock:
            entry = contents.index.get(address)
            if entry is not None:
                entry.cycle = contents.cycle
                self._known += 1
                return address
        self._add(address, NODE, bytes(body), links)
        return address

    def get(self, address: bytes) -> bytes:
        """The value, or the body of a node. Hot content is the stored object itself: no copy, one dictionary lookup.

        What is read from disk is checked against its address. Raises CONTENT_NOT_FOUND; CONTENT_CORRUPTED, which names
        the content and the place.
        """
        data = self._hot.young.get(address)
        if data is not None:
            self._hits += 1
            return data
        return self._reader.load(address)

    def get_shared(self, address: bytes) -> bytes:
        """As `get`, and from then on the hot tier has it where it has room: who asks next gets the same object."""
        data = self.get(address)
        if self._hot.peek(address) is None:
            self._reader.promote(address, data)
        return data

    def view(self, address: bytes) -> memoryview:
        """As `get`, without a copy where possible: of hot content, or mapped from disk where it lies there plain."""
        return self._reader.view(address)

    def node(self, address: bytes) -> Node:
        """Links and body of a node. Raises as `get` does, and CONTENT_NOT_A_NODE for a value."""
        entry = self._contents.entry(address)
        if entry.kind != NODE:
            raise content_not_a_node(address)
        return Node(entry.links, self.get(address))

    def __contains__(self, address: object) -> bool:
        return address in self._contents.index

    def __len__(self) -> int:
        return len(self._contents.index)

    def size(self, address: bytes) -> int:
        """Plain bytes of a value, or of a node with everything it links to. Raises CONTENT_NOT_FOUND."""
        return self._contents.entry(address).weight

    # --- references

    def retain(self, addresses: Iterable[bytes], owner: Owner = ENGINE, *, over_quota: bool = False) -> None:
        """Adds a reference to each, all or none, and charges its size to the owner.

        Durable after the next flush. over_quota: the quota was asked before (`require_room`) and is not asked again.
        Raises CONTENT_NOT_FOUND, CONTENT_CORRUPTED, CONTENT_QUOTA_EXCEEDED.
        """
        update(self._contents, addresses, (), owner, over_quota)

    def release(self, addresses: Iterable[bytes], owner: Owner = ENGINE) -> None:
        """Takes a reference from each, all or none. For when what needed it is durably gone.

        Raises CONTENT_NOT_RETAINED.
        """
        update(self._contents, (), addresses, owner)

    def update(self, retain: Iterable[bytes], release: Iterable[bytes], owner: Owner = ENGINE) -> None:
        """Both at once, as when a value replaces another: the quota is asked for the difference."""
        update(self._contents, retain, release, owner)

    def references(self, address: bytes) -> int:
        """How often content is retained; links do not count."""
        entry = self._contents.index.get(address) or self._contents.lost.get(address)
        return entry.refs if entry is not None else 0

    def require_room(self, owner: Owner, size: int) -> None:
        """Raises CONTENT_QUOTA_EXCEEDED if the owner may not retain so many bytes more."""
        self._contents.ledger.require(owner, size)

    def held(self, owner: Owner) -> int:
        """Bytes charged to an owner; for a namespace, those of its agents included."""
        ledger = self._contents.ledger
        return ledger.held.get(owner, 0) if owner.agent else ledger.namespace(owner.namespace)

    def owners(self, count: int, namespace: str | None = None) -> list[tuple[Owner, int]]:
        """Agents and namespaces that are charged most bytes, largest first; of one namespace if one is named."""
        return self._contents.ledger.largest(count, namespace)

    @contextmanager
    def pinned(self, addresses: Iterable[bytes]) -> Iterator[None]:
        """Keeps content from being collected while entered; not durable, not charged. Raises CONTENT_NOT_FOUND."""
        contents = self._contents
        addresses = list(addresses)
        with contents.lock:
            for address in addresses:
                contents.entry(address)
            for address in addresses:
                contents.pins[address] = contents.pins.get(address, 0) + 1
        try:
            yield
        finally:
            with contents.lock:
                for address in addresses:
                    contents.pins[address] -= 1
                    if not contents.pins[address]:
                        del contents.pins[address]

    def reconcile(self, references: Iterable[tuple[Owner, bytes, int]]) -> Reconciled:
        """Sets all references to these (owner, address, count), and tells what of them is missing.

        For the start, before anything else uses the store: a crash between a flush and the commit it was for leaves
        references that nobody has. Durable after the next flush.
        """
        return reconcile(self._contents, references)

    # --- durability and upkeep

    def flush(self) -> None:
        """The barrier for a commit: when it returns, all that was retained before is durable, with its references.

        Call it before the commit that refers to the content, and release only after the commit that does not any more.
        Raises CONTENT_DISK_FULL: nothing was promised or forgotten, call again when there is room;
        CONTENT_DISK_FAILED: the store must be opened again.
        """
        if self._closed:
            raise store_closed(self._name)
        self._saving.flush()

    def collection(self, roots: Iterable[bytes] = ()) -> Steps[Collected]:
        """One cycle of garbage collection, in steps of about a millisecond. `roots` are kept although unretained.

        One cycle at a time.
        """
        return collection(self._contents, roots)

    def collect(self, roots: Iterable[bytes] = ()) -> Collected:
        """One whole cycle, in this thread; others are not held up."""
        return self.collection(roots).run()

    def compaction(self, dead_share: float = DEAD_SHARE) -> Steps[Compacted]:
        """Gives back the space of what was collected, in steps; every segment of which at least that share is dead."""
        return self._compactor.everything(dead_share)

    def compact(self, dead_share: float = DEAD_SHARE) -> Compacted:
        """The same as a whole, in this thread. Raises as `flush` does, and has then lost nothing."""
        return self.compaction(dead_share).run()

    def verification(self) -> Steps[Verified]:
        """Checks everything on disk and in memory, in steps."""
        return verification(self._contents, self._reader, self._repair)

    def verify(self) -> Verified:
        """The same as a whole, in this thread; others are not held up."""
        return self.verification().run()

    def maintain(self, seconds: float = STEP_S) -> bool:
        """Upkeep for about that long; True: there is more. For stores opened without a background thread."""
        return self._maintenance.step(seconds)

    def squeeze(self, part: float) -> None:
        """From now on the tiers in memory have this part of their budgets, above 0 to 1; what does not fit moves down
        by and by. Nothing where everything is kept in memory: there is nowhere to move to. Returns at once.
        """
        contents, options = self._contents, self._options
        if contents.log is None:
            part = 1.0
        with contents.lock:
            contents.hot.budget = max(_LEAST_BYTES, int(options.hot_bytes * part))
            contents.warm.budget = max(_LEAST_BYTES, int(options.warm_bytes * part))
            self._high_bytes = int(contents.hot.budget * 0.95)
        if self._thread is not None:
            self._thread.wake()

    @property
    def damages(self) -> list[Damage]:
        """The latest damage that was found: when the store was opened, by reading, by `verify`. Up to 1,000."""
        return list(self._contents.damages)

    def stats(self) -> Stats:
        """What the store holds, and how well."""
        return measure(
            self._contents,
            self._reader,
            hits=self._hits,
            puts=self._puts,
            puts_known=self._known,
            compacted_bytes=self._maintenance.compacted_bytes,
            upkeep_failure=self._maintenance.failure,
        )

    def close(self) -> None:
        """Makes what is retained durable and lets go of the files. May be called again. Raises as `flush` does."""
        if self._closed:
            return
        if self._thread is not None:
            self._thread.close()
        try:
            self._saving.flush()
        finally:
            self._closed = True
            if self._contents.log is not None:
                self._contents.log.close()
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside

    def _open(self, folder: Path, quarantine: Quarantine) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = StoreLock(str(folder / "content"))
            recover(self._contents, folder, quarantine)
        except OSError as error:
            if self._lock is not None:
                self._lock.release()
            raise disk_failed(str(folder), error.strerror or str(error)) from error
        except BaseException:
            if self._lock is not None:
                self._lock.release()
            raise

    def _put(self, address: bytes, data: Data) -> None:
        contents = self._contents
        self._puts += 1
        with contents.lock:
            entry = contents.index.get(address)
            if entry is not None:
                entry.cycle = contents.cycle
                self._known += 1
                if entry.kind != CHUNKED or not contents.lost:
                    return
        if entry is None:
            self._add(address, LEAF, bytes(data), ())
        elif any(link in contents.lost for link in entry.links):
            self._demotion.packer.restore_pieces(bytes(data))

    def _add(self, address: bytes, kind: int, body: bytes, links: tuple[bytes, ...]) -> None:
        contents = self._contents
        if self._closed:
            raise store_closed(self._name)
        if len(body) > self._options.max_value_bytes:
            raise content_too_large(len(body), self._options.max_value_bytes)
        self._demotion.admit(len(body))
        with contents.lock:
            if address in contents.index:
                contents.index[address].cycle = contents.cycle
                return
            weight = size = len(body)
            for link in links:
                weight += contents.entry(link).weight
            contents.hot.add(contents.insert(address, kind, size, weight, links).address, body)
        if self._hot.bytes > self._high_bytes:
            if self._thread is not None:
                self._thread.wake()
            if self._hot.bytes > self._hot.budget:
                self._demotion.settle()
