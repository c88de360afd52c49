"""Connectors, against servers that really store what they are sent."""

from __future__ import annotations

import builtins
import json
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from amx_engine import AmxError, InvalidInput
from amx_engine.connectors import ElasticsearchConnector, S3Connector
from amx_engine.connectors import _elasticsearch as module


class Documents:
    """The parts of Elasticsearch's interface that the connector uses, over a dict."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.requests: list[web.Request] = []
        self.status = 200

    async def bulk(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        if self.status != 200:
            return web.Response(status=self.status, text="no")
        assert request.content_type == "application/x-ndjson"
        lines = (await request.text()).splitlines()
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            id = json.loads(action)["index"].get("_id") or f"made-{len(self.documents)}"
            fields = json.loads(document)
            if fields.get("amount") == "many":
                error = {"type": "mapper_parsing_exception", "reason": "failed to parse field [amount]"}
                items.append({"index": {"_id": id, "status": 400, "error": error}})
                continue
            self.documents[id] = fields
            items.append({"index": {"_id": id, "status": 201}})
        return web.json_response({"errors": False, "items": items})

    async def search(self, request: web.Request) -> web.Response:
        wanted = (await request.json())["query"].get("term", {})
        hits = [
            {"_id": id, "_source": fields}
            for id, fields in self.documents.items()
            if all(fields.get(name) == value for name, value in wanted.items())
        ]
        return web.json_response({"hits": {"hits": hits}})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Documents, str]]:
    documents = Documents()
    app = web.Application()
    app.add_routes([web.post("/sales/_bulk", documents.bulk), web.post("/sales/_search", documents.search)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield documents, f"{host}:{port}"
    await runner.cleanup()


async def test_records_are_written_and_found(server: tuple[Documents, str]) -> None:
    documents, address = server
    connector = ElasticsearchConnector(hosts=[address], index_name="sales")
    records: list[dict[Any, Any]] = [
        {"id": 1, "at": datetime(2026, 1, 31, tzinfo=UTC), "day": date(2026, 1, 31), "price": Decimal("1.5")},
        {"id": 2, "nothing": float("nan"), "many": {1, 2}, 3: "three", "odd": range(2)},
    ]
    outcome = await connector.bulk_index(iter(records), id_field="id")
    assert outcome == {"items_inserted": 2, "errors": [], "error_count": 0}
    assert documents.documents == {
        "1": {"id": 1, "at": "2026-01-31T00:00:00Z", "day": "2026-01-31", "price": "1.5"},
        "2": {"id": 2, "nothing": None, "many": [1, 2], "3": "three", "odd": "range(0, 2)"},
    }
    await connector.bulk_index(records, id_field="id")
    assert len(documents.documents) == 2
    assert await connector.search({"term": {"day": "2026-01-31"}}) == [{"_id": "1", **documents.documents["1"]}]


async def test_rows_of_tables_are_written(server: tuple[Documents, str]) -> None:
    pandas = pytest.importorskip("pandas")
    documents, address = server
    frame = pandas.DataFrame({"timestamp": pandas.to_datetime(["2026-01-31T10:00:00", None]), "amount": [1.5, None]})
    frame["month"] = frame["timestamp"].dt.to_period("M")
    frame["weekend"] = frame["timestamp"].dt.day_of_week >= 5
    await ElasticsearchConnector([address], "sales").bulk_index(frame.to_dict("records"))
    assert list(documents.documents.values()) == [
        {"timestamp": "2026-01-31T10:00:00Z", "amount": 1.5, "month": "2026-01", "weekend": True},
        {"timestamp": None, "amount": None, "month": None, "weekend": False},
    ]


async def test_a_refused_record_is_reported_and_the_others_are_written(server: tuple[Documents, str]) -> None:
    documents, address = server
    outcome = await ElasticsearchConnector([address], "sales").bulk_index([{"amount": 1}, {"amount": "many"}])
    assert outcome["items_inserted"] == 1 and outcome["error_count"] == 1
    assert outcome["errors"][0]["position"] == 1 and "amount" in outcome["errors"][0]["reason"]
    assert len(documents.documents) == 1


async def test_many_records_go_in_several_requests(
    server: tuple[Documents, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, address = server
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1000)
    outcome = await ElasticsearchConnector([address], "sales").bulk_index({"n": n, "pad": "x" * 90} for n in range(50))
    assert outcome["items_inserted"] == 50 and len(documents.requests) > 5
    assert sorted(one["n"] for one in documents.documents.values()) == list(range(50))


async def test_the_next_host_is_tried_and_the_environment_overrides(
    server: tuple[Documents, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, address = server
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        assert (await ElasticsearchConnector([nobody, address], "sales").bulk_index([{"a": 1}]))["items_inserted"] == 1
        with pytest.raises(AmxError) as caught:
            await ElasticsearchConnector([nobody], "sales").bulk_index([{"a": 1}])
        assert caught.value.reason == "STORE_UNAVAILABLE" and caught.value.retryable
        monkeypatch.setenv("ELASTICSEARCH_URL", f"http://{address}/")
        await ElasticsearchConnector([nobody], "sales", api_key="secret").bulk_index([{"a": 1}])
    assert documents.requests[-1].headers["Authorization"] == "ApiKey secret"


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (401, "STORE_ACCESS_DENIED", False),
        (404, "INDEX_NOT_FOUND", False),
        (400, "STORE_FAILED", False),
        (503, "STORE_UNAVAILABLE", True),
    ],
)
async def test_refusals_are_named(server: tuple[Documents, str], status: int, reason: str, retryable: bool) -> None:
    documents, address = server
    documents.status = status
    with pytest.raises(AmxError) as caught:
        await ElasticsearchConnector([address], "sales").bulk_index([{"a": 1}])
    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)


async def test_bad_arguments_are_named() -> None:
    with pytest.raises(InvalidInput, match="at least one host"):
        ElasticsearchConnector([], "sales")
    with pytest.raises(InvalidInput, match="index_name"):
        ElasticsearchConnector()
    with pytest.raises(InvalidInput, match=r"records\[0\] has no 'id'"):
        await ElasticsearchConnector(["localhost:1"], "sales").bulk_index([{"a": 1}], id_field="id")


@pytest.fixture
def store() -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_objects_are_written_listed_and_read(store: str) -> None:
    import boto3

    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=store, **keys).create_bucket(Bucket="raw")
    connector = S3Connector(**keys, endpoint_url=store)
    for number in range(3):
        await connector.put_object("raw", f"daily/{number}.json", f"[{number}]", content_type="application/json")
    await connector.put_object(bucket="raw", key="other", data=b"\x00")
    assert await connector.list_objects(bucket="raw", prefix="daily/") == [
        f"daily/{number}.json" for number in range(3)
    ]
    assert await connector.get_object(bucket="raw", key="daily/1.json") == b"[1]"
    for work in (connector.get_object("raw", "missing"), connector.list_objects("missing")):
        with pytest.raises(AmxError) as caught:
            await work
        assert caught.value.reason == "OBJECT_NOT_FOUND" and not caught.value.retryable


async def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name in ("boto3", "aiohttp"):
            raise ImportError(name)
        return really(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AmxError, match=r"amx-engine-python\[s3\]") as caught:
        await S3Connector().list_objects("raw")
    assert caught.value.reason == "CONNECTOR_EXTRA_MISSING"
    with pytest.raises(AmxError, match=r"amx-engine-python\[elasticsearch\]"):
        await ElasticsearchConnector(index_name="sales").search()
