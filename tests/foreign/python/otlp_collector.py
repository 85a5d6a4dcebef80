"""Collects traces and logs by OTLP with OpenTelemetry's own classes: by gRPC and by HTTP. Prints the address of each, and
then a line for each span and each log line."""

import http.server
import json
import sys
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc


SAYING = threading.Lock()


def say(**fields):
    with SAYING:
        print(json.dumps(fields), flush=True)


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def known(message):
    """Whether OpenTelemetry knows every field: an unknown one would be lost in a copy without them."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    return copy == message


def take_traces(request, by):
    for of_resource in request.resource_spans:
        service = attributes(of_resource.resource.attributes)["service.name"]
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                say(by=by, service=service, known=known(request), span=span.name, kind=span.kind,
                    trace=span.trace_id.hex(), id=span.span_id.hex(),
                    links=[link.span_id.hex() for link in span.links],
                    positive=span.end_time_unix_nano > span.start_time_unix_nano,
                    attributes=attributes(span.attributes))
    return traces.ExportTraceServiceResponse()


def take_logs(request, by):
    for of_resource in request.resource_logs:
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                say(by=by, known=known(request), line=record.body.string_value, severity=record.severity_text,
                    number=record.severity_number, trace=record.trace_id.hex(), id=record.span_id.hex(),
                    attributes=attributes(record.attributes))
    return logs.ExportLogsServiceResponse()


class Traces(traces_grpc.TraceServiceServicer):
    def Export(self, request, context):
        return take_traces(request, "grpc")


class Logs(logs_grpc.LogsServiceServicer):
    def Export(self, request, context):
        return take_logs(request, "grpc")


class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        kinds = {
            "/v1/traces": (traces.ExportTraceServiceRequest, take_traces),
            "/v1/logs": (logs.ExportLogsServiceRequest, take_logs),
        }
        kind, take = kinds[self.path]
        answer = take(kind.FromString(body), "http").SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = grpc.server(futures.ThreadPoolExecutor(2))
traces_grpc.add_TraceServiceServicer_to_server(Traces(), server)
logs_grpc.add_LogsServiceServicer_to_server(Logs(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Http)
threading.Thread(target=web.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{port}", flush=True)
print(f"http://127.0.0.1:{web.server_address[1]}", flush=True)
# Until the test has seen enough.
sys.stdin.read()
