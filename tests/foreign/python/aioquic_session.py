"""The PyPI package `aioquic` as a WebTransport client of a gateway that echoes: URL names the stage."""

import asyncio
import ssl
import sys
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, FrameType, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic.configuration import QuicConfiguration

url = urlsplit(sys.argv[1])


class Http3(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic, enable_webtransport=True)
        self.streams = {}

    def quic_event_received(self, event):
        for event in self.http.handle_event(event):
            if isinstance(event, (HeadersReceived, DataReceived, WebTransportStreamDataReceived)):
                self.streams.setdefault(event.stream_id, asyncio.Queue()).put_nowait(event)

    async def request(self, path, **fields):
        stream = self._quic.get_next_available_stream_id()
        self.streams[stream] = asyncio.Queue()
        head = {":method": "CONNECT", ":scheme": "https", ":authority": url.netloc, ":path": path, ":protocol": "webtransport"}
        self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in (head | fields).items()])
        self.transmit()
        answer = await self.streams[stream].get()
        return stream, int(dict(answer.headers)[b":status"])


class Session:
    def __init__(self, http3, session):
        self.http3, self.session, self.received = http3, session, b""
        self.stream = http3.http.create_webtransport_stream(session)
        # aioquic reads the server's half of a stream that the client made as frames of HTTP/3: this marks it.
        with http3.http._get_or_create_stream(self.stream) as made:
            made.frame_type, made.session_id = FrameType.WEBTRANSPORT_STREAM, session
        http3.streams[self.stream] = asyncio.Queue()

    def send(self, message):
        binary = isinstance(message, bytes)
        payload, flag = (message, 0x80) if binary else (message.encode(), 0)
        length = len(payload)
        if length < 126:
            head = bytes([flag | length])
        elif length < 1 << 16:
            head = bytes([flag | 126]) + length.to_bytes(2, "big")
        else:
            head = bytes([flag | 127]) + length.to_bytes(8, "big")
        self.http3._quic.send_stream_data(self.stream, head + payload)
        self.http3.transmit()

    async def take(self, length):
        while len(self.received) < length:
            self.received += (await self.http3.streams[self.stream].get()).data
        taken, self.received = self.received[:length], self.received[length:]
        return taken

    async def receive(self):
        (first,) = await self.take(1)
        length = first & 0x7F
        if length == 126:
            length = int.from_bytes(await self.take(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.take(8), "big")
        payload = await self.take(length)
        return payload if first & 0x80 else payload.decode()

    def close(self, code, reason):
        payload = code.to_bytes(4, "big") + reason.encode()
        capsule = bytes.fromhex("6843") + bytes([len(payload)]) + payload
        self.http3.http.send_data(self.session, capsule, end_stream=True)
        self.http3.transmit()

    async def closed(self):
        data, ended = b"", False
        while not ended:
            event = await self.http3.streams[self.session].get()
            data, ended = data + event.data, event.stream_ended
        return data


@asynccontextmanager
async def connected():
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, max_datagram_frame_size=65536
    )
    async with connect(url.hostname, url.port, configuration=configuration, create_protocol=Http3) as http3:
        yield http3


async def opened(http3, target=url.path):
    session, status = await http3.request(target)
    assert status == 200, status
    return Session(http3, session)


async def echoes():
    async with connected() as http3:
        session = await opened(http3)
        for message in ["", "hello", "κόσμε 🦀", "x" * 100_000, b"", bytes(range(256))]:
            session.send(message)
            assert await session.receive() == message
        # Datagrams change nothing.
        http3.http.send_datagram(session.session, b"lost")
        session.send("behind it")
        assert await session.receive() == "behind it"
        session.close(4001, "enough")
        # The gateway ends its half, and says nothing more.
        assert await session.closed() == b""


async def many_at_once():
    async with connected() as http3:

        async def one(number):
            session = await opened(http3)
            for turn in range(50):
                session.send(f"{number}.{turn}")
            for turn in range(50):
                assert await session.receive() == f"{number}.{turn}"

        await asyncio.gather(*(one(number) for number in range(20)))


async def refused():
    async with connected() as http3:
        assert (await http3.request("/unknown"))[1] == 403
        assert (await http3.request(url.path, origin="https://evil.example"))[1] == 403


async def main():
    for test in (echoes, many_at_once, refused):
        await asyncio.wait_for(test(), 60)
        print("ok", test.__name__)


if __name__ == "__main__":
    asyncio.run(main())
