"""Requests as bytes: what goes with every request to one server is put together once."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from amx_server.core.version import VERSION
from amx_server.inference.io.http_decoding import ACCEPTED

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_TARGET = re.compile(r"[!$-;=?-Z\[\]_a-z~]*")
_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})  # say its length even where there is none
_REMEMBERED = 64


class Asked(Protocol):
    """What a request says."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def events(self) -> bool: ...


class Server:
    """Where requests go. host: as names are looked up; credentials in the address become a header."""

    __slots__ = ("_base", "_heads", "_headers", "host", "port", "secure")

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        """headers: sent with every request. Raises ValueError for an address or a header that is none."""
        parts = urlsplit(base_url)
        if not parts.hostname:
            raise ValueError(f"the address '{base_url}' names no host")
        self.secure = parts.scheme == "https"
        self.host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
        self.port = parts.port or (443 if self.secure else 80)
        self._base = parts.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        self._headers = {
            "host": f"{host}:{parts.port}" if parts.port else host,
            "accept": "*/*",
            "accept-encoding": ACCEPTED,
            "user-agent": f"amx-engine/{VERSION}",
        }
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        self._headers |= {name.lower(): value for name, value in headers.items()}
        self._heads: dict[tuple[str, str, str, bool], str] = {}
        _block(self._headers)

    def head(self, asked: Asked, length: int) -> bytes:
        """All that goes before the body of that many bytes. Raises ValueError for what cannot be sent as it is."""
        if asked.headers:
            head = self._lines(asked, self._with(asked))
        else:
            known = asked.method, asked.path, asked.content_type, asked.events
            found = self._heads.get(known)
            if found is None:
                found = self._lines(asked, self._default(asked.content_type, asked.events))
                if len(self._heads) < _REMEMBERED:
                    self._heads[known] = found
            head = found
        if length or asked.method in _WITH_CONTENT:
            return f"{head}Content-Length: {length}\r\n\r\n".encode()
        return f"{head}\r\n".encode()

    def _lines(self, asked: Asked, headers: Mapping[str, str]) -> str:
        """All but the length of its content and the empty line."""
        if not _NAME.fullmatch(asked.method):
            raise ValueError(f"the method '{asked.method}' is none")
        target = self._base + asked.path
        if not _TARGET.fullmatch(target):
            target = _quoted(target)
        return f"{asked.method} {target or '/'} HTTP/1.1\r\n{_block(headers)}"

    def _with(self, asked: Asked) -> dict[str, str]:
        headers = self._default(asked.content_type, asked.events)
        return headers | {name.lower(): value for name, value in asked.headers.items()}

    def _default(self, content_type: str, events: bool) -> dict[str, str]:
        headers = dict(self._headers)
        if content_type:
            headers["content-type"] = content_type
        if events:
            headers["accept"] = "text/event-stream"
        return headers


def _block(headers: Mapping[str, str]) -> str:
    lines: list[str] = []
    for name, value in headers.items():
        if name in ("content-length", "transfer-encoding"):
            continue  # how it travels is nothing to choose
        if not _NAME.fullmatch(name):
            raise ValueError(f"'{name}' cannot be the name of a header")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the value of the header '{name}' holds characters that end or break a line")
        lines.append(f"{name.title()}: {value}\r\n")
    return "".join(lines)


def _quoted(target: str) -> str:
    """As it may be sent: what is escaped stays so; a fragment is for the asker only."""
    return quote(target.partition("#")[0], safe="%/:?&=+$,;@!'()*~[]")
