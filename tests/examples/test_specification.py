"""The two programs of the specification do what they say, with the services they name on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("boto3", reason="the examples' packages are not installed: pip install 'amx-engine[examples]'")

import aiohttp
import psycopg2

from amx_engine import AmxEngine
from examples.specification import services
from examples.specification.__main__ import FOLDER, ROOT, run_program
from examples.specification.data_ingestion import DataIngestionPipeline
from examples.specification.exports import daily_exports, fill_bucket
from examples.specification.sentiment_analysis import SentimentAnalysisAgent

pytestmark = pytest.mark.process

LOVE = "I love using AIMatrix! It makes development so much easier."
CONFIG = {"aws": {"access_key": "local", "secret_key": "local"}}


@pytest.fixture(autouse=True)
def _path_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes find the engine and the SDK where this one does."""
    paths = [str(ROOT), str(ROOT / "server"), str(ROOT / "sdk-python"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))


@pytest.fixture(scope="module")
def postgres() -> Iterator[services.Environment]:
    with contextlib.ExitStack() as stack:
        try:
            environment = stack.enter_context(services.postgres())
        except services.ServiceMissing as missing:
            pytest.skip(str(missing))
        yield environment


@pytest.fixture
def storage() -> Iterator[services.Environment]:
    with services.s3() as environment:
        yield environment


@pytest.fixture
def search() -> Iterator[services.Environment]:
    with services.search_engine() as environment:
        yield environment


def rows_of(environment: services.Environment) -> list[tuple[Any, ...]]:
    """What the sentiment agent has written, oldest first."""
    login = {"user": "amx_user", "password": "secure_password", "dbname": "analytics"}
    analytics = contextlib.closing(psycopg2.connect(host="localhost", port=environment["PGPORT"], **login))
    with analytics as connection, connection.cursor() as cursor:
        cursor.execute("SELECT sentiment_label, confidence, text_length FROM sentiment_analysis ORDER BY id")
        return list(cursor.fetchall())


@contextlib.asynccontextmanager
async def hosting(agent: Any) -> AsyncIterator[AmxEngine]:
    async with AmxEngine.builder().with_config(CONFIG).embedded().with_agent(agent).build() as engine:
        yield engine


# --- the sentiment agent ---------------------------------------------------------------------------------------------


def test_sentiment_program_prints_what_it_found_and_stores_it(postgres: services.Environment) -> None:
    before = len(rows_of(postgres))
    done = run_program("sentiment_analysis", postgres, capture=True)
    assert done.returncode == 0, done.stderr
    assert "'label': 'positive'" in done.stdout
    (label, confidence, length) = rows_of(postgres)[before]
    assert label == "positive"
    assert confidence > 0.8
    assert length == len(LOVE)


@pytest.fixture
def sentiment_environment(postgres: services.Environment, monkeypatch: pytest.MonkeyPatch) -> services.Environment:
    monkeypatch.syspath_prepend(str(FOLDER / "stand_ins"))
    monkeypatch.setenv("PGPORT", postgres["PGPORT"])
    return postgres


async def test_sentiment_of_a_text_seen_before_comes_from_memory(sentiment_environment: services.Environment) -> None:
    before = len(rows_of(sentiment_environment))
    async with hosting(SentimentAnalysisAgent) as engine:
        first = await engine.send_message("SentimentAnalysisAgent", {"text": "This is terrible."})
        again = await engine.send_message("SentimentAnalysisAgent", {"text": "This is terrible."})
        cache = await engine.memory("SentimentAnalysisAgent").get("sentiment_cache")
    assert first.is_success
    assert first.data["label"] == "negative"
    assert again.data == first.data
    assert again.metadata == {"from_cache": True}
    assert list(cache.values()) == [first.data]
    assert len(rows_of(sentiment_environment)) == before + 1


async def test_sentiment_of_no_text_is_an_error_result(sentiment_environment: services.Environment) -> None:
    async with hosting(SentimentAnalysisAgent) as engine:
        result = await engine.send_message("SentimentAnalysisAgent", {})
    assert result.is_error
    assert result.message == "No text provided for analysis"


async def test_sentiment_without_a_database_is_an_error_result(
    sentiment_environment: services.Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    async with hosting(SentimentAnalysisAgent) as engine:
        result = await engine.send_message("SentimentAnalysisAgent", {"text": "Fine."})
    assert result.is_error
    assert result.message.startswith("Analysis failed: ")


async def test_cleanup_drops_entries_older_than_a_day(sentiment_environment: services.Environment) -> None:
    old = {"label": "neutral", "analyzed_at": "2020-01-01T00:00:00"}
    new = {"label": "neutral", "analyzed_at": "2999-01-01T00:00:00"}
    async with hosting(SentimentAnalysisAgent) as engine:
        memory = engine.memory("SentimentAnalysisAgent")
        await engine.send_message("SentimentAnalysisAgent", {"text": "Good."})
        await memory.put("sentiment_cache", old, item=1)
        await memory.put("sentiment_cache", new, item=2)
        await engine.send_message("SentimentAnalysisAgent", {}, handler="cleanup_old_cache_entries")
        cache = await memory.get("sentiment_cache")
    assert 1 not in cache
    assert cache[2] == new
    assert len(cache) == 2


# --- the ingestion pipeline ------------------------------------------------------------------------------------------


async def documents(environment: services.Environment) -> list[dict[str, Any]]:
    """Everything in the index that the pipeline writes to."""
    url = environment["ELASTICSEARCH_URL"] + "/financial_transactions/_search"
    async with aiohttp.ClientSession() as session, session.post(url, json={"size": 10_000}) as response:
        assert response.status == 200, await response.text()
        return [hit["_source"] for hit in (await response.json())["hits"]["hits"]]


def test_ingestion_program_indexes_every_transaction_once_and_clean(
    storage: services.Environment, search: services.Environment
) -> None:
    fill_bucket(storage)
    done = run_program("data_ingestion", {**storage, **search}, capture=True)
    assert done.returncode == 0, done.stderr
    exported = {row["transaction_id"]: row for rows in daily_exports().values() for row in rows}
    assert f"'loaded_count': {len(exported)}" in done.stdout
    found = asyncio.run(documents(search))
    assert Counter(one["transaction_id"] for one in found) == Counter(exported.keys())
    for one in found:
        row = exported[one["transaction_id"]]
        moment = datetime.fromisoformat(row["timestamp"])
        assert one["amount"] == float(row["amount"])
        assert one["category"] == row["category"].strip().lower()
        assert one["is_weekend"] is (moment.weekday() >= 5)
        assert one["year_month"] == "2025-03"
        assert datetime.fromisoformat(one["timestamp"]) == moment.replace(tzinfo=UTC)


# The specification's program uses what pandas 3 announces to drop in its fourth version.
ignore_pandas = pytest.mark.filterwarnings("ignore:Series.dt.weekday")


@pytest.fixture
def services_of_ingestion(
    storage: services.Environment, search: services.Environment, monkeypatch: pytest.MonkeyPatch
) -> services.Environment:
    for name, value in {**storage, **search}.items():
        monkeypatch.setenv(name, value)
    return {**storage, **search}


async def test_ingestion_without_its_bucket_alerts_and_returns_nothing(
    services_of_ingestion: services.Environment,
) -> None:
    async with (
        hosting(DataIngestionPipeline) as engine,
        engine.subscribe("alerts.data-engineering", "severity = high") as alerts,
    ):
        result = await engine.send_message("DataIngestionPipeline", {})
        async with asyncio.timeout(10):
            alert = await anext(alerts)
    assert result.data is None
    assert "data-lake-raw" in alert.content["message"]


@ignore_pandas
async def test_ingestion_without_a_search_engine_returns_what_it_had(
    services_of_ingestion: services.Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_bucket(services_of_ingestion)
    monkeypatch.setenv("ELASTICSEARCH_URL", "http://127.0.0.1:1")
    async with hosting(DataIngestionPipeline) as engine:
        result = await engine.send_message("DataIngestionPipeline", {})
    assert result.data["transform_data"]["record_count"] == sum(
        len({row["transaction_id"] for row in rows}) for rows in daily_exports().values()
    )


# --- the stand-ins ---------------------------------------------------------------------------------------------------


def test_lexicon_tells_negation_from_praise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(FOLDER) / "stand_ins"))
    from transformers import pipeline

    classify = pipeline("sentiment-analysis", model="any")
    labels = [one["label"] for one in classify(["A great tool.", "Not a great tool.", "A tool."])]
    assert labels == ["positive", "negative", "neutral"]
    with pytest.raises(KeyError, match="translation"):
        pipeline("translation")


async def test_search_engine_finds_what_was_indexed(search: services.Environment) -> None:
    lines = (
        '{"index":{"_id":"a"}}\n{"city":"New York","size":8}\n'
        '{"index":{"_id":"b"}}\n{"city":"York","size":1}\n'
        '{"create":{"_id":"a"}}\n{"city":"again"}\n'
        '{"index":{}}\nno json\n'
    )
    queries = {
        "match": {"match": {"city": "york"}},
        "term": {"term": {"city.keyword": "York"}},
        "range": {"range": {"size": {"gte": 2}}},
        "bool": {"bool": {"must": [{"match": {"city": "york"}}], "must_not": {"term": {"size": 8}}}},
    }
    found = {}
    url = search["ELASTICSEARCH_URL"]
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/places/_bulk", data=lines) as response:
            answer = await response.json()
        for name, query in queries.items():
            async with session.post(f"{url}/places/_search", json={"query": query}) as response:
                found[name] = [hit["_id"] for hit in (await response.json())["hits"]["hits"]]
        async with session.post(f"{url}/nowhere/_search", json={}) as response:
            assert response.status == 404
    assert answer["errors"] is True
    assert [next(iter(item.values()))["status"] for item in answer["items"]] == [201, 201, 409, 400]
    assert found == {"match": ["a", "b"], "term": ["b"], "range": ["a"], "bool": ["b"]}
