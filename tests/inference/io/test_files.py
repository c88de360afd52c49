"""Files: mapped, shared, the same object while unchanged and a new one after; what cannot be read says why."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from amx_server.core.errors import AmxError
from amx_server.inference.io import IoManager, Wait
from amx_server.inference.io.files import FileContent, Files

LARGE = b"0123456789abcdef" * 20_000


@asynccontextmanager
async def reading(**options: Any) -> AsyncIterator[tuple[IoManager, Files]]:
    files = Files(**options)
    async with IoManager() as io:
        await io.add(files)
        yield io, files


def mappings() -> list[str]:
    return Path("/proc/self/maps").read_text().splitlines()


def replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)


async def test_large_file_is_mapped_and_small_one_copied(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "empty").write_bytes(b"")
    async with reading() as (io, files):
        large, small, empty = [await io.call(files.read(tmp_path / name)) for name in ("large", "small", "empty")]
        assert large.mapped and large.view == LARGE and large.view.readonly and len(large) == len(LARGE)
        assert not small.mapped and bytes(small.view) == b"small" and small.text() == "small"
        assert not empty.mapped and bytes(empty.view) == b"" and len(empty) == 0
        assert large.address() == blake3(LARGE).digest()
        large.prefetch()


async def test_unchanged_file_is_the_same_object_and_changed_one_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    async with reading() as (io, files):
        first = await io.call(files.read(path))
        assert await io.call(files.read(path)) is first and files.hits == 1
        replace(path, LARGE[::-1])
        second = await io.call(files.read(path))
        assert second.view == LARGE[::-1] and first.view == LARGE  # what was read stays what it was
        os.utime(path, ns=(1, 1))
        assert await io.call(files.read(path)) is not second
        assert files.kept_bytes == len(LARGE)


async def test_file_that_is_read_by_many_at_once_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    async with reading() as (io, files):
        contents = await asyncio.gather(*(io.call(files.read(str(path))) for _ in range(100)))
        assert {id(content) for content in contents} == {id(contents[0])}
        assert io.stats().coalesced == 99 and io.stats().providers["files"].requests == 1


async def test_file_within_its_ttl_is_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    async with reading() as (io, files):
        first = await io.call(files.read(path, ttl=60))
        path.unlink()
        assert await io.call(files.read(path, ttl=60)) is first
        with pytest.raises(AmxError, match="there is no file"):
            await io.call(files.read(path))


async def test_kept_files_are_bounded_and_let_go(tmp_path: Path) -> None:
    async with reading(max_kept_files=3, max_kept_bytes=2 * len(LARGE)) as (io, files):
        for number in range(5):
            (tmp_path / str(number)).write_bytes(LARGE if number < 3 else b"x")
            await io.call(files.read(tmp_path / str(number)))
        assert list(files._kept) == [str(tmp_path / str(number)) for number in (2, 3, 4)]
        assert files.kept_bytes == len(LARGE) + 2
        gc.collect()
        mapped = [line for line in mappings() if str(tmp_path) in line]
        assert len(mapped) == 1, "what is not kept is not mapped any more"
    assert not any(isinstance(thing, FileContent) and thing.mapped for thing in gc.get_objects())


async def test_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    os.mkfifo(tmp_path / "pipe")
    async with reading(max_file_bytes=1000) as (io, files):
        for name, reason, words in (
            ("absent", "FILE_NOT_FOUND", "there is no file"),
            ("", "FILE_UNREADABLE", "not a regular file"),
            ("pipe", "FILE_UNREADABLE", "not a regular file"),
            ("large", "FILE_TOO_LARGE", "at most 1000 may be read"),
            ("a\0b", "FILE_UNREADABLE", "null"),
        ):
            with pytest.raises(AmxError, match=words) as raised:
                await io.call(files.read(tmp_path / name))
            assert raised.value.reason == reason


async def test_reading_is_confined_to_its_folders(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "file").write_bytes(b"in")
    (outside / "file").write_bytes(b"out")
    (inside / "link").symlink_to(outside / "file")
    (tmp_path / "inside-too").write_bytes(b"beside")
    async with reading(folders=[inside]) as (io, files):
        assert (await io.call(files.read(inside / "file"))).text() == "in"
        for path in (outside / "file", inside / ".." / "outside" / "file", inside / "link", tmp_path / "inside-too"):
            with pytest.raises(AmxError) as raised:
                await io.call(files.read(path))
            assert raised.value.reason == "FILE_DENIED" and str(inside) in raised.value.message


async def test_waits_for_files_are_accounted_as_such(tmp_path: Path) -> None:
    waits: list[Wait] = []
    ends: list[str] = []

    class Observer:
        def wait_began(self, wait: Wait) -> None:
            waits.append(wait)

        def wait_ended(self, wait: Wait, seconds: float, failure: str) -> None:
            ends.append(failure)

    async with IoManager(observer=Observer()) as io:
        files = Files()
        await io.add(files)
        with pytest.raises(AmxError):
            await io.call(files.read(tmp_path / "absent"))
        (tmp_path / "file").write_bytes(b"x")
        await io.call(files.read(tmp_path / "file"))
    assert [wait.reason for wait in waits] == ["file", "file"] and ends == ["FILE_NOT_FOUND", ""]
