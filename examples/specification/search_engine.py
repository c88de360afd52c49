"""A small search engine that speaks the part of Elasticsearch's HTTP interface that bulk indexing and searching need.

It keeps documents and an inverted index in memory, one process, nothing on disk. Run it:
`python -m examples.specification.search_engine --port 9200`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from aiohttp import web

Document = dict[str, Any]

_WORD = re.compile(r"\w+")


class BadRequest(Exception):
    """The caller said something that has no meaning here."""


class Index:
    """Documents by id, and for every field the ids by each word and each whole value that occurs in it."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self._words: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._values: dict[tuple[str, str], set[str]] = defaultdict(set)

    def put(self, document_id: str, document: Document) -> bool:
        """Writes a document; returns whether the id is new."""
        created = not self.remove(document_id)
        self.documents[document_id] = document
        for field, value in _fields(document):
            self._values[field, _text(value)].add(document_id)
            for word in _words(value):
                self._words[field, word].add(document_id)
        return created

    def remove(self, document_id: str) -> bool:
        """Removes a document; returns whether it was there."""
        document = self.documents.pop(document_id, None)
        if document is None:
            return False
        for field, value in _fields(document):
            self._values[field, _text(value)].discard(document_id)
            for word in _words(value):
                self._words[field, word].discard(document_id)
        return True

    def search(self, query: Document) -> set[str]:
        """Ids of the documents that satisfy `match_all`, `term`, `terms`, `match`, `ids`, `range` or `bool`."""
        if len(query) != 1:
            raise BadRequest(f"a query has one clause, and this has {len(query)}: {sorted(query)}")
        ((kind, body),) = query.items()
        if kind == "match_all":
            return set(self.documents)
        if kind == "ids":
            return set(body["values"]) & set(self.documents)
        if kind == "bool":
            return self._bool(body)
        if kind not in ("term", "terms", "match", "range"):
            raise BadRequest(f"this search engine does not know the query '{kind}'")
        ((field, wanted),) = body.items()
        if kind == "range":
            return {
                document_id
                for document_id, document in self.documents.items()
                if any(name == field and _in_range(value, wanted) for name, value in _fields(document))
            }
        if kind == "match":
            text = wanted["query"] if isinstance(wanted, dict) else wanted
            return set().union(*(self._words.get((field, word), set()) for word in _words(text)))
        values = wanted if kind == "terms" else [wanted["value"] if isinstance(wanted, dict) else wanted]
        return set().union(
            *(self._values.get((field.removesuffix(".keyword"), _text(value)), set()) for value in values)
        )

    def _bool(self, body: Document) -> set[str]:
        found = set(self.documents)
        for clause in [*_clauses(body.get("must")), *_clauses(body.get("filter"))]:
            found &= self.search(clause)
        if should := _clauses(body.get("should")):
            found &= set().union(*(self.search(clause) for clause in should))
        for clause in _clauses(body.get("must_not")):
            found -= self.search(clause)
        return found


class SearchEngine:
    """Indices by name, and the HTTP interface to them."""

    def __init__(self) -> None:
        self.indices: dict[str, Index] = {}

    def application(self) -> web.Application:
        """The HTTP application."""
        application = web.Application(client_max_size=64 << 20, middlewares=[_errors])
        application.router.add_get("/", self._about)
        for path in ("/_bulk", "/{index}/_bulk"):
            application.router.add_post(path, self._bulk)
            application.router.add_put(path, self._bulk)
        for path in ("/{index}/_search", "/{index}/_count"):
            application.router.add_get(path, self._search)
            application.router.add_post(path, self._search)
        application.router.add_post("/{index}/_refresh", self._refresh)
        application.router.add_put("/{index}/_doc/{id}", self._put)
        application.router.add_get("/{index}/_doc/{id}", self._get)
        application.router.add_delete("/{index}/_doc/{id}", self._delete)
        application.router.add_delete("/{index}", self._drop)
        return application

    async def _about(self, request: web.Request) -> web.Response:
        return _answer({"name": "search_engine", "version": {"number": "8.0.0"}, "tagline": "a stand-in"})

    async def _bulk(self, request: web.Request) -> web.Response:
        text = await request.text()
        if text and not text.endswith("\n"):
            raise BadRequest("the bulk request must be terminated by a newline [\\n]")
        lines = iter([line for line in text.split("\n") if line.strip()])
        items = [self._bulk_item(line, lines, request.match_info.get("index")) for line in lines]
        failed = any(outcome["status"] >= 400 for item in items for outcome in item.values())
        return _answer({"took": 0, "errors": failed, "items": items})

    def _bulk_item(self, line: str, rest: Iterator[str], default: str | None) -> Document:
        ((action, target),) = _json(line).items()
        if action not in ("index", "create", "delete"):
            raise BadRequest(f"this search engine does not know the bulk action '{action}'")
        name = target.get("_index") or default
        if not name:
            raise BadRequest("a bulk action names no index, and neither does the path")
        document_id = target.get("_id") or uuid.uuid4().hex
        outcome: Document = {"_index": name, "_id": document_id}
        index = self.indices.setdefault(name, Index())
        if action == "delete":
            return {action: outcome | {"status": 200 if index.remove(document_id) else 404}}
        try:
            document = json.loads(next(rest))
            if not isinstance(document, dict):
                raise ValueError("a document is a JSON object")
        except (StopIteration, ValueError) as error:
            return {action: outcome | {"status": 400, "error": {"type": "parse_exception", "reason": str(error)}}}
        if action == "create" and document_id in index.documents:
            reason = f"[{document_id}]: version conflict, document already exists"
            error_body = {"type": "version_conflict_engine_exception", "reason": reason}
            return {action: outcome | {"status": 409, "error": error_body}}
        created = index.put(document_id, document)
        return {action: outcome | {"status": 201 if created else 200, "result": "created" if created else "updated"}}

    async def _search(self, request: web.Request) -> web.Response:
        index = self._index(request)
        body = _json(await request.text() or "{}")
        found = sorted(index.search(body.get("query", {"match_all": {}})))
        if request.path.endswith("/_count"):
            return _answer({"count": len(found)})
        start, size = int(body.get("from", 0)), int(body.get("size", 10))
        name = request.match_info["index"]
        hits = [{"_index": name, "_id": one, "_source": index.documents[one]} for one in found[start : start + size]]
        return _answer({"took": 0, "hits": {"total": {"value": len(found), "relation": "eq"}, "hits": hits}})

    async def _refresh(self, request: web.Request) -> web.Response:
        self._index(request)
        return _answer({"_shards": {"total": 1, "successful": 1, "failed": 0}})

    async def _put(self, request: web.Request) -> web.Response:
        index = self.indices.setdefault(request.match_info["index"], Index())
        document_id = request.match_info["id"]
        created = index.put(document_id, _json(await request.text()))
        return _answer({"_id": document_id, "result": "created" if created else "updated"}, 201 if created else 200)

    async def _get(self, request: web.Request) -> web.Response:
        document_id = request.match_info["id"]
        document = self._index(request).documents.get(document_id)
        body: Document = {"_id": document_id, "found": document is not None}
        return _answer(body | ({"_source": document} if document is not None else {}), 200 if document else 404)

    async def _delete(self, request: web.Request) -> web.Response:
        found = self._index(request).remove(request.match_info["id"])
        return _answer({"result": "deleted" if found else "not_found"}, 200 if found else 404)

    async def _drop(self, request: web.Request) -> web.Response:
        self._index(request)
        del self.indices[request.match_info["index"]]
        return _answer({"acknowledged": True})

    def _index(self, request: web.Request) -> Index:
        name = request.match_info["index"]
        if name not in self.indices:
            raise web.HTTPNotFound(text=f"no such index [{name}]")
        return self.indices[name]


@web.middleware
async def _errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Every error in the shape that clients of the interface expect."""
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except web.HTTPException as error:
        status, kind, reason = error.status, "index_not_found_exception" if error.status == 404 else "error", error.text
    except (BadRequest, KeyError, ValueError, AttributeError, TypeError) as problem:
        status, kind, reason = 400, "parsing_exception", str(problem)
    return _answer({"error": {"type": kind, "reason": reason}, "status": status}, status)


def _answer(body: Document, status: int = 200) -> web.Response:
    headers = {"X-Elastic-Product": "Elasticsearch"}  # official clients talk to nothing else
    return web.json_response(body, status=status, headers=headers)


def _json(text: str) -> Document:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise BadRequest(f"expected a JSON object, got {type(value).__name__}")
    return value


def _clauses(clauses: Any) -> list[Document]:
    return [] if clauses is None else clauses if isinstance(clauses, list) else [clauses]


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value inside a document with its dotted path; lists give one entry for each member."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _fields(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner, path)
    elif value is not None:
        yield path, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _words(value: Any) -> Iterable[str]:
    return (word.lower() for word in _WORD.findall(_text(value)))


def _in_range(value: Any, bounds: Document) -> bool:
    checks = {
        "gt": lambda limit: value > limit,
        "gte": lambda limit: value >= limit,
        "lt": lambda limit: value < limit,
        "lte": lambda limit: value <= limit,
    }
    return all(checks[name](limit) for name, limit in bounds.items())


async def serve(port: int) -> None:
    """Serves on a loopback port, any free one for 0, until cancelled. Prints the port when it is ready."""
    runner = web.AppRunner(SearchEngine().application())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        print(f"search engine on port {runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9200)
    asyncio.run(serve(parser.parse_args().port))
