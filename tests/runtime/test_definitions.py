"""Agent definitions: refused by field, compared in words, compiled into what the engine asks for."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from google.protobuf import text_format

from amx.v1 import agent_pb2, common_pb2
from amx_server.core.errors import AmxError
from amx_server.memory.instance_memory import MAP, MemorySpec
from amx_server.runtime.definitions import AgentSpec, difference, validate_definition

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"amount": {"type": "integer"}, "to": {"$ref": "#/$defs/Account"}, "default": {"type": "string"}},
        "$defs": {"Account": {"type": "string", "examples": [{"$ref": "https://elsewhere.example/x"}]}},
    }
)

DEFINITION = """
name: "billing" version: "1.2.0"
handlers {
  name: "charge" timeout_ms: 2500 permissions: "billing:charge" message_types: "invoice" message_types: "order"
  retry { max_attempts: 3 multiplier: 1.5 }
  subscriptions { pattern: "orders.*.created" filter: "region = eu" }
}
handlers { name: "report" streaming: true concurrent: true durability: DURABILITY_DURABLE }
memories { name: "totals" kind: MEMORY_KIND_MAP persistent: true ttl_ms: 1000 max_entries: 5 }
schedules { name: "nightly" handler: "report" cron: "0 3 * * *" time_zone: "Europe/Berlin" }
groups: "finance" groups: "eu"
labels { key: "tier" value: "gold" }
idle_timeout_ms: 1500 mailbox_capacity: 7 order: 2
"""


def definition() -> agent_pb2.AgentDefinition:
    parsed = text_format.Parse(DEFINITION, agent_pb2.AgentDefinition())
    parsed.handlers[0].input_schema = SCHEMA
    return parsed


def test_definition_compiles_into_what_the_engine_asks_for() -> None:
    spec = AgentSpec.compile(definition())
    assert (spec.name, spec.version, spec.kind) == ("billing", "1.2.0", agent_pb2.AGENT_KIND_AGENT)
    assert spec.memories == {"totals": MemorySpec("totals", MAP, persistent=True, ttl_ms=1000, max_entries=5)}
    assert spec.persistent
    assert sorted(spec.groups) == ["eu", "finance"]
    assert spec.labels == {"tier": "gold"}
    assert (spec.idle_timeout, spec.mailbox_capacity, spec.order) == (1.5, 7, 2)
    charge, report = spec.handlers["charge"], spec.handlers["report"]
    assert (charge.timeout, charge.permissions, charge.retry.max_attempts) == (2.5, ("billing:charge",), 3)
    assert [(s.pattern, s.filter) for s in charge.subscriptions] == [("orders.*.created", "region = eu")]
    assert (report.streaming, report.concurrent, report.durability) == (True, True, common_pb2.DURABILITY_DURABLE)
    assert charge != report
    assert charge == AgentSpec.compile(definition()).handlers["charge"]


def test_handler_is_chosen_by_type_then_default_then_because_it_is_the_only_one() -> None:
    several = definition()
    spec = AgentSpec.compile(several)
    assert spec.choose("invoice") == spec.choose("order") == "charge"
    with pytest.raises(AmxError, match="name one of: charge, report") as raised:
        spec.choose("unheard")
    assert raised.value.reason == "HANDLER_AMBIGUOUS"
    several.default_handler = "report"
    assert AgentSpec.compile(several).choose("unheard") == "report"
    only = definition()
    del only.handlers[0]
    assert AgentSpec.compile(only).choose("") == "report"


def set_schema(text: str) -> Callable[[agent_pb2.AgentDefinition], None]:
    def change(d: agent_pb2.AgentDefinition) -> None:
        d.handlers[1].output_schema = text

    return change


def merge(text: str) -> Callable[[agent_pb2.AgentDefinition], None]:
    def change(d: agent_pb2.AgentDefinition) -> None:
        text_format.Merge(text, d)

    return change


def replace(text: str) -> Callable[[agent_pb2.AgentDefinition], None]:
    def change(d: agent_pb2.AgentDefinition) -> None:
        d.Clear()
        text_format.Parse(text, d)

    return change


OUTPUT = "handlers['report'].output_schema"


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (replace('name: ""'), "name", "empty"),
        (replace('name: "a/b"'), "name", "'a/b'"),
        (replace('name: "-a"'), "name", "begins with a sign"),
        (replace(f'name: "{"a" * 129}"'), "name", "longer than 128"),
        (replace('name: "a" version: "newest"'), "version", "1.4.0"),
        (replace('name: "a" kind: 9'), "kind", "9"),
        (replace('name: "a" kind: AGENT_KIND_ROUTER'), "handlers", "exactly one handler, not 0"),
        (replace('name: "a" kind: AGENT_KIND_PIPELINE handlers { name: "go" }'), "handlers", "'run'"),
        (merge('handlers { name: "charge" }'), "handlers", "'charge' is there twice"),
        (merge('handlers { name: "x" message_types: "order" }'), "message_types", "'order' is there twice"),
        (merge('default_handler: "x"'), "default_handler", "'x' is none of its handlers"),
        (merge('handlers { name: "x" durability: 7 }'), "handlers['x'].durability", "7"),
        (merge('handlers { name: "x" permissions: "a b" }'), "handlers['x'].permissions", "'a b'"),
        (merge('handlers { name: "x" retry { multiplier: 0.5 } }'), "handlers['x'].retry.multiplier", "1 or more"),
        (merge('handlers { name: "x" retry { multiplier: nan } }'), "handlers['x'].retry.multiplier", "nan"),
        (
            merge('handlers { name: "x" retry { initial_backoff_ms: 9 max_backoff_ms: 5 } }'),
            "handlers['x'].retry.max_backoff_ms",
            "shorter",
        ),
        (merge('handlers { name: "x" timeout_ms: 9999999999999 }'), "handlers['x'].timeout_ms", "100 years"),
        (
            merge('handlers { name: "x" subscriptions { pattern: "a..b" } }'),
            "handlers['x'].subscriptions[0].pattern",
            "empty segment",
        ),
        (
            merge('handlers { name: "x" subscriptions { pattern: "a" filter: "b" } }'),
            "handlers['x'].subscriptions[0].filter",
            "column 2",
        ),
        (merge('memories { name: "totals" }'), "memories", "'totals' is there twice"),
        (merge('memories { name: "m" kind: 7 }'), "memories['m'].kind", "7"),
        (merge('memories { name: "m" max_entries: 2 }'), "memories['m'].max_entries", "one entry"),
        (merge('schedules { name: "s" handler: "x" once_after_ms: 1 }'), "schedules['s'].handler", "'x' is none"),
        (merge('schedules { name: "s" handler: "report" cron: "61 * * * *" }'), "schedules['s']", "minute field '61'"),
        (merge('schedules { name: "s" handler: "report" once_after_ms: 1 missed: 8 }'), "schedules['s'].missed", "8"),
        (merge('labels { key: "a b" value: "c" }'), "labels", "'a b'"),
        (merge('groups: "eu"'), "groups", "twice"),
        (merge(f'description: "{"x" * 20000}"'), "description", "longer than 16384"),
        (merge("".join(f'capabilities: "c{n}" ' for n in range(1001))), "capabilities", "more than 1000"),
        (merge('handlers { name: "x" execution: 9 }'), "handlers['x'].execution", "9"),
        (merge("supervisor {}"), "supervisor.children", "name those it keeps running"),
        (merge('supervisor { strategy: 8 children { agent: "a" } }'), "supervisor.strategy", "8"),
        (merge("supervisor { children { } }"), "supervisor.children[0].agent", "empty"),
        (merge('supervisor { children { agent: "billing" } }'), "supervisor.children[0].agent", "itself"),
        (merge('supervisor { children { agent: "a" restart: 5 } }'), "supervisor.children[0].restart", "5"),
        (merge('supervisor { children { agent: "a" on_restart: "b c" } }'), "supervisor.children[0].on_restart", "b c"),
        (merge(f'supervisor {{ children {{ agent: "a" key: "{"k" * 513}" }} }}'), "supervisor.children[0].key", "512"),
        (
            merge('supervisor { children { agent: "a" } children { agent: "a" key: "default" } }'),
            "supervisor.children[1]",
            "'a/default' is there twice",
        ),
        (
            merge("".join(f'supervisor {{ children {{ agent: "a{n}" }} }}' for n in range(1001))),
            "supervisor.children",
            "more than 1000",
        ),
        (merge('supervisor { within_ms: 9999999999999 children { agent: "a" } }'), "supervisor.within_ms", "100 years"),
        (set_schema("{"), OUTPUT, "not JSON"),
        (set_schema("[]"), OUTPUT, "a JSON object, true or false"),
        (set_schema('{"type": "whole"}'), OUTPUT, "at $.type: "),
        (set_schema('{"$ref": "https://example.com/x.json"}'), OUTPUT, "leaves the schema"),
        (set_schema('{"properties": {"default": {"$ref": "file:///etc/passwd"}}}'), OUTPUT, "leaves the schema"),
        (set_schema('{"anyOf": [{"$dynamicRef": "other#x"}]}'), OUTPUT, "leaves the schema"),
        (set_schema('{"$ref": "#/$defs/Missing"}'), OUTPUT, "refers to nothing"),
        (set_schema('{"$schema": "http://json-schema.org/draft-07/schema#"}'), OUTPUT, "2020-12"),
        (set_schema('{"not": ' * 150 + "{}" + "}" * 150), OUTPUT, "deeper than 100"),
        (set_schema("[" * 100_000), OUTPUT, "not JSON"),
    ],
)
def test_bad_definition_is_refused_by_field(
    change: Callable[[agent_pb2.AgentDefinition], None], field: str, words: str
) -> None:
    changed = definition()
    change(changed)
    with pytest.raises(AmxError) as raised:
        validate_definition(changed)
    assert raised.value.reason == "INVALID_DEFINITION"
    assert raised.value.metadata["field"] == field
    assert words in raised.value.message
    assert f"agent '{changed.name[:100]}" in raised.value.message


@pytest.mark.parametrize(
    "schema",
    [
        "true",
        '{"$ref": "#"}',
        '{"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {}}}',
        '{"$ref": "#here", "$defs": {"x": {"$anchor": "here"}}}',
        '{"allOf": [{"type": "null"}, {"$ref": "#/allOf/0"}]}',
        '{"properties": {"$ref": {"type": "string"}}}',
        '{"const": {"$ref": "https://example.com"}}',
    ],
)
def test_schema_that_stands_alone_is_accepted(schema: str) -> None:
    changed = definition()
    set_schema(schema)(changed)
    validate_definition(changed)


def test_difference_of_equal_definitions_is_none_whatever_the_order() -> None:
    other = definition()
    first = agent_pb2.HandlerDefinition.FromString(other.handlers[0].SerializeToString())
    del other.handlers[0]
    other.handlers.append(first)
    del other.groups[:]
    other.groups.extend(["eu", "finance"])
    other.handlers[1].input_schema = json.dumps(json.loads(SCHEMA), indent=2, sort_keys=True)
    other.handlers[1].circuit_breaker.SetInParent()
    assert difference(definition(), other) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (merge('handlers { name: "refund" }'), "handlers has 'refund' in addition"),
        (lambda d: d.handlers.pop(), "handlers lacks 'report' now"),
        (merge("mailbox_capacity: 8"), "mailbox_capacity was 7, is 8"),
        (merge('labels { key: "tier" value: "silver" }'), "labels/tier was 'gold', is 'silver'"),
        (merge('labels { key: "new" value: "x" }'), "labels has 'new' in addition"),
        (merge("kind: AGENT_KIND_MONITOR"), "kind was 'AGENT_KIND_UNSPECIFIED', is 'AGENT_KIND_MONITOR'"),
        (
            lambda d: setattr(d.handlers[0], "input_schema", SCHEMA.replace("integer", "number")),
            "handlers['charge'].input_schema/properties/amount/type was 'integer', is 'number'",
        ),
        (lambda d: setattr(d.handlers[0], "input_schema", ""), "handlers['charge'].input_schema was"),
        (
            lambda d: setattr(d.handlers[0].retry, "max_attempts", 4),
            "['charge'].retry.max_attempts was 3, is 4",
        ),
        (lambda d: d.handlers[0].permissions.append("x"), "handlers['charge'].permissions was ['billing:charge'], is"),
        (
            lambda d: setattr(d.handlers[0].subscriptions[0], "filter", "a = b"),
            "handlers['charge'].subscriptions was [",
        ),
        (lambda d: setattr(d.schedules[0], "once_after_ms", 0), "schedules['nightly'].cron is not set now"),
        (lambda d: setattr(d.memories[0], "persistent", False), "memories['totals'].persistent was True, is False"),
    ],
)
def test_difference_is_named(change: Callable[[agent_pb2.AgentDefinition], object], words: str) -> None:
    changed = definition()
    change(changed)
    found = difference(definition(), changed)
    assert found is not None and words in found


def test_difference_of_many_names_the_first_and_counts_the_rest() -> None:
    changed = definition()
    merge("order: 3 mailbox_capacity: 8 idle_timeout_ms: 1 version: '2' description: 'new'")(changed)
    found = difference(definition(), changed)
    assert found is not None and found.count(" was ") == 3 and found.endswith("; and 2 more")
