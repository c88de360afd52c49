"""Every parser, fed with what nobody would write: it answers or refuses in its own words, and never anything else."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx.v1 import agent_pb2, link_pb2
from amx_engine._deadlines import Deadlines
from amx_engine._errors import InvalidInput
from amx_engine._protocol import LinkProtocol, ProtocolViolation
from amx_engine._values import decode
from amx_server.core.config import ConfigError, EngineConfig, load_config, parse_setting
from amx_server.core.errors import AmxError
from amx_server.runtime.cron import Cron, CronError
from amx_server.runtime.definitions import validate_definition
from amx_server.runtime.engine import Engine
from amx_server.runtime.filters import compile_filter
from amx_server.runtime.links import LinkConnection
from amx_server.runtime.schemas import schema_problem
from amx_server.runtime.timing import validate_schedule
from amx_server.runtime.topics import TopicIndex, parse_pattern, parse_topic
from amx_server.storage import open_store
from tests.fuzz.mutate import TEXTS, damaged, filled, noise
from tests.fuzz.test_engine_fuzzed import frame_of_odd_items

pytestmark = pytest.mark.fault

near_filter = st.text(alphabet="abc=!<>~()., 019'\"\\-innotexists&|\x00é", max_size=60)
near_topic = st.text(alphabet="ab.*>- \x00é", max_size=40)
near_cron = st.text(alphabet="0123456789*/-,LW#?@ adeilmnoprtuyJAN", max_size=40)
near_yaml = st.text(alphabet="grpc: hots[]{}&*!|>'\"%@`\n\t-?,#019${A:-}", max_size=120)
near_json = st.text(alphabet='{}[]":,0123456789eE+-.truefalsnNI\\u d8\x00é', max_size=80)


REFUSED = object()


def attempt(refusal: type[Exception], parse: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What `parse` answers, or REFUSED if it raised a `refusal` that says something. Anything else is a defect."""
    try:
        return parse(*arguments, **options)
    except refusal as error:
        said = str(error)
    assert said
    return REFUSED


@given(
    st.one_of(st.text(max_size=100), near_filter), st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=3)
)
def test_filter_compiles_and_decides_or_is_refused(text: str, attributes: dict[str, str]) -> None:
    accepts = attempt(AmxError, compile_filter, text)
    assert accepts is REFUSED or accepts(attributes) in (True, False)


@given(st.one_of(st.text(max_size=60), near_topic), st.one_of(st.text(max_size=60), near_topic))
def test_topics_and_patterns_are_taken_or_refused(pattern: str, topic: str) -> None:
    index: TopicIndex[int] = TopicIndex()
    if attempt(AmxError, parse_pattern, pattern) is not REFUSED:
        index.add(pattern, 1)
    if attempt(AmxError, parse_topic, topic) is not REFUSED:
        assert list(index.match(topic)) in ([], [1])


@given(
    st.one_of(st.text(max_size=60), near_cron),
    st.one_of(st.sampled_from(["", "UTC", "Europe/Berlin"]), st.text(max_size=30)),
)
def test_cron_knows_its_next_moment_or_is_refused(expression: str, zone: str) -> None:
    cron = attempt(CronError, Cron, expression, zone)
    if cron is not REFUSED:
        following = cron.next_after(1_700_000_000_000)
        assert following is None or following > 1_700_000_000_000


@given(st.one_of(st.text(max_size=200), near_json))
def test_schema_is_usable_or_has_a_problem(text: str) -> None:
    problem = schema_problem(text)
    assert problem is None or problem


@given(st.one_of(st.text(max_size=200), near_json, st.binary(max_size=100)))
def test_json_is_a_value_or_refused(text: str | bytes) -> None:
    value = attempt(InvalidInput, decode, text)
    assert value is REFUSED or _is_json(value)


def _is_json(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and not math.isnan(value))


@given(text=st.one_of(st.text(max_size=200), near_yaml))
def test_configuration_is_read_or_every_problem_named(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    for strict in (False, True):
        config = attempt(ConfigError, load_config, path, environment={"A": "b"}, strict=strict)
        assert config is REFUSED or isinstance(config, EngineConfig)


@given(st.binary(max_size=100))
def test_configuration_of_any_bytes_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(data)
    attempt(ConfigError, load_config, path, environment={})


@given(
    st.text(alphabet="grpc.hostlimsxaye_", max_size=30),
    st.one_of(st.text(max_size=40), near_yaml),
)
def test_setting_is_used_or_refused(name: str, value: str) -> None:
    attempt(ConfigError, load_config, None, {name: parse_setting(value)}, environment={})


@pytest.fixture
def generator() -> random.Random:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


def test_definitions_and_schedules_are_valid_or_refused(generator: random.Random) -> None:
    for _ in range(3000):
        attempt(AmxError, validate_definition, filled(generator, agent_pb2.AgentDefinition()))
        attempt(AmxError, validate_schedule, filled(generator, agent_pb2.ScheduleDefinition()))


async def test_connection_takes_any_frames_and_never_raises(generator: random.Random) -> None:
    config = EngineConfig.read({"logging": {"level": "error"}, "links": {"resume_window": 0}})
    async with Engine(config, store=open_store(":memory:")) as engine:
        for number in range(100):
            connection = engine.open_link()
            hello = link_pb2.LinkFrame()
            first = hello.items.add().hello
            first.CopyFrom(link_pb2.Hello(link_id=f"l-{number}", protocol_max=1, credit=10, features=["resume"]))
            definition = first.agents.add(name="Echo", version="1.0.0")
            definition.handlers.add(name="echo")
            connection.feed(hello.SerializeToString())
            taken = asyncio.create_task(_drink(connection))
            for seq in range(1, 51):
                data = frame_of_odd_items(generator, seq).SerializeToString()
                connection.feed(damaged(generator, data) if generator.random() < 0.05 else data)
                if connection.over.is_set():
                    assert connection.error is None or connection.error.reason != "INTERNAL", connection.error
                    break
                await asyncio.sleep(0)
            connection.feed(noise(generator))
            connection.close()
            await asyncio.wait_for(taken, 10)
        assert engine.log.recent(1000, "error") == []


async def _drink(connection: LinkConnection) -> None:
    while await connection.next_frame() is not None:
        pass


class Nobody:
    """Host and owner of a protocol that takes everything and does nothing."""

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: None


class _Handle:
    def cancel(self) -> None:
        pass


def test_sdk_takes_any_frames_or_hangs_up(generator: random.Random) -> None:
    nobody = Nobody()
    for _ in range(300):
        protocol = LinkProtocol(
            link_id="l",
            host=nobody,  # type: ignore[arg-type]
            events=nobody,  # type: ignore[arg-type]
            deadlines=Deadlines(lambda: 0.0, lambda *_: _Handle()),
            clock=lambda: 0.0,
            software=link_pb2.SoftwareInfo(),
        )
        protocol.hello()
        welcome = link_pb2.LinkFrame()
        filled(generator, welcome.items.add().welcome)
        frames = [welcome.SerializeToString()]
        for seq in range(1, 30):
            frame = link_pb2.LinkFrame(seq=seq)
            for _ in range(3):
                filled(generator, frame.items.add())
            data = frame.SerializeToString()
            frames.append(damaged(generator, data) if generator.random() < 0.1 else data)
        for data in frames:
            if attempt(ProtocolViolation, protocol.receive, data) is REFUSED:
                break
            for _ in range(100):
                answer = protocol.next_frame()
                if answer is None:
                    break
                link_pb2.LinkFrame.FromString(answer)


def test_json_decoder_survives_depth_and_size() -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, "1" * 10_000, '"' + "\\u0000" * 10_000 + '"', *TEXTS):
        attempt(InvalidInput, decode, text)
