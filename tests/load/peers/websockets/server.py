"""A room and an echo, as one writes them with Python's websockets: by five actions."""

import asyncio
import json
import os
import uuid

from websockets.asyncio.server import broadcast, serve

members = set()


async def handle(socket):
    identifier = str(uuid.uuid4())
    try:
        async for text in socket:
            match json.loads(text)["action"]:
                case "join":
                    members.add(socket)
                    await socket.send(text)
                case "leave":
                    members.discard(socket)
                    await socket.send(text)
                case "publish":
                    broadcast(members, text)
                case "echo":
                    await socket.send(text)
                case "who":
                    await socket.send(identifier)
    finally:
        members.discard(socket)


async def main():
    # The clients of the bench answer no pings while they wait.
    async with serve(handle, "127.0.0.1", int(os.environ["PORT"]), ping_interval=None) as server:
        await server.serve_forever()


asyncio.run(main())
