"""The wire: frames in, the official schemas' messages to their handlers and back, one request after another."""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from kafka.errors import UnsupportedVersionError
from kafka.protocol.metadata import ApiVersionsRequest, ApiVersionsResponse

log = logging.getLogger(__name__)

#: As Kafka's socket.request.max.bytes.
FRAME_MAX_BYTES: Final = 100 << 20
_SIZE: Final = struct.Struct(">i")
#: The part of a request's header that is the same in all its versions: API key, API version, correlation id.
_HEADER: Final = struct.Struct(">hhi")


class NotUnderstood(Exception):
    """A request that cannot be answered, not even with an error: its connection is closed."""


@dataclass(frozen=True)
class Client:
    """Who asks: what it calls itself, and its address."""

    name: str
    host: str


@dataclass(frozen=True)
class Api:
    """One kind of request.

    Attributes:
        request: its class in `kafka.protocol`.
        newest: the newest version that is understood; the oldest is the schema's.
        answer: makes the response; None sends nothing back.
    """

    request: Any
    newest: int
    answer: Callable[[Any, Client], Awaitable[Any] | Any]

    @property
    def key(self) -> int:
        return int(self.request.API_KEY)

    @property
    def oldest(self) -> int:
        return int(self.request.valid_versions[0])


class Wire:
    """Serves connections. A connection's requests are answered in order, each before the next is begun, as Kafka does:
    one that waits holds up none but its own connection.
    """

    def __init__(self, apis: Iterable[Api]) -> None:
        self._apis = {api.key: api for api in (*apis, Api(ApiVersionsRequest, 4, self._api_versions))}
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until either side closes it."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        peer = writer.get_extra_info("peername") or ("?", 0)
        try:
            while True:
                (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
                if not _HEADER.size <= size <= FRAME_MAX_BYTES:
                    raise NotUnderstood(f"a request of {size} bytes")
                response = await self._respond(await reader.readexactly(size), peer[0])
                if response is not None:
                    writer.write(response)
                    await writer.drain()
        except NotUnderstood as error:
            log.warning("closed the connection of %s:%s: %s", *peer[:2], error)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has left, or the broker ends: this task has nobody above it that would want to know
        finally:
            self._connections.discard(task)
            writer.close()

    async def close(self) -> None:
        """End all connections, whatever they wait for."""
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _respond(self, frame: bytes, host: str) -> bytes | None:
        key, version, correlation = _HEADER.unpack_from(frame)
        api = self._apis.get(key)
        if api is None:
            raise NotUnderstood(f"API {key} is not known")
        if not api.oldest <= version <= api.newest:
            if api.request is not ApiVersionsRequest:
                raise NotUnderstood(f"{api.request.name} of version {version} is not known")
            # a client that is newer learns from version 0's answer what it may ask
            return _encode(self._api_versions_response(UnsupportedVersionError.errno), 0, correlation)
        try:
            request = api.request.decode(frame, version=version, header=True)
            response = api.answer(request, Client(request.header.client_id or "", host))
            if isinstance(response, Awaitable):
                response = await response
            return None if response is None else _encode(response, version, correlation)
        except Exception as error:
            # the codec and the handlers meet whatever a client may send: none of it may end the broker
            log.debug("%s", api.request.name, exc_info=True)
            raise NotUnderstood(f"{api.request.name} of version {version}: {error!r}") from error

    def _api_versions(self, _: Any, __: Client) -> Any:
        return self._api_versions_response(0)

    def _api_versions_response(self, error_code: int) -> Any:
        return ApiVersionsResponse(
            error_code=error_code,
            api_keys=[
                ApiVersionsResponse.ApiVersion(api_key=api.key, min_version=api.oldest, max_version=api.newest)
                for api in self._apis.values()
            ],
        )


def _encode(response: Any, version: int, correlation: int) -> bytes:
    response.API_VERSION = version
    response.with_header(correlation)
    encoded: bytes = response.encode(header=True, framed=True)
    return encoded
