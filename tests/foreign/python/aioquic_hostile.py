"""Frames of QUIC that no honest client sends, by `aioquic`, against a gateway that echoes over HTTP/3: URL names the stage.

Each ends its own connection with the code of RFC 9000, and a neighbour is served meanwhile."""

import asyncio
import os
import ssl
import sys
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicFrameType

PROTOCOL_VIOLATION = 0x0A
CONNECTION_ID_LIMIT_ERROR = 0x09
FINAL_SIZE_ERROR = 0x06
FLOW_CONTROL_ERROR = 0x03
STREAM_LIMIT_ERROR = 0x04

url = urlsplit(sys.argv[1])


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.terminated = asyncio.get_running_loop().create_future()
        self.answers = asyncio.Queue()
        self.frames = []
        ping = self._quic._write_ping_frame

        def write_with_frames(builder, uids=[], comment=""):
            ping(builder, uids, comment)
            for kind, write in self.frames[:20]:
                write(builder.start_frame(kind, capacity=64))
            del self.frames[:20]

        self._quic._write_ping_frame = write_with_frames

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated) and not self.terminated.done():
            self.terminated.set_result(event.error_code)
        for event in self.http.handle_event(event):
            if isinstance(event, (HeadersReceived, DataReceived)):
                self.answers.put_nowait(event)

    async def flush(self):
        """Sends the frames, some in each packet."""
        while self.frames and not self.terminated.done():
            self._quic.send_ping(len(self.frames))
            self.transmit()
            await asyncio.sleep(0)


@asynccontextmanager
async def connected():
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
    async with connect(url.hostname, url.port, configuration=configuration, create_protocol=Client) as client:
        yield client


async def is_served(client):
    stream = client._quic.get_next_available_stream_id()
    head = {":method": "CONNECT", ":scheme": "https", ":authority": url.netloc, ":path": "/nowhere", ":protocol": "websocket"}
    head = head | {"sec-websocket-version": "13"}
    client.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in head.items()])
    client.transmit()
    answer = await client.answers.get()
    assert (b":status", b"403") in answer.headers, answer


async def ends(frames, code):
    async with connected() as neighbour, connected() as client:
        await client.ping()
        client.frames.extend(frames)
        await client.flush()
        ended = await client.terminated
        assert ended == code, ended
        await is_served(neighbour)


def new_connection_id(number, own):
    """The id with this number, which retires all before it. It is the client's own one, so that it understands the server."""

    def write(buffer):
        buffer.push_uint_var(number)
        buffer.push_uint_var(number)
        buffer.push_uint8(len(own))
        buffer.push_bytes(own)
        buffer.push_bytes(os.urandom(16))

    return QuicFrameType.NEW_CONNECTION_ID, write


def numbers(kind, *values):
    def write(buffer):
        for value in values:
            buffer.push_uint_var(value)

    return kind, write


async def retirement_of_an_id_that_was_never_issued():
    await ends([numbers(QuicFrameType.RETIRE_CONNECTION_ID, 1_000_000)], PROTOCOL_VIOLATION)


async def retirements_that_are_never_acknowledged():
    async with connected() as neighbour, connected() as client:
        await client.ping()
        quic = client._quic
        quic._write_ack_frame = lambda builder, space, now: None
        handlers = quic._QuicConnection__frame_handlers
        _, epochs = handlers[QuicFrameType.RETIRE_CONNECTION_ID]
        handlers[QuicFrameType.RETIRE_CONNECTION_ID] = (lambda context, kind, buffer: buffer.pull_uint_var(), epochs)
        for number in range(20, 100_000):
            client.frames.append(new_connection_id(number, quic._host_cids[0].cid))
            if number % 200 == 0:
                # It does not wait for acknowledgements either.
                quic._loss._cc.congestion_window = 1 << 30
                await client.flush()
                await asyncio.sleep(0.001)
            if client.terminated.done():
                break
        assert await client.terminated == CONNECTION_ID_LIMIT_ERROR, client.terminated
        await is_served(neighbour)


async def stream_beyond_those_that_are_allowed():
    await ends([numbers(QuicFrameType.MAX_STREAM_DATA, 4 * 10_000, 1)], STREAM_LIMIT_ERROR)


async def reset_beyond_the_window():
    await ends([numbers(QuicFrameType.RESET_STREAM, 0, 0x10C, 1 << 40)], FLOW_CONTROL_ERROR)


async def two_ends_of_one_stream():
    frames = [numbers(QuicFrameType.RESET_STREAM, 0, 0x10C, size) for size in (1, 2)]
    await ends(frames, FINAL_SIZE_ERROR)


async def client_that_changes_its_id_again_and_again_is_served():
    async with connected() as client:
        for _ in range(500):
            client._quic.change_connection_id()
            await client.ping()
        await is_served(client)


async def main():
    for test in (
        retirement_of_an_id_that_was_never_issued,
        retirements_that_are_never_acknowledged,
        stream_beyond_those_that_are_allowed,
        reset_beyond_the_window,
        two_ends_of_one_stream,
        client_that_changes_its_id_again_and_again_is_served,
    ):
        await asyncio.wait_for(test(), 60)
        print("ok", test.__name__, flush=True)


asyncio.run(main())
