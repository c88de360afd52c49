"""`amx send`, `request`, `publish`, `subscribe`, `broadcast`: talk to agents."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amx_server.cli.command import Session, choice, engine_command, json_bytes, seconds, usage
from amx_server.cli.exits import FAILED
from amx_server.cli.output import compact, payload_value, plain


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    engine_command(app, "send")(send)
    engine_command(app, "request")(request)
    engine_command(app, "publish")(publish)
    engine_command(app, "subscribe", timeout=None)(subscribe)
    engine_command(app, "broadcast")(broadcast)


Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="agent, agent/key or agent/key#handler; - lets the message routers choose.",
    ),
]
Content = Annotated[
    str | None,
    typer.Argument(metavar="[JSON]", help="The content; - reads it from standard input.", show_default=False),
]
Handler = Annotated[str, typer.Option("--handler", help="Handler; by default chosen by type, else the only one.")]
Type = Annotated[str, typer.Option("--type", "-t", help="Application type of the message.")]
Headers = Annotated[list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="May be repeated.")]
Urgency = Annotated[
    str | None,
    typer.Option("--priority", "-p", help="critical, high, normal, low or background.", show_default="normal"),
]
Ttl = Annotated[
    float | None,
    typer.Option("--ttl", parser=seconds, metavar="DURATION", help="How long it may wait in a mailbox."),
]
Delay = Annotated[
    float | None, typer.Option("--delay", parser=seconds, metavar="DURATION", help="Hold delivery back for this long.")
]
MessageId = Annotated[str, typer.Option("--message-id", help="Its identity: a second one with it is the same message.")]
IdempotencyKey = Annotated[str, typer.Option("--idempotency-key", help="A repeat gets the first one's outcome.")]
Source = Annotated[str, typer.Option("--source", help="Where it comes from, for the application.")]
Durable = Annotated[
    bool | None,
    typer.Option("--durable/--volatile", help="Store it first, or keep it in memory only.", show_default=False),
]


def send(
    session: Session,
    target: Target,
    content: Content = None,
    handler: Handler = "",
    type_: Type = "",
    header: Headers = None,
    priority: Urgency = None,
    durable: Durable = None,
    ttl: Ttl = None,
    delay: Delay = None,
    message_id: MessageId = "",
    source: Source = "",
) -> None:
    """Send a one-way message. Prints its id once it is accepted (stored, if durable)."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    message = _message(target, content, handler, type_, header, priority, durable, ttl)
    message.message_id = message_id
    message.source = source
    message.delay_ms = round((delay or 0) * 1000)
    response = client.call(client.engine.Send, engine_pb2.SendRequest(message=message))
    if output.as_json:
        output.json(plain(response))
    else:
        output.text(f"{response.message_id}{' (was there already)' if response.duplicate else ''}")


def request(
    session: Session,
    target: Target,
    content: Content = None,
    handler: Handler = "",
    type_: Type = "",
    header: Headers = None,
    priority: Urgency = None,
    durable: Durable = None,
    ttl: Ttl = None,
    message_id: MessageId = "",
    idempotency_key: IdempotencyKey = "",
    source: Source = "",
    stream: Annotated[bool, typer.Option("--stream", "-s", help="Print each part as it comes, one a line.")] = False,
) -> None:
    """Send a message and print its reply as JSON."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    message = _message(target, content, handler, type_, header, priority, durable, ttl)
    message.message_id = message_id
    message.idempotency_key = idempotency_key
    message.source = source
    if not stream:
        response = client.call(client.engine.Request, engine_pb2.RequestRequest(message=message))
        output.json(payload_value(response.result))
        return
    streamed = engine_pb2.StreamRequestRequest(message=message)
    for part in client.stream(client.engine.StreamRequest, streamed, timeout=client.timeout):
        kind = part.WhichOneof("part")
        value = payload_value(getattr(part, kind)) if kind else None
        if output.as_json:
            output.json_line({kind or "result": value})
        elif kind == "chunk" or value is not None:
            output.json_line(value)


def publish(
    session: Session,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Dot-separated, e.g. orders.eu.created.")],
    content: Content = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", "-A", metavar="NAME=VALUE", help="For subscription filters; may be repeated."),
    ] = None,
    key: Annotated[
        str, typer.Option("--key", help="Key of the instances that receive it.", show_default="default")
    ] = "",
    priority: Urgency = None,
    durable: Durable = None,
    event_id: Annotated[str, typer.Option("--event-id", help="Its identity.")] = "",
) -> None:
    """Publish an event. Prints its id and how many subscribers it goes to."""
    from amx.v1 import common_pb2, engine_pb2, message_pb2

    client, output = session.client, session.output
    event = message_pb2.Event(
        topic=topic,
        attributes=_pairs(attribute, "--attribute"),
        key=key,
        event_id=event_id,
        priority=choice(common_pb2.Priority.DESCRIPTOR, priority, "--priority"),  # type: ignore[arg-type]
        durability=_durability(durable),
    )
    _fill(event.payload, content)
    response = client.call(client.engine.Publish, engine_pb2.PublishRequest(event=event))
    if output.as_json:
        output.json(plain(response))
    else:
        subscribers = "1 subscriber" if response.subscribers == 1 else f"{response.subscribers} subscribers"
        output.text(f"{response.event_id} ({subscribers})")


def subscribe(
    session: Session,
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="* is one segment, ** any number: orders.*.created.")
    ],
    filter_: Annotated[str, typer.Option("--filter", help="E.g. severity in (high, critical), region != eu.")] = "",
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="Stop after so many events; 0: never.")] = 0,
) -> None:
    """Print events as they come, until interrupted. With --json, one object a line."""
    from amx.v1 import engine_pb2, message_pb2

    client, output = session.client, session.output
    wanted = engine_pb2.SubscribeRequest(subscription=message_pb2.Subscription(pattern=pattern, filter=filter_))
    received = 0
    for response in client.stream(client.engine.Subscribe, wanted, timeout=client.timeout):
        if not response.HasField("event"):
            if output.terminal and not output.as_json:
                typer.echo(f"Subscribed to {pattern}.", err=True)
            continue
        event = plain(response.event)
        if output.as_json:
            output.json_line(event)
        else:
            output.text(f"{event['topic']}  {compact(event['payload'], 10_000)}")
        received += 1
        if received == count:
            return


def broadcast(
    session: Session,
    content: Content = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every instance of every agent.")] = False,
    agent: Annotated[str, typer.Option("--agent", help="Every instance of this agent.")] = "",
    group: Annotated[str, typer.Option("--group", help="Every instance of the agents in this group.")] = "",
    labels: Annotated[str, typer.Option("--labels", help="By labels, e.g. tier = gold, region != eu.")] = "",
    handler: Handler = "",
    type_: Type = "",
    header: Headers = None,
    priority: Urgency = None,
) -> None:
    """Send a message to many instances and print what became of it. Exit code 1 if it failed anywhere."""
    from amx.v1 import engine_pb2, message_pb2

    client, output = session.client, session.output
    if sum((everyone, bool(agent), bool(group), bool(labels))) != 1:
        usage("say to whom: exactly one of --all, --agent, --group and --labels")
    scope = message_pb2.BroadcastScope()
    if everyone:
        scope.all = True
    elif agent:
        scope.agent = agent
    elif group:
        scope.group = group
    else:
        scope.labels = labels
    message = _message("-", content, handler, type_, header, priority, None, None)
    response = client.call(client.engine.Broadcast, engine_pb2.BroadcastRequest(scope=scope, message=message))
    result = response.result
    if output.as_json:
        output.json(plain(result))
    else:
        output.table(
            ("INSTANCE", "OUTCOME"),
            ((f"{each.instance.agent}/{each.instance.key or 'default'}", _outcome(each)) for each in result.recipients),
            "There are no instances in this scope.",
        )
    if result.failed:
        raise typer.Exit(FAILED)


def _message(
    target: str,
    content: str | None,
    handler: str,
    type_: str,
    header: list[str] | None,
    priority: str | None,
    durable: bool | None,
    ttl: float | None,
) -> Any:
    from amx.v1 import common_pb2, message_pb2

    address, _, named = target.partition("#")
    if named and handler and named != handler:
        usage(f"TARGET names the handler '{named}' and --handler '{handler}'; name it once")
    agent, _, key = ("", "", "") if address == "-" else address.partition("/")
    message = message_pb2.Message(
        agent=agent,
        key=key,
        handler=named or handler,
        type=type_,
        headers=_pairs(header, "--header"),
        priority=choice(common_pb2.Priority.DESCRIPTOR, priority, "--priority"),  # type: ignore[arg-type]
        durability=_durability(durable),
        ttl_ms=round((ttl or 0) * 1000),
    )
    _fill(message.payload, content)
    return message


def _fill(payload: Any, content: str | None) -> None:
    """Writes JSON from the command line into a payload; nothing for no content."""
    data = json_bytes(content, "the content")
    if data:
        payload.data = data
        payload.content_type = "application/json"


def _durability(durable: bool | None) -> Any:
    from amx.v1 import common_pb2

    if durable is None:
        return common_pb2.DURABILITY_UNSPECIFIED
    return common_pb2.DURABILITY_DURABLE if durable else common_pb2.DURABILITY_VOLATILE


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        if not separator or not name:
            usage(f"{option} '{text}' is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _outcome(recipient: Any) -> str:
    if recipient.HasField("failure"):
        return f"failed: {recipient.failure.message} [{recipient.failure.reason}]"
    return compact(payload_value(recipient.result), 200) or "ok"
