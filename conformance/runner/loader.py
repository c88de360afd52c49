"""Reads cases from YAML and checks them: schema, clause, names of fields and matchers. Everything wrong is reported at
once, with file and line. Reading needs PyYAML and jsonschema, running what was read does not.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from amx.v1 import agent_pb2, common_pb2, engine_pb2, link_pb2, message_pb2
from conformance.runner.cases import (
    CONNECT_KEYS,
    ENGINE_ONLY,
    EXCHANGE_KEYS,
    KINDS,
    ROOT,
    SDK_ONLY,
    Case,
    Step,
    fitting,
    seconds,
)
from conformance.runner.json_text import Real
from conformance.runner.matchers import MATCHERS
from conformance.runner.messages import MESSAGE, PAYLOAD, Descriptor, FieldDescriptor, is_map, is_repeated
from conformance.runner.values import VALUES, special

CASES = ROOT / "conformance" / "cases"
SCHEMA = ROOT / "conformance" / "case.schema.json"

ITEM = link_pb2.LinkItem.DESCRIPTOR
FRAME = link_pb2.LinkFrame.DESCRIPTOR

_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
_FENCE = re.compile(r"^(```+|~~~+).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)


class CorpusProblem(Exception):
    """Cases that cannot be used: every problem, one a line, each with its file and line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(folder: Path = CASES, root: Path = ROOT) -> list[Case]:
    """Every case below `folder`, in order of id. Raises CorpusProblem."""
    problems: list[str] = []
    cases: list[Case] = []
    for path in sorted(folder.rglob("*.y*ml")):
        try:
            cases.append(load_case(path, folder, root))
        except CorpusProblem as problem:
            problems += problem.problems
    if problems:
        raise CorpusProblem(problems)
    if not cases:
        raise CorpusProblem([f"{folder}: no cases there"])
    return sorted(cases, key=lambda case: case.id)


def load_case(path: Path, folder: Path = CASES, root: Path = ROOT) -> Case:
    """One case. Raises CorpusProblem."""
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    document = read_yaml(path, str(shown))
    data: dict[str, Any] = document.value or {}
    problems: list[str] = []
    for error in _validator().iter_errors(data):
        problems += _explain(document, error)
    if path.suffix != ".yaml" or not re.fullmatch(r"([a-z0-9_-]+/)+[a-z0-9_-]+\.yaml", str(path.relative_to(folder))):
        problems.append(f"{shown}: a case is cases/<category>/<name>.yaml, in lower case")
    if problems:
        raise CorpusProblem(problems)

    def at(place: tuple[str | int, ...], problem: str) -> None:
        problems.append(f"{document.where(place)}: {problem}")

    if trouble := _clause_problem(data["clause"], root):
        at(("clause",), trouble)
    steps = tuple(_step(document, data["steps"], index) for index in range(len(data["steps"])))
    subject = data["subject"]
    for step in steps:
        place: tuple[str | int, ...] = ("steps", step.number - 1)
        wrong = SDK_ONLY if subject == "engine" else ENGINE_ONLY
        if step.kind in wrong:
            at(place, f"'{step.kind}' is not for subject {subject}")
        if subject == "sdk" and "on" in step.more:
            at((*place, "on"), "a case of subject sdk has one link")
        for where, trouble in _step_problems(subject, step):
            at((*place, *where), trouble)
    for name, only in (("config", "engine"), ("agents", "sdk"), ("credit", "sdk"), ("welcome", "sdk"), ("stop", "sdk")):
        if name in data and subject != only:
            at((name,), f"'{name}' is for subject {only}")
    for where, trouble in _names(data.get("welcome", {}), link_pb2.Welcome.DESCRIPTOR, VALUES):
        at(("welcome", *where), trouble)
    plain = not any(key in data for key in ("welcome", "handshake", "answer_pings"))
    fit = fitting(subject, steps, plain)
    transports = tuple(data.get("transports", fit))
    for transport in transports:
        if transport not in fit:
            at(("transports",), f"these steps cannot run on '{transport}', only on {', '.join(fit)}")
    if problems:
        raise CorpusProblem(problems)
    return Case(
        id=str(path.relative_to(folder).with_suffix("")).replace("\\", "/"),
        file=path,
        title=data["title"],
        clause=data["clause"],
        level=data["level"],
        subject=subject,
        steps=steps,
        transports=tuple(one for one in fit if one in transports),
        features=tuple(data.get("features", ())),
        agents=tuple(data.get("agents", ())),
        credit=data.get("credit"),
        welcome=data.get("welcome", {}),
        manual_handshake=data.get("handshake") == "manual",
        answer_pings=data.get("answer_pings", True),
        config=data.get("config", {}),
        stop=data.get("stop", True),
    )


# --- YAML ------------------------------------------------------------------------------------------------------------


class Document:
    """A YAML document: its value, and the line of everything in it."""

    def __init__(self, name: str, node: yaml.Node | None) -> None:
        self.name = name
        self._node = node
        self.value = _plain(node, name) if node is not None else None

    def line(self, place: Iterable[str | int]) -> int:
        """Line of what is at `place`, or of the nearest thing around it."""
        node, line = self._node, 1
        for part in place:
            following: yaml.Node | None = None
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if key.value == str(part):
                        following, line = value, key.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                following = node.value[part]
                line = following.start_mark.line + 1
            if following is None:
                return line
            node = following
        return line

    def where(self, place: Iterable[str | int]) -> str:
        """`file:line: place`."""
        place = tuple(place)
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        return f"{self.name}:{self.line(place)}: {dotted}".rstrip(": ")


def read_yaml(path: Path, shown: str) -> Document:
    """A YAML file. Raises CorpusProblem if it is not YAML, or has a key twice."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        return Document(shown, node)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CorpusProblem([f"{shown}: is not YAML: {error}"]) from None


_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS: dict[str, Any] = {"null": None, "true": True, "false": False, "": None}


def _plain(node: yaml.Node, name: str) -> Any:
    """The value of a node, as JSON would read it: nothing is a date, `on` is a word, numbers keep their text."""
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise CorpusProblem([f"{name}:{key.start_mark.line + 1}: a key must be text"])
            if key.value in found:
                raise CorpusProblem([f"{name}:{key.start_mark.line + 1}: the key '{key.value}' appears twice"])
            found[key.value] = _plain(value, name)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_plain(one, name) for one in node.value]
    assert isinstance(node, yaml.ScalarNode)
    text: str = node.value
    if node.style in ("'", '"', "|", ">"):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return Real(text) if text == "-0" else int(text)
    return Real(text) if _NUMBER.fullmatch(text) else text


# --- schema and clause -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def _explain(document: Document, error: jsonschema.ValidationError) -> Iterator[str]:
    """What is wrong, in words: of the many shapes of a step only the one that it was meant to be."""
    place = tuple(error.absolute_path)
    if error.validator == "unevaluatedProperties" and len(place) == 2:
        return
    if error.validator == "oneOf" and len(place) == 2 and place[0] == "steps" and isinstance(error.instance, dict):
        kinds = [kind for kind in KINDS if kind in error.instance]
        known = {*KINDS, "within", "times", "on", "past", "status", "take"}
        strangers = [key for key in error.instance if key not in known]
        if strangers:
            yield f"{document.where((*place, strangers[0]))}: unknown key; a step has one of {', '.join(KINDS)}"
            return
        if not kinds:
            yield f"{document.where(place)}: says not what to do; a step has one of {', '.join(KINDS)}"
            return
        inner = [
            one for one in error.context or () if kinds[0] in one.absolute_path or kinds[0] in str(one.schema_path)
        ]
        deepest = max(inner, key=lambda one: len(one.absolute_path), default=None)
        if deepest is not None and len(deepest.absolute_path) > 2:
            yield from _explain(document, deepest)
            return
        yield f"{document.where((*place, kinds[0]))}: not a '{kinds[0]}' step with {', '.join(error.instance)}"
        return
    if error.validator in ("oneOf", "anyOf") and error.context:
        deepest = max(error.context, key=lambda one: len(one.absolute_path))
        if len(deepest.absolute_path) > len(place):
            yield from _explain(document, deepest)
            return
    yield f"{document.where(place)}: {error.message}"


def _clause_problem(clause: str, root: Path) -> str:
    name, _, fragment = clause.partition("#")
    path = root / name
    if not path.is_file():
        return f"there is no {name}"
    known = _anchors(path)
    return "" if fragment in known else f"{name} has no heading '{fragment}'; it has: {', '.join(sorted(known))}"


@lru_cache(maxsize=16)
def _anchors(path: Path) -> frozenset[str]:
    found = set()
    for heading in _HEADING.findall(_FENCE.sub("", path.read_text())):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return frozenset(found)


# --- steps -----------------------------------------------------------------------------------------------------------

Problem = tuple[tuple[str | int, ...], str]


def _step(document: Document, steps: list[dict[str, Any]], index: int) -> Step:
    data = steps[index]
    kind = next(kind for kind in KINDS if kind in data)
    more = {key: value for key, value in data.items() if key != kind}
    return Step(kind, data[kind], more, document.line(("steps", index)), index + 1)


def _step_problems(subject: str, step: Step) -> Iterator[Problem]:
    kind, args, more = step.kind, step.args, step.more
    if "within" in more and not 0 < seconds(more["within"]) <= 300:
        yield ("within",), "give a time of up to five minutes"
    if kind == "exchange":
        message = {key: value for key, value in args.items() if key not in EXCHANGE_KEYS}
        yield from _under((kind,), _names(message, message_pb2.Message.DESCRIPTOR, VALUES))
        yield from _under(("expect",), _outcome_problems(more["expect"]))
    elif kind == "send":
        for index, item in enumerate(args if isinstance(args, list) else [args]):
            place = (kind, index) if isinstance(args, list) else (kind,)
            yield from _under(place, _names(item, ITEM, VALUES))
    elif kind == "send_frame":
        yield from _under((kind,), _names(args, FRAME, VALUES))
    elif kind == "send_raw" and "base64" in args:
        try:
            base64.b64decode(args["base64"], validate=True)
        except (binascii.Error, ValueError):
            yield (kind, "base64"), "is not base64"
    elif kind == "expect":
        if set(args) == {"$unordered"}:
            for index, matcher in enumerate(args["$unordered"]):
                yield from _under((kind, "$unordered", index), _names(matcher, ITEM, MATCHERS))
        else:
            yield from _under((kind,), _names(args, ITEM, MATCHERS))
        yield from _under(("past",), _names(more.get("past", {}), ITEM, MATCHERS))
    elif kind == "expect_frame":
        yield from _under((kind,), _names(args, FRAME, MATCHERS))
    elif kind == "connect":
        yield from _connect_problems(subject, args)
        yield from _under(("expect",), _names(more.get("expect", {}), ITEM, MATCHERS))
        if subject == "sdk" and "expect" in more:
            yield ("expect",), "for subject sdk the Hello is expected in a step of its own"
    elif kind == "refuse":
        yield from _under((kind,), _names(args, common_pb2.Failure.DESCRIPTOR, VALUES))
    elif kind in ("unary", "outcome"):
        yield from _unary_problems(step)


def _connect_problems(subject: str, args: Mapping[str, Any]) -> Iterator[Problem]:
    if subject == "sdk":
        for key in args:
            if key not in ("resume", "lost") or (key == "resume" and not isinstance(args[key], bool)):
                yield ("connect", key), "for subject sdk it says `resume: true` (and `lost: n`) or `resume: false` only"
        if "lost" in args and not args.get("resume"):
            yield ("connect", "lost"), "frames are known to be lost where a link is taken up again only"
    elif isinstance(args.get("resume"), bool):
        yield ("connect", "resume"), "for subject engine it names the link to take up again"
    for index, agent in enumerate(args.get("agents", ())):
        yield from _under(("connect", "agents", index), _names(agent, agent_pb2.AgentDefinition.DESCRIPTOR, VALUES))
    hello = {key: value for key, value in args.items() if key not in CONNECT_KEYS}
    yield from _under(("connect",), _names(hello, link_pb2.Hello.DESCRIPTOR, VALUES))
    yield from _under(("connect", "expect"), _names(args.get("expect", {}), ITEM, MATCHERS))


def _unary_problems(step: Step) -> Iterator[Problem]:
    kind, args, more = step.kind, step.args, step.more
    if "expect" in more and "status" in more:
        yield ("status",), "what is expected is a response or a status, not both"
    yield from _under(("status",), _names(more.get("status", {}), common_pb2.Failure.DESCRIPTOR, MATCHERS))
    if kind == "outcome":
        if "expect" not in more and "status" not in more:
            yield ("outcome",), "needs 'expect' or 'status'"
        return
    method = engine_pb2.DESCRIPTOR.services_by_name["EngineService"].methods_by_name.get(args["method"])
    if method is None:
        yield (kind, "method"), f"EngineService has no method {args['method']}"
        return
    yield from _under((kind, "request"), _names(args.get("request", {}), method.input_type, VALUES))
    if "expect" in more:
        if "as" in args:
            yield ("expect",), "a call in the background is followed by `outcome`"
        expected = more["expect"]
        if not method.server_streaming:
            yield from _under(("expect",), _names(expected, method.output_type, MATCHERS))
        elif set(expected) != {"chunks"}:
            yield ("expect",), "of a stream `chunks` are expected"
        else:
            yield from _under(("expect", "chunks"), _each_name(expected["chunks"], method.output_type))
    elif "status" not in more and "as" not in args:
        yield (kind,), "needs 'expect' or 'status', or 'as' to go on in the background"


def _outcome_problems(expected: Mapping[str, Any]) -> Iterator[Problem]:
    """Of what is expected of an exchange: fields of Complete, and chunks."""
    rest = {key: value for key, value in expected.items() if key != "chunks"}
    yield from _names(rest, link_pb2.Complete.DESCRIPTOR, MATCHERS)
    if "chunks" in expected:
        yield from _under(("chunks",), _each_name(expected["chunks"], PAYLOAD))


def _each_name(matcher: Any, descriptor: Descriptor) -> Iterator[Problem]:
    if isinstance(matcher, list):
        for index, one in enumerate(matcher):
            yield from _under((index,), _names(one, descriptor, MATCHERS))


def _under(place: tuple[str | int, ...], problems: Iterable[Problem]) -> Iterator[Problem]:
    for where, problem in problems:
        yield (*place, *where), problem


def _names(value: Any, descriptor: Descriptor, specials: frozenset[str]) -> Iterator[Problem]:
    """Fields that `descriptor` does not have, and `$names` that do not exist, in a value or matcher."""
    name = special(value)
    if name:
        if name not in specials:
            yield (name,), f"there is no {name} here; there are {', '.join(sorted(specials))}"
        elif name in ("$exact", "$not", "$match"):
            yield from _under((name,), _names(value[name], descriptor, specials))
        elif name in ("$unordered", "$contains", "$one_of"):
            for index, one in enumerate(value[name]):
                yield from _under((name, index), _names(one, descriptor, specials))
        elif name == "$json":
            yield from _under((name,), _json_names(value[name], specials))
        elif name == "$bind" and "$match" in value:
            yield from _under(("$match",), _names(value["$match"], descriptor, specials))
        further = [key for key in value if key != name and {name, key} != {"$bind", "$match"}]
        if further:
            yield (further[0],), f"cannot stand beside {name}"
        return
    if not isinstance(value, Mapping):
        if value is not None:
            yield (), f"a {descriptor.name} needs its fields, not {value!r}"
        return
    for key, inner in value.items():
        field = descriptor.fields_by_name.get(key)
        if field is None:
            known = ", ".join(one.name for one in descriptor.fields) or "none"
            yield (key,), f"unknown key: a {descriptor.name} has no such field; it has: {known}"
        else:
            yield from _under((key,), _field_names(inner, field, specials))


def _field_names(value: Any, field: FieldDescriptor, specials: frozenset[str]) -> Iterator[Problem]:
    if field.type != MESSAGE:
        yield from _json_names(value, specials)
        return
    name = special(value)
    if name and is_repeated(field):
        if name not in specials:
            yield (name,), f"there is no {name} here; there are {', '.join(sorted(specials))}"
        elif name in ("$unordered", "$contains") and not is_map(field):
            for index, one in enumerate(value[name]):
                yield from _under((name, index), _names(one, field.message_type, specials))
        elif name in ("$exact", "$not", "$match"):
            yield from _under((name,), _field_names(value[name], field, specials))
        return
    if is_map(field):
        if isinstance(value, Mapping):
            inner = field.message_type.fields_by_name["value"]
            for key, one in value.items():
                yield from _under((key,), _field_names(one, inner, specials))
        return
    if is_repeated(field) and isinstance(value, list):
        if field.type == MESSAGE:
            for index, one in enumerate(value):
                yield from _under((index,), _names(one, field.message_type, specials))
    elif field.type == MESSAGE:
        yield from _names(value, field.message_type, specials)


def _json_names(value: Any, specials: frozenset[str]) -> Iterator[Problem]:
    name = special(value)
    if name:
        if name not in specials:
            yield (name,), f"there is no {name} here; there are {', '.join(sorted(specials))}"
            return
        if name in ("$regex", "$ref", "$bytes", "$range", "$repeat", "$above"):
            return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _under((key,), _json_names(inner, specials))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _under((index,), _json_names(inner, specials))
