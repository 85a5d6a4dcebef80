"""The PyPI package `aioquic`, with the frames of `wsproto`, against a gateway that echoes over HTTP/3: URL names the stage."""

import asyncio
import ssl
import sys
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset
from wsproto import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

url = urlsplit(sys.argv[1])


class Http3(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.streams = {}
        self.terminated = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.terminated.set_result(event.error_code)
        if isinstance(event, StreamReset):
            self.streams[event.stream_id].put_nowait(event)
        for event in self.http.handle_event(event):
            if isinstance(event, (HeadersReceived, DataReceived)):
                self.streams[event.stream_id].put_nowait(event)

    async def request(self, path, **fields):
        stream = self._quic.get_next_available_stream_id()
        self.streams[stream] = asyncio.Queue()
        head = {":method": "CONNECT", ":scheme": "https", ":authority": url.netloc, ":path": path, ":protocol": "websocket"}
        head = head | {"sec-websocket-version": "13", "user-agent": "aioquic"} | fields
        self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in head.items()])
        self.transmit()
        answer = await self.streams[stream].get()
        headers = {name.decode(): value.decode() for name, value in answer.headers}
        return stream, int(headers.pop(":status")), headers


class WebSocket:
    def __init__(self, http3, stream):
        self.http3, self.stream = http3, stream
        self.frames = Connection(ConnectionType.CLIENT)

    def send(self, event, end=False):
        self.http3.http.send_data(self.stream, self.frames.send(event), end)
        self.http3.transmit()

    def send_message(self, message):
        self.send(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    async def receive(self):
        parts = []
        while True:
            for event in self.frames.events():
                if isinstance(event, Ping):
                    self.send(event.response())
                if isinstance(event, CloseConnection):
                    return event
                if isinstance(event, (TextMessage, BytesMessage)):
                    parts.append(event.data)
                    if event.message_finished:
                        return ("" if isinstance(event, TextMessage) else b"").join(parts)
            came = await self.http3.streams[self.stream].get()
            assert isinstance(came, DataReceived), came
            self.frames.receive_data(came.data or None)


@asynccontextmanager
async def connected():
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
    async with connect(url.hostname, url.port, configuration=configuration, create_protocol=Http3) as http3:
        yield http3


async def opened(http3):
    stream, status, _ = await http3.request(url.path)
    assert status == 200, status
    return WebSocket(http3, stream)


async def echoes():
    async with connected() as http3:
        socket = await opened(http3)
        for message in ["", "hello", "κόσμε 🦀", "x" * 100_000, b"", bytes(range(256))]:
            socket.send_message(message)
            assert await socket.receive() == message
        socket.send(CloseConnection(4001, "enough"), end=True)
        closed = await socket.receive()
        assert (closed.code, closed.reason) == (4001, "enough"), closed


async def many_at_once():
    async with connected() as http3:

        async def one(number):
            socket = await opened(http3)
            for turn in range(50):
                socket.send_message(f"{number}.{turn}")
            for turn in range(50):
                assert await socket.receive() == f"{number}.{turn}"

        await asyncio.gather(*(one(number) for number in range(20)))


async def too_large():
    async with connected() as http3:
        socket = await opened(http3)
        socket.send_message("x" * (128 * 1024 + 1))
        assert (await socket.receive()).code == 1009


async def refused():
    async with connected() as http3:
        stream, status, headers = await http3.request("/unknown")
        assert (status, headers["content-type"]) == (403, "application/json")
        body = b""
        while not (came := await http3.streams[stream].get()).stream_ended:
            body += came.data
        assert body + came.data == b'{"message":"Forbidden"}'
        for fields, expected in [({":protocol": "connect-udp"}, 501), ({"origin": "https://evil.example"}, 403)]:
            assert (await http3.request(url.path, **fields))[1] == expected
        await echo_once(http3)


async def echo_once(http3):
    socket = await opened(http3)
    socket.send_message("still here")
    assert await socket.receive() == "still here"


async def main():
    for test in (echoes, many_at_once, too_large, refused):
        await asyncio.wait_for(test(), 60)
        print("ok", test.__name__)


asyncio.run(main())
