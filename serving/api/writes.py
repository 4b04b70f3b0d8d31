"""What can be written: events, item records and profiles, each validated as on Kafka and sent there."""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from serving.api.access import Needs
from serving.api.live import Live, now_ms
from serving.api.metrics import Metrics
from serving.api.paths import ItemId, UserId
from serving.api.problems import Problem, described
from streams.contract.events import BadRecord, decode_item, decode_user, encode
from streams.ingest import checked_event


def _sent_as_json(request: Request) -> None:
    """Refuse a body of another kind: browsers let a page of any site send text and forms, but ask first about JSON.

    Raises:
        Problem: 415.
    """
    given = request.headers.get("content-type")
    if given is None and request.method == "DELETE":  # it has no body, and browsers ask first about the method
        return
    kind = (given or "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        came = f"this came as {given!r}" if given else "this came without one"
        detail = f"send the body with `Content-Type: application/json` (curl: `--json` in place of `-d`); {came}"
        raise Problem(415, "Not sent as JSON", detail)


router = APIRouter(prefix="/v1", dependencies=[Depends(Needs("write")), Depends(_sent_as_json)])

_RAW_EVENTS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Verdict(BaseModel):
    """What became of one event."""

    status: Literal["accepted", "refused"]
    event_id: str | None = Field(None, description="send the event again under this id, and it counts once")
    reason: str | None = Field(None, description="what is wrong with it, and what would be right")
    field: str | None = None


class Verdicts(BaseModel):
    """What became of each event, in the order they were sent."""

    accepted: int
    refused: int
    events: list[Verdict]


def _body(schema: str) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": schema}}}}}


@router.post(
    "/events",
    status_code=202,
    responses=described(401, 403, 413, 415, 422, 429, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            {"$ref": "#/components/schemas/Event"},
                            {"type": "array", "items": {"$ref": "#/components/schemas/Event"}, "minItems": 1},
                        ]
                    }
                }
            },
        }
    },
)
async def post_events(request: Request) -> Verdicts:
    """Take one event, or an array of them; those that can be used are in Kafka when this answers.

    An event without an `event_id` gets one out of its content, so sending the same again changes nothing. When all are
    refused the status is 422.
    """
    live: Live = request.app.state.live
    raws = _events_of(await request.body(), live.settings.api.max_events)
    return await take_events(live, request.app.state.metrics, raws)


async def take_events(live: Live, metrics: Metrics, raws: Sequence[bytes]) -> Verdicts:
    """Check events and send those that can be used to Kafka.

    Raises:
        Problem: none can be used, or Kafka is away.
    """
    verdicts: list[Verdict] = []
    accepted: list[tuple[str, bytes]] = []
    now = now_ms()
    for raw in raws:
        try:
            event = checked_event(raw, live.settings, now)
        except BadRecord as bad:
            verdicts.append(Verdict(status="refused", reason=bad.reason, field=bad.field or None))
        else:
            verdicts.append(Verdict(status="accepted", event_id=event.event_id))
            accepted.append((event.user_id, raw))
    metrics.events.labels("accepted").inc(len(accepted))
    metrics.events.labels("refused").inc(len(raws) - len(accepted))
    if not accepted:
        worst = verdicts[0]
        raise Problem(422, "No event can be used", worst.reason or "", field=worst.field or "")
    await send(live, live.names.events, accepted)
    return Verdicts(accepted=len(accepted), refused=len(raws) - len(accepted), events=verdicts)


def _events_of(body: bytes, most: int) -> list[bytes]:
    try:
        raws = [bytes(raw) for raw in _RAW_EVENTS.decode(body)] if body.lstrip()[:1] == b"[" else [body]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(422, "Not JSON", f"the body is no JSON array: {error}") from None
    if not raws:
        raise Problem(422, "No event", "the array is empty; send at least one event")
    if len(raws) > most:
        raise Problem(422, "Too many events", f"{len(raws):,} events came; at most {most:,} are taken at once")
    return raws


@router.put(
    "/items/{item_id}",
    status_code=204,
    responses=described(401, 403, 409, 413, 415, 422, 429, 503),
    openapi_extra=_body("#/components/schemas/ItemRecord"),
)
async def put_item(request: Request, item_id: ItemId) -> Response:
    """Describe an item, new or known; `available: false` withdraws it. It may be in the next list made."""
    await keep_item(request.app.state.live, _named(await request.body(), "item_id", item_id))
    return Response(status_code=204)


async def keep_item(live: Live, raw: bytes) -> None:
    """Check an item's record and send it to Kafka.

    Raises:
        BadRecord: it breaks the contract.
        Problem: Kafka is away.
    """
    record = decode_item(raw, max_bytes=live.settings.ingest.max_record_bytes)
    await send(live, live.names.items, [(record.item_id, encode(record))])


@router.delete("/items/{item_id}", status_code=204, responses=described(401, 403, 415, 422, 429, 503))
async def delete_item(request: Request, item_id: ItemId) -> Response:
    """Withdraw an item: no list made from now on has it. What users did with it is kept."""
    live: Live = request.app.state.live
    await send(live, live.names.items, [(item_id, None)])
    return Response(status_code=204)


@router.put(
    "/users/{user_id}",
    status_code=204,
    responses=described(401, 403, 409, 413, 415, 422, 429, 503),
    openapi_extra=_body("#/components/schemas/UserRecord"),
)
async def put_user(request: Request, user_id: UserId) -> Response:
    """Set a user's profile; a list follows on the recommendations topic."""
    await keep_user(request.app.state.live, _named(await request.body(), "user_id", user_id))
    return Response(status_code=204)


async def keep_user(live: Live, raw: bytes) -> None:
    """Check a user's record and send it to Kafka.

    Raises:
        BadRecord: it breaks the contract.
        Problem: Kafka is away.
    """
    record = decode_user(raw, max_bytes=live.settings.ingest.max_record_bytes)
    await send(live, live.names.users, [(record.user_id, encode(record))])


@router.delete(
    "/users/{user_id}",
    status_code=204,
    responses=described(401, 403, 415, 422, 429, 503),
    dependencies=[Depends(Needs("admin"))],
)
async def delete_user(request: Request, user_id: UserId) -> Response:
    """Erase a user: profile, history, list, and the events that training reads."""
    live: Live = request.app.state.live
    await send(live, live.names.users, [(user_id, None)])
    return Response(status_code=204)


def _named(body: bytes, field: str, name: str) -> bytes:
    """The body with the name that the path gives; a body that names another is refused."""
    try:
        given = _RAW_FIELDS.decode(body)
        said = msgspec.json.decode(given[field]) if field in given else name
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(422, "Not a record", f"a JSON object is needed: {error}") from None
    if said != name:
        raise Problem(409, "Two names", f"the body says {said!r} and the path {name!r}; they must agree", field=field)
    return msgspec.json.encode(given | {field: msgspec.Raw(msgspec.json.encode(name))})


async def send(live: Live, topic: str, records: Sequence[tuple[str, bytes | None]]) -> None:
    """Put records on a topic under their keys, and wait until Kafka has them all."""
    try:
        async with asyncio.timeout(live.settings.api.kafka_patience_s):
            arrivals = [await live.producer.send(topic, key=key.encode(), value=value) for key, value in records]
            await asyncio.gather(*arrivals)
    except (KafkaError, TimeoutError, OSError) as error:
        detail = f"Kafka did not take it: {error or 'no answer in time'}. Send the same again: it counts once"
        raise Problem(503, "Kafka is away", detail, headers={"Retry-After": "1"}) from None
