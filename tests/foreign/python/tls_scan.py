"""The PyPI package `sslyze` against a TLS listener: PORT on this machine. A line "ok" for each thing that holds."""

import sys

from sslyze import ScanCommand, Scanner, ServerNetworkLocation, ServerScanRequest

COMMANDS = {
    ScanCommand.SSL_2_0_CIPHER_SUITES,
    ScanCommand.SSL_3_0_CIPHER_SUITES,
    ScanCommand.TLS_1_0_CIPHER_SUITES,
    ScanCommand.TLS_1_1_CIPHER_SUITES,
    ScanCommand.TLS_1_2_CIPHER_SUITES,
    ScanCommand.TLS_1_3_CIPHER_SUITES,
    ScanCommand.TLS_COMPRESSION,
    ScanCommand.TLS_1_3_EARLY_DATA,
    ScanCommand.SESSION_RENEGOTIATION,
    ScanCommand.HEARTBLEED,
    ScanCommand.ROBOT,
    ScanCommand.OPENSSL_CCS_INJECTION,
}


def scan(port):
    place = ServerNetworkLocation(hostname="localhost", port=port, ip_address="127.0.0.1")
    scanner = Scanner()
    scanner.queue_scans([ServerScanRequest(server_location=place, scan_commands=COMMANDS)])
    (result,) = scanner.get_results()
    assert result.scan_result is not None, result.connectivity_error_trace
    return result.scan_result


def result(attempt):
    assert attempt.result is not None, (attempt.error_reason, attempt.error_trace)
    return attempt.result


def accepted(attempt):
    return [suite.cipher_suite.name for suite in result(attempt).accepted_cipher_suites]


def check(name, holds, seen):
    assert holds, f"{name}: {seen}"
    print("ok", name, "-", seen)


found = scan(int(sys.argv[1]))
for name in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
    suites = accepted(getattr(found, f"{name}_cipher_suites"))
    check(f"no {name}", not suites, suites)
suites = accepted(found.tls_1_2_cipher_suites)
forward_secret = all(suite.startswith("TLS_ECDHE_") for suite in suites)
authenticated = all("_GCM_" in suite or "_CHACHA20_" in suite for suite in suites)
check("tls_1_2 with forward secrecy and authenticated ciphers alone", suites and forward_secret and authenticated, suites)
suites = accepted(found.tls_1_3_cipher_suites)
check("tls_1_3", suites, suites)
check("no compression", not result(found.tls_compression).supports_compression, "none")
check("no early data", not result(found.tls_1_3_early_data).supports_early_data, "none")
renegotiation = result(found.session_renegotiation)
check(
    "no renegotiation",
    not renegotiation.is_vulnerable_to_client_renegotiation_dos,
    f"secure: {renegotiation.supports_secure_renegotiation}",
)
check("no Heartbleed", not result(found.heartbleed).is_vulnerable_to_heartbleed, "not vulnerable")
check("no ROBOT", result(found.robot).robot_result.name.startswith("NOT_VULNERABLE"), result(found.robot).robot_result.name)
check("no CCS injection", not result(found.openssl_ccs_injection).is_vulnerable_to_ccs_injection, "not vulnerable")
