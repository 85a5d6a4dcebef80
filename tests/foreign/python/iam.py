"""A handshake that AWS's own signer has signed: URL names the stage. The secret is in the environment, as a client has
it."""

import asyncio
import json
import sys

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.session import Session
from websockets.asyncio.client import connect

url = sys.argv[1]
credentials = Session().get_credentials()


def request():
    return AWSRequest("GET", url.replace("ws:", "http:"))


async def who(target, headers):
    async with connect(target, additional_headers=headers) as socket:
        await socket.send(json.dumps([{"do": "who"}]))
        return json.loads(await socket.recv())[0]["principal"]


async def by_header():
    signed = request()
    SigV4Auth(credentials, "execute-api", "eu-west-1").add_auth(signed)
    headers = {name: signed.headers[name] for name in ("Authorization", "X-Amz-Date")}
    assert await who(url, headers) == "backend"


async def presigned():
    signed = request()
    SigV4QueryAuth(credentials, "execute-api", "eu-west-1", expires=60).add_auth(signed)
    assert await who(signed.url.replace("http:", "ws:"), {}) == "backend"


for case in (by_header, presigned):
    asyncio.run(case())
    print("ok", case.__name__)
