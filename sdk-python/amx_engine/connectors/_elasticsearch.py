"""Documents in Elasticsearch or OpenSearch, over their HTTP interface."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from amx_engine import _values
from amx_engine._errors import INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNKNOWN, AmxError, InvalidInput
from amx_engine.connectors._errors import extra_missing, store_unavailable

if TYPE_CHECKING:
    import aiohttp

_CHUNK_BYTES = 5 * 1024 * 1024
_MAX_REPORTED_ERRORS = 100
_BUSY = frozenset({429, 502, 503, 504})


class ElasticsearchConnector:
    """Writes to and searches one index.

    hosts: addresses, tried in order; without a scheme they are http. ELASTICSEARCH_URL in the environment (addresses
    separated by commas) replaces them. api_key or (username, password): credentials. timeout: of one HTTP request.
    Raises AmxError CONNECTOR_EXTRA_MISSING at the first call without aiohttp; STORE_UNAVAILABLE (retryable) if no host
    answers; STORE_ACCESS_DENIED, INDEX_NOT_FOUND or STORE_FAILED with what the server said.
    """

    def __init__(
        self,
        hosts: Sequence[str] | str = ("localhost:9200",),
        index_name: str = "",
        *,
        api_key: str = "",
        username: str = "",
        password: str = "",
        timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        override = os.environ.get("ELASTICSEARCH_URL", "")
        addresses = override.split(",") if override else [hosts] if isinstance(hosts, str) else list(hosts)
        self._hosts = [_url(address.strip()) for address in addresses if address.strip()]
        if not self._hosts:
            raise InvalidInput("ElasticsearchConnector needs at least one host, e.g. localhost:9200", pointer="hosts")
        if not index_name or "/" in index_name:
            raise InvalidInput(f"index_name is {index_name!r}; give the name of an index", pointer="index_name")
        self._index = index_name
        self._api_key = api_key
        self._login = (username, password) if username else None
        self._timeout = timeout

    async def bulk_index(
        self, records: Iterable[Mapping[Any, Any]], id_field: str | None = None, *, refresh: bool = False
    ) -> dict[str, Any]:
        """Writes records as documents, in requests of at most 5 MiB.

        id_field: the member that is the document's id, which makes repeating harmless; without one the server gives
        ids. refresh: wait until a search finds them. Dates become RFC 3339, anything missing (NaN, NaT) null, other
        values what they print as. Returns {"items_inserted": count, "errors": [{"position", "id", "status", "type",
        "reason"}, ...], "error_count": count}, the first 100 errors. Raises AmxError if a request as a whole fails;
        what earlier ones wrote stays.
        """
        inserted = 0
        failures: list[dict[str, Any]] = []
        failed = 0
        parameters = {"refresh": "wait_for"} if refresh else {}
        async with self._session() as session:
            for start, body in _bulk_bodies(records, id_field):
                answer = await self._call(
                    session, "POST", f"/{self._index}/_bulk", body, "application/x-ndjson", parameters
                )
                for offset, item in enumerate(answer.get("items", ())):
                    outcome = next(iter(item.values()))
                    if int(outcome.get("status", 500)) < 300:
                        inserted += 1
                        continue
                    failed += 1
                    if len(failures) < _MAX_REPORTED_ERRORS:
                        failures.append(_bulk_error(start + offset, outcome))
        return {"items_inserted": inserted, "errors": failures, "error_count": failed}

    async def search(self, query: Mapping[str, Any] | None = None, size: int = 10) -> list[dict[str, Any]]:
        """Documents that match `query` (Elasticsearch's query language; all without one), each with its `_id`."""
        body = _values.encode({"query": query or {"match_all": {}}, "size": size})
        async with self._session() as session:
            answer = await self._call(session, "POST", f"/{self._index}/_search", body, "application/json", {})
        return [{"_id": hit["_id"], **hit.get("_source", {})} for hit in answer["hits"]["hits"]]

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        try:
            import aiohttp
        except ImportError:
            raise extra_missing("ElasticsearchConnector", "aiohttp", "elasticsearch") from None
        headers = {"Authorization": f"ApiKey {self._api_key}"} if self._api_key else {}
        auth = aiohttp.BasicAuth(*self._login) if self._login else None
        timeout = aiohttp.ClientTimeout(total=self._timeout.total_seconds())
        async with aiohttp.ClientSession(headers=headers, auth=auth, timeout=timeout) as session:
            yield session

    async def _call(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        body: bytes,
        content_type: str,
        parameters: dict[str, str],
    ) -> dict[str, Any]:
        import aiohttp

        trouble: AmxError | None = None
        for host in self._hosts:
            what = f"{method} {host}{path}"
            try:
                async with session.request(
                    method, host + path, data=body, params=parameters, headers={"Content-Type": content_type}
                ) as response:
                    text = await response.read()
                    if response.status in _BUSY:
                        trouble = store_unavailable(what, OSError(f"the server answered {response.status}"))
                        continue
                    if response.status >= 300:
                        raise _refused(what, response.status, text)
                    answer: dict[str, Any] = _values.decode(text)
                    return answer
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                trouble = store_unavailable(what, error)
        assert trouble is not None
        raise trouble


def _url(address: str) -> str:
    return (address if "://" in address else f"http://{address}").rstrip("/")


def _refused(what: str, status: int, text: bytes) -> AmxError:
    message = f"{what}: the server answered {status}: {text[:500].decode('utf-8', 'replace')}"
    if status in (401, 403):
        return AmxError(PERMISSION_DENIED, "STORE_ACCESS_DENIED", message)
    if status == 404:
        return AmxError(NOT_FOUND, "INDEX_NOT_FOUND", message)
    return AmxError(INVALID_ARGUMENT if status < 500 else UNKNOWN, "STORE_FAILED", message, retryable=status >= 500)


def _bulk_error(position: int, outcome: dict[str, Any]) -> dict[str, Any]:
    error = outcome.get("error") or {}
    if not isinstance(error, dict):
        error = {"reason": str(error)}
    return {
        "position": position,
        "id": outcome.get("_id"),
        "status": outcome.get("status"),
        "type": error.get("type", "unknown"),
        "reason": error.get("reason", ""),
    }


def _bulk_bodies(records: Iterable[Mapping[Any, Any]], id_field: str | None) -> Iterable[tuple[int, bytes]]:
    """(position of the first record, body) of bulk requests. Raises InvalidInput naming a record that cannot go."""
    lines: list[bytes] = []
    size = 0
    start = 0
    for position, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise InvalidInput(f"records[{position}] is no mapping but {record!r:.80}", pointer=f"[{position}]")
        action: dict[str, Any] = {}
        if id_field is not None:
            if record.get(id_field) is None:
                raise InvalidInput(
                    f"records[{position}] has no {id_field!r} to be its id", pointer=f"[{position}].{id_field}"
                )
            action["_id"] = str(record[id_field])
        line = _values.encode({"index": action}) + b"\n" + _values.encode(_document(record)) + b"\n"
        if lines and size + len(line) > _CHUNK_BYTES:
            yield start, b"".join(lines)
            lines, size, start = [], 0, position
        lines.append(line)
        size += len(line)
    if lines:
        yield start, b"".join(lines)


def _document(value: Any) -> Any:
    """`value` as a document: everything has a form here, unlike in messages, because tables hold anything."""
    if isinstance(value, Mapping):
        return {str(key): _document(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_document(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if type(value).__module__.startswith("numpy") and hasattr(value, "tolist"):
        return _document(value.tolist())
    try:
        return _values.to_plain(value)
    except _values.InvalidValue:
        return str(value)
