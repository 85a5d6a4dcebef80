"""boto3, the AWS CLI and curl's library against the connections API: ENDPOINT names the stage, ID an open connection, STUCK one whose
client does not read. The secret is in the environment, as a backend has it."""

import datetime
import os
import subprocess
import sys

import boto3
import pycurl
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, connection, stuck = sys.argv[1:]
unknown = "AAAAAAAAAAAAAAAA"
once = Config(retries={"max_attempts": 1, "mode": "standard"})


def client(url=endpoint, **options):
    return boto3.client("apigatewaymanagementapi", endpoint_url=url, config=once, **options)


def code(call):
    """The code of the error that a call raises as a plain ClientError, whose class no model names."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError("no error")


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def posts():
    api = client()
    for data in [b"from boto3", "κόσμε".encode(), b"", bytes([0, 255])]:
        assert api.post_to_connection(ConnectionId=connection, Data=data)["ResponseMetadata"]["HTTPStatusCode"] == 200
    token = client(aws_session_token="a/session+token==")
    token.post_to_connection(ConnectionId=connection, Data=b"with a session token")


def describes():
    got = client().get_connection(ConnectionId=connection)
    assert got["Identity"]["SourceIp"] == "127.0.0.1", got
    now = datetime.datetime.now(datetime.timezone.utc)
    for time in (got["ConnectedAt"], got["LastActiveAt"]):
        assert abs(now - time) < datetime.timedelta(minutes=5), got


def raises_what_the_model_names():
    api = client()
    kinds = api.exceptions
    for call in (
        lambda: api.post_to_connection(ConnectionId=unknown, Data=b"x"),
        lambda: api.get_connection(ConnectionId=unknown),
        lambda: api.delete_connection(ConnectionId=unknown),
    ):
        raises(kinds.GoneException, call)
    large = b"x" * ((64 << 10) + 1)
    error = raises(kinds.PayloadTooLargeException, lambda: api.post_to_connection(ConnectionId=connection, Data=large))
    assert "65536" in error.response["Message"], error.response

    def fills():
        for _ in range(10_000):
            api.post_to_connection(ConnectionId=stuck, Data=large[:60_000])

    raises(kinds.LimitExceededException, fills)
    elsewhere = client(endpoint + "x")
    raises(elsewhere.exceptions.ForbiddenException, lambda: elsewhere.get_connection(ConnectionId=connection))


def names_other_errors():
    get = lambda **options: code(lambda: client(**options).get_connection(ConnectionId=connection))
    assert get(aws_secret_access_key="wrong", aws_access_key_id="AKIDBACKEND") == "InvalidSignatureException"
    assert get(aws_secret_access_key="wrong", aws_access_key_id="AKIDOTHER") == "UnrecognizedClientException"
    assert code(lambda: client().get_connection(ConnectionId="short")) == "BadRequestException"


def cli():
    aws = os.path.join(os.path.dirname(sys.executable), "aws")

    def run(*words):
        command = [aws, "apigatewaymanagementapi", *words, "--endpoint-url", endpoint]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    posted = run("post-to-connection", "--connection-id", connection, "--data", "from the AWS CLI")
    assert posted.returncode == 0, posted
    got = run("get-connection", "--connection-id", connection)
    assert got.returncode == 0 and "127.0.0.1" in got.stdout, got
    gone = run("delete-connection", "--connection-id", unknown)
    assert gone.returncode != 0 and "GoneException" in gone.stderr, gone


def curl():
    """What `curl --aws-sigv4` of the documentation does."""
    post = pycurl.Curl()
    post.setopt(pycurl.URL, f"{endpoint}/@connections/{connection}")
    post.setopt(pycurl.POSTFIELDS, "from curl")
    post.setopt(pycurl.AWS_SIGV4, "aws:amz:us-east-1:execute-api")
    post.setopt(pycurl.USERPWD, f"{os.environ['AWS_ACCESS_KEY_ID']}:{os.environ['AWS_SECRET_ACCESS_KEY']}")
    post.perform()
    assert post.getinfo(pycurl.RESPONSE_CODE) == 200, post.getinfo(pycurl.RESPONSE_CODE)


def deletes():
    api = client()
    api.delete_connection(ConnectionId=connection)
    raises(api.exceptions.GoneException, lambda: api.post_to_connection(ConnectionId=connection, Data=b"x"))


for case in (posts, describes, raises_what_the_model_names, names_other_errors, cli, curl, deletes):
    case()
    print("ok", case.__name__)
