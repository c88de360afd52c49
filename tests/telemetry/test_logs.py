"""The engine's log: forms, levels, trace context, secrets, kept lines and followers."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
from typing import Any

import pytest

from amx_server.core.clock import ManualClock
from amx_server.core.config import LoggingConfig
from amx_server.telemetry import logs
from amx_server.telemetry.logs import REDACTED, EngineLog, get_logger, parse_traceparent, redact, trace_context

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def engine_log(stream: io.StringIO | None = None, **config: Any) -> EngineLog:
    return EngineLog(LoggingConfig(**config), stream if stream is not None else io.StringIO(), ManualClock())


def last(stream: io.StringIO) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(stream.getvalue().splitlines()[-1])
    return line


def test_json_line_has_time_level_event_and_facts() -> None:
    stream = io.StringIO()
    engine_log(stream).logger.info("link_opened", agents=2, link_id="a", labels={"tier": "gold"})
    line = stream.getvalue()
    assert line.startswith('{"timestamp":"2023-11-14T22:13:20.000Z","level":"info","event":"link_opened"')
    assert last(stream)["agents"] == 2
    assert last(stream)["labels"] == {"tier": "gold"}


def test_console_is_chosen_on_a_terminal_and_coloured_there_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    engine_log(terminal).logger.info("link_opened")
    assert "\x1b[" in terminal.getvalue()
    piped = io.StringIO()
    engine_log(piped, format="console").logger.info("link_opened", a=1)
    assert "\x1b[" not in piped.getvalue()
    assert "link_opened" in piped.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    engine_log(plain).logger.info("link_opened")
    assert "\x1b[" not in plain.getvalue()


def test_lines_below_the_level_are_neither_written_nor_kept() -> None:
    stream = io.StringIO()
    log = engine_log(stream, level="warning")
    log.logger.info("quiet")
    log.logger.warning("loud")
    assert [entry.event for entry in log.recent(level="debug")] == ["loud"]
    assert len(stream.getvalue().splitlines()) == 1


def test_exception_brings_its_traceback() -> None:
    stream = io.StringIO()
    log = engine_log(stream)
    try:
        raise ValueError("broken")
    except ValueError:
        log.logger.exception("commit_failed")
    assert last(stream)["level"] == "error"
    assert "ValueError: broken" in last(stream)["exception"]


def test_trace_context_of_the_task_and_of_the_line_is_added() -> None:
    stream = io.StringIO()
    log = engine_log(stream)
    with trace_context(f"00-{TRACE}-{SPAN}-01"):
        log.logger.info("inside")
    assert (last(stream)["trace_id"], last(stream)["span_id"]) == (TRACE, SPAN)
    log.logger.info("outside")
    assert "trace_id" not in last(stream)
    log.logger.info("given", traceparent=f"00-{TRACE}-{SPAN}-00")
    assert last(stream)["trace_id"] == TRACE
    assert "traceparent" not in last(stream)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-x",
    ],
)
def test_traceparent_that_is_none_is_ignored(text: str) -> None:
    assert parse_traceparent(text) is None


@pytest.mark.parametrize(
    "name", ["token", "access_token", "password", "api_key", "apiKey", "Authorization", "db-passwd"]
)
def test_fields_named_like_secrets_are_redacted(name: str) -> None:
    assert redact({"outer": [{name: "s3cr3t"}]}) == {"outer": [{name: REDACTED}]}


def test_names_that_only_resemble_secrets_are_kept() -> None:
    assert redact({"tokens_used": 5, "tokenizer": "bpe", "token": None}) == {
        "tokens_used": 5,
        "tokenizer": "bpe",
        "token": None,
    }


def test_secrets_inside_texts_are_redacted_everywhere() -> None:
    stream = io.StringIO()
    log = engine_log(stream)
    log.logger.warning("refused", header="Bearer abcdef123456", url="postgresql://amx:hunter2@db/amx")
    everything = stream.getvalue() + repr(log.recent())
    assert "abcdef123456" not in everything
    assert "hunter2" not in everything
    assert "postgresql://amx:" in everything


def test_kept_lines_are_bounded_and_filtered() -> None:
    log = engine_log(kept_lines=5)
    for number in range(10):
        log.logger.info("step", number=number, agent="A" if number % 2 else "B")
    log.logger.error("instance_failed", instance="A/7")
    assert [entry.fields.get("number") for entry in log.recent()] == ["6", "7", "8", "9", None]
    assert [entry.event for entry in log.recent(agent="A")] == ["step", "step", "instance_failed"]
    assert [entry.event for entry in log.recent(1)] == ["instance_failed"]
    assert len(log.recent(level="error")) == 1
    assert log.recent(0) == []


async def test_follower_gets_the_past_then_what_comes_without_gap() -> None:
    log = engine_log()
    log.logger.info("past")
    seen: list[str] = []

    async def follow() -> None:
        async for entry in log.follow(10):
            seen.append(entry.event)
            if entry.event == "stop":
                return

    follower = asyncio.create_task(follow())
    while not seen:
        await asyncio.sleep(0)
    thread = threading.Thread(target=lambda: log.logger.warning("from_thread"))
    thread.start()
    thread.join()
    log.logger.info("stop")
    await asyncio.wait_for(follower, 5)
    assert seen == ["past", "from_thread", "stop"]
    assert not log._listeners


async def test_slow_follower_loses_the_oldest_and_is_told_how_many() -> None:
    log = engine_log(kept_lines=10_000)
    entries = log.follow()
    first = asyncio.ensure_future(anext(entries))
    await asyncio.sleep(0)
    log.logger.info("first")
    assert (await first).event == "first"
    for number in range(logs.FOLLOWER_CAPACITY + 7):
        log.logger.info("flood", number=number)
    await asyncio.sleep(0)
    lost = await anext(entries)
    assert (lost.event, lost.fields) == ("log_lines_lost", {"count": "7"})
    assert (await anext(entries)).fields["number"] == "7"
    await entries.aclose()  # type: ignore[attr-defined]


def test_module_loggers_write_to_the_installed_log() -> None:
    first, second = io.StringIO(), io.StringIO()
    logger = get_logger("amx_server.runtime.links")
    with engine_log(first).installed():
        logger.info("one")
        with engine_log(second).installed():
            logger.bind(link_id="x").info("two")
        logger.info("three")
    assert [json.loads(line)["event"] for line in first.getvalue().splitlines()] == ["one", "three"]
    assert last(second)["component"] == "runtime.links"
    assert last(second)["link_id"] == "x"


async def test_tasks_log_to_the_engine_they_belong_to() -> None:
    first, second = io.StringIO(), io.StringIO()
    logger = get_logger("amx_server.runtime")
    go = asyncio.Event()

    async def engine(stream: io.StringIO, name: str) -> None:
        with engine_log(stream).installed():
            await go.wait()
            await asyncio.create_task(say(name))

    async def say(name: str) -> None:
        logger.info(name)

    tasks = [asyncio.create_task(engine(first, "a")), asyncio.create_task(engine(second, "b"))]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    assert last(first)["event"] == "a"
    assert last(second)["event"] == "b"


def test_before_any_engine_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("amx_server.x").info("unheard")
    get_logger("amx_server.x").warning("heard")
    error = capsys.readouterr().err
    assert "heard" in error
    assert "unheard" not in error


def test_log_that_cannot_be_written_does_not_raise() -> None:
    stream = io.StringIO()
    log = engine_log(stream)
    stream.close()
    log.logger.info("still_kept")
    assert log.recent()[0].event == "still_kept"


def test_values_that_cannot_be_encoded_are_logged_somehow() -> None:
    stream = io.StringIO()
    log = engine_log(stream)
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    log.logger.info("odd", cyclic=cyclic, surrogate="\ud800", thing=object(), raw=b"\xff", keys={(1, 2): 3})
    assert last(stream)["event"] == "odd"
    assert log.recent()[0].fields["cyclic"] == "[unprintable]"


def test_what_is_kept_is_unicode_so_that_it_can_be_sent() -> None:
    log = engine_log()
    log.logger.info("half a \ud83d", **{"key \ud800": "half a \ud83d", "whole": "Grüße 😀"})
    entry = log.recent()[0]
    assert entry.event == "half a \\ud83d"
    assert entry.fields == {"key \\ud800": "half a \\ud83d", "whole": "Grüße 😀"}


def test_long_texts_are_cut() -> None:
    log = engine_log()
    log.logger.info("document", text="x" * 100_000)
    assert len(log.recent()[0].fields["text"]) < 20_000


def test_standard_logging_of_libraries_lands_here() -> None:
    log = engine_log()
    with log.standard_logging(logging.INFO):
        logging.getLogger("some.library").warning("careful: %s", "thin ice")
        logging.getLogger("some.library").info("100%")
        logging.getLogger("some.library").debug("chatter")
    logging.getLogger("some.library").warning("after")
    assert [(entry.level, entry.event) for entry in log.recent()] == [
        ("warning", "careful: thin ice"),
        ("info", "100%"),
    ]
    assert log.recent()[0].fields == {"logger": "some.library"}
    assert logging.getLogger().level == logging.WARNING


def test_lines_of_an_agent_are_about_it() -> None:
    log = engine_log()
    facts = {"agent": "Clerk", "key": "7", "invocation_id": "i", "attempt": 2, "traceparent": f"00-{TRACE}-{SPAN}-01"}
    with log.standard_logging(logging.INFO):
        logging.LoggerAdapter(logging.getLogger("Clerk"), facts).info("filed")
        logging.getLogger("some.library").info("nobody's", extra={"agent": "", "other": "x"})
    assert [(entry.event, entry.fields) for entry in log.recent(agent="Clerk")] == [
        (
            "filed",
            {
                "logger": "Clerk",
                "agent": "Clerk",
                "key": "7",
                "invocation_id": "i",
                "attempt": "2",
                "trace_id": TRACE,
                "span_id": SPAN,
            },
        )
    ]
    assert log.recent()[1].fields == {"logger": "some.library"}


def test_levels_between_ours_are_the_lower_one() -> None:
    log = engine_log(level="debug")
    with log.standard_logging(1):
        for level in (5, 25, 60):
            logging.getLogger("some.library").log(level, "said at %d", level)
    assert [(entry.level, entry.event) for entry in log.recent(level="debug")] == [
        ("debug", "said at 5"),
        ("info", "said at 25"),
        ("critical", "said at 60"),
    ]


def test_engine_that_logs_has_not_loaded_rich() -> None:
    code = "import sys, amx_server.telemetry.logs; assert 'rich.traceback' not in sys.modules; import rich.console"
    subprocess.run([sys.executable, "-c", code], check=True)
