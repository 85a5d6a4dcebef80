"""The PyPI package `websockets` against a gateway that echoes: URL names the stage."""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

url = sys.argv[1]
trust = None
if url.startswith("wss:"):
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE


def opened(target=url, **options):
    return connect(target, ssl=trust, max_size=None, **options)


async def echoes():
    async with opened() as socket:
        # The client offers compression, and none is agreed on.
        assert "sec-websocket-extensions" in socket.request.headers
        assert socket.response.headers.get("sec-websocket-extensions") is None
        for message in ["", "hello", "κόσμε 🦀", "x" * 100_000, b"", bytes(range(256))]:
            await socket.send(message)
            assert await socket.recv() == message
        # Fragments.
        await socket.send(["frag", "", "ments"])
        assert await socket.recv() == "fragments"
        await asyncio.wait_for(await socket.ping(), 10)
        await socket.close(4001, "enough")
        assert (socket.close_code, socket.close_reason) == (4001, "enough")


async def many_at_once():
    async def one(number):
        async with opened() as socket:
            for turn in range(50):
                await socket.send(f"{number}.{turn}")
            for turn in range(50):
                assert await socket.recv() == f"{number}.{turn}"

    await asyncio.gather(*(one(number) for number in range(20)))


async def too_large():
    async with opened() as socket:
        await socket.send("x" * (128 * 1024 + 1))
        try:
            await socket.recv()
        except ConnectionClosedError as error:
            assert error.rcvd.code == 1009, error
        else:
            raise AssertionError("still open")


async def refused():
    try:
        async with opened(url.rsplit("/", 1)[0] + "/unknown"):
            raise AssertionError("let in")
    except InvalidStatus as error:
        assert error.response.status_code == 403
        assert error.response.body == b'{"message":"Forbidden"}'


async def main():
    for test in (echoes, many_at_once, too_large, refused):
        await asyncio.wait_for(test(), 60)
        print("ok", test.__name__)


asyncio.run(main())
