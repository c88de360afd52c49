"""What the content store does in a second, what it saves, and how long it stops an event loop.

Runs in a process of its own on a store in a temporary folder. `python -m benchmarks.content_store --codecs` prints how
zstd, with and without a trained dictionary, compares with lz4 on the same objects.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from amx_server.core.collector import tuned_collector
from amx_server.memory.content import Chains, ContentOptions, ContentStore, Owner
from benchmarks import child
from benchmarks.load import Figures

OBJECTS = 2_000
OBJECT_BYTES = 4096
AGENTS = 1_000
TRUNKS, TRUNK_MESSAGES, OWN_MESSAGES = 10, 40, 8
GARBAGE = 100_000
INDEXED = 100_000
ROOT = Path(__file__).resolve().parent.parent
_BEAT_SECONDS = 0.001


class Text:
    """Messages made of phrases of this project's documents: as repetitive as what people and agents write."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = " ".join(
            path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))
        ).split()

    def message(self) -> bytes:
        """A chat message as JSON: 5 to 120 words in phrases of 8, an id, a role."""
        words: list[str] = []
        for _ in range(self._random.randint(1, 15)):
            start = self._random.randrange(len(self._words) - 8)
            words += self._words[start : start + 8]
        role = self._random.choice(("user", "assistant", "tool"))
        id = f"{self._random.getrandbits(64):016x}"
        return json.dumps({"role": role, "id": id, "content": " ".join(words)}).encode()

    def object(self, size: int = OBJECT_BYTES) -> bytes:
        """Messages in a row, cut to a size."""
        parts = b""
        while len(parts) < size:
            parts += self.message()
        return parts[:size]


def _store(folder: str, **options: object) -> ContentStore:
    return ContentStore(Path(folder) / "content", ContentOptions(**options))  # type: ignore[arg-type]


def _rate(call: Callable[[bytes], object], arguments: list[bytes], seconds: float) -> float:
    """Calls in a second, over all arguments again and again."""
    done = 0
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        for argument in arguments:
            call(argument)
        done += len(arguments)
    return done / spent


def known(warmup_s: float, seconds: float) -> Figures:
    """Puts of 4 KiB objects that the store has."""
    with tempfile.TemporaryDirectory() as folder, _store(folder) as store:
        text = Text(1)
        objects = [text.object() for _ in range(OBJECTS)]
        for one in objects:
            store.put(one)
        _rate(store.put, objects, warmup_s)
        return {"rate": _rate(store.put, objects, seconds)}


def hot(warmup_s: float, seconds: float) -> Figures:
    """Gets of hot 4 KiB objects in random order, by addresses that are equal to the store's, not the same objects."""
    with tempfile.TemporaryDirectory() as folder, _store(folder) as store:
        text = Text(1)
        addresses = [bytes(bytearray(store.put(text.object()))) for _ in range(OBJECTS)]
        random.Random(1).shuffle(addresses)
        _rate(store.get, addresses, warmup_s)
        return {"rate": _rate(store.get, addresses, seconds)}


def warm(warmup_s: float, seconds: float) -> Figures:
    """First gets of warm 4 KiB objects beside unpacking the same bytes with the bare codec; both in turns."""
    with tempfile.TemporaryDirectory() as folder, _store(folder, hot_bytes=8192, background=False) as store:
        text = Text(1)
        addresses = [store.put(text.object()) for _ in range(OBJECTS)]
        while store.maintain():
            pass
        contents = store._contents
        packed = {address: value for address in addresses if (value := contents.warm.peek(address)) is not None}
        for address, value in packed.items():  # all with the same codec
            with contents.lock:
                contents.warm.add(address, contents.codec.pack(contents.codec.unpack(value.codec, value.body)))
        packed = {address: value for address in packed if (value := contents.warm.peek(address)) is not None}
        codec = next(iter(packed.values())).codec
        contents.codec.unpack(codec, next(iter(packed.values())).body)
        unpack, get = contents.codec.contexts.unpack[codec], store.get
        bodies = [value.body for value in packed.values()]
        ours = bare = 0.0
        begin = time.perf_counter()
        while (spent := time.perf_counter() - begin) < warmup_s + seconds:
            if spent < warmup_s:
                ours = bare = 0.0
            for value in packed.values():
                value.used = False  # a second get would move it up
            started = time.perf_counter()
            for body in bodies:
                unpack(body)
            between = time.perf_counter()
            for address in packed:
                get(address)
            ours += time.perf_counter() - between
            bare += between - started
        return {"ratio": bare / ours}


def conversations(warmup_s: float, seconds: float) -> Figures:
    """1,000 agents fork from 10 conversations of 40 messages and add 8 of their own: bytes on disk over plain bytes."""
    with tempfile.TemporaryDirectory() as folder, _store(folder, background=False) as store:
        text, chains = Text(2), Chains(store)
        trunks = [chains.extend(None, [text.message() for _ in range(TRUNK_MESSAGES)]) for _ in range(TRUNKS)]
        heads: list[bytes] = []
        for agent in range(AGENTS):
            owner = Owner("bench", str(agent))
            head, held = trunks[agent % TRUNKS], list[bytes]()
            for _ in range(OWN_MESSAGES):
                head = chains.append(head, text.message())
                store.update([head], held, owner)
                held = [head]
            heads += held
            if not agent % 50:
                store.flush()
                store.maintain()
        store.collect()
        store.compact()
        plain = 0
        for head in heads:
            messages = chains.messages(head)
            if len(messages) != TRUNK_MESSAGES + OWN_MESSAGES:
                raise RuntimeError("a conversation is not what was appended")
            plain += sum(map(len, messages))
        return {"ratio": store.stats().disk_bytes / plain}


def index(warmup_s: float, seconds: float) -> Figures:
    """Resident bytes of one more object that lies on disk only, beside its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"hot_bytes": 1 << 20, "warm_bytes": 1 << 20, "dictionary_bytes": 0, "background": False}
        with _store(folder, **options) as store:
            source = random.Random(1)
            _fill(store, (source.randbytes(300) for _ in range(10_000)))
            gc.collect()
            before = _resident_bytes()
            _fill(store, (source.randbytes(300) for _ in range(INDEXED)))
            gc.collect()
            return {"idle_bytes": (_resident_bytes() - before) / INDEXED}


def _fill(store: ContentStore, values: Iterable[bytes]) -> None:
    for number, value in enumerate(values):
        store.retain([store.put(value)])
        if not number % 1000:
            store.flush()
            while store.maintain():
                pass
    store.flush()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def collection(warmup_s: float, seconds: float) -> Figures:
    """The longest that one step of collecting 100,000 objects stops its caller."""
    with tempfile.TemporaryDirectory() as folder, _store(folder, hot_bytes=256 << 20, background=False) as store:
        for number in range(GARBAGE):
            store.put(b"garbage %d" % number)
        store.collect()
        gc.collect()
        gc.freeze()  # as an engine does: the interpreter's own collector is not what is measured
        steps = store.collection()
        longest = 0.0
        done = False
        while not done:
            started = time.thread_time()
            done = steps.step()
            longest = max(longest, time.thread_time() - started)
        if steps.result.objects != GARBAGE:
            raise RuntimeError(f"{steps.result.objects} of {GARBAGE} objects were collected")
        return {"pause_p999_ms": longest * 1000}


async def pause(warmup_s: float, seconds: float) -> Figures:
    """How late a task is that wants to run every millisecond, while everything happens at once.

    On the loop: agents put, read, append to conversations, retain and release; collections in steps. In a thread, as
    a committer does: flushes. In the store's own: demotion, dictionaries, compaction. Budgets are so small that
    content moves all the time.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = {"hot_bytes": 4 << 20, "warm_bytes": 4 << 20, "segment_bytes": 8 << 20}
        with _store(folder, **options) as store:
            async with tuned_collector(lambda: store.stats().puts):
                return await _pause(store, warmup_s, seconds)


async def _pause(store: ContentStore, warmup_s: float, seconds: float) -> Figures:
    loop = asyncio.get_running_loop()
    begin = loop.time() + warmup_s
    end = begin + seconds
    late: list[float] = []
    text, chains, source = Text(3), Chains(store), random.Random(3)
    messages = [text.message() for _ in range(5_000)]
    heads: list[bytes | None] = [None] * 200

    async def beat() -> None:
        while (now := loop.time()) < end:
            await asyncio.sleep(_BEAT_SECONDS)
            if now >= begin:
                late.append(loop.time() - now - _BEAT_SECONDS)

    async def agents() -> None:
        number = 0
        while loop.time() < end:
            for _ in range(5):
                number += 1
                at = source.randrange(len(heads))
                old = heads[at]
                new = chains.append(old, messages[number % len(messages)] + b"%d" % number)
                store.update([new], [old] if old else [])
                heads[at] = new
                chains.messages(heads[source.randrange(len(heads))], last=10)
                if source.random() < 0.01 and new is not None:
                    store.release([new])
                    heads[at] = None
            await asyncio.sleep(0.0005)

    async def collector() -> None:
        while loop.time() < end:
            steps = store.collection()
            while not steps.step():
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)

    async def committer() -> None:
        while loop.time() < end:
            await asyncio.to_thread(store.flush)
            await asyncio.sleep(0.002)

    await asyncio.gather(beat(), agents(), collector(), committer())
    late.sort()
    return {"pause_p999_ms": late[len(late) * 999 // 1000] * 1000}


_LOADS: dict[str, Callable[[float, float], Figures]] = {
    "known": known,
    "hot": hot,
    "warm": warm,
    "conversations": conversations,
    "index": index,
    "collection": collection,
}


async def measure(what: str, warmup_s: float, seconds: float) -> Figures:
    """Figures of one load."""
    return await pause(warmup_s, seconds) if what == "pause" else _LOADS[what](warmup_s, seconds)


def codecs() -> None:
    """Prints microseconds to pack and unpack one object, and the ratio."""
    import lz4.block
    import zstandard

    for size in (256, 1024, 4096, 16_384):
        text = Text(4)
        objects = [text.object(size) for _ in range(500)]
        samples = [text.object(size) for _ in range(min(500, 2_000_000 // size))]
        trained = zstandard.train_dictionary(64 << 10, [*samples], level=3)
        rows: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
            "lz4": (lz4.block.compress, lz4.block.decompress),
            "zstd 1": (zstandard.ZstdCompressor(level=1).compress, zstandard.ZstdDecompressor().decompress),
            "zstd 3": (zstandard.ZstdCompressor(level=3).compress, zstandard.ZstdDecompressor().decompress),
            "zstd 3, dictionary": (
                zstandard.ZstdCompressor(level=3, dict_data=trained).compress,
                zstandard.ZstdDecompressor(dict_data=trained).decompress,
            ),
        }
        for name, (pack, unpack) in rows.items():
            packed = [pack(one) for one in objects]
            pack_us, unpack_us = 1e6 / _rate(pack, objects, 0.3), 1e6 / _rate(unpack, packed, 0.3)
            ratio = sum(map(len, objects)) / sum(map(len, packed))
            print(f"{size:6} bytes  {name:20} pack {pack_us:6.1f} us  unpack {unpack_us:5.1f} us  ratio {ratio:.2f}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--codecs"]:
        codecs()
    else:
        asyncio.run(child.obey({"measure": measure}))
