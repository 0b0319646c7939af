"""Vendors' services for tests: answers by URL, within the process and from a local server."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from casemate.attestation.collateral.fetching import NotFoundError, Request, Response
from casemate.attestation.collateral.wanted import Tdx, Vcek
from tests.attestation.sev_snp_maker import Platform
from tests.attestation.tdx_maker import TdxPlatform


def pem(*certificates: bytes) -> bytes:
    blocks = (base64.encodebytes(der) for der in certificates)
    return b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n" for text in blocks
    )


def vcek_of(platform: Platform) -> Vcek:
    report = platform.report()
    chip = report.chip_id[: platform.product.hardware_id_size]
    return Vcek(platform.product, chip, report.reported_tcb)


def tdx_of(platform: TdxPlatform) -> Tdx:
    return Tdx(platform.fmspc, "platform")


@dataclass
class Vendors:
    """AMD's key service and Intel's PCS for the platforms given, by path and query.

    `asked` counts questions by path; `before` runs before each answer and may raise.
    """

    snp: tuple[Platform, ...] = ()
    tdx: tuple[TdxPlatform, ...] = ()
    asked: Counter[str] = field(default_factory=Counter)
    before: Callable[[str], None] = lambda path: None

    def fetch(self, request: Request) -> Response:
        """The interface of a fetcher."""
        parts = urlsplit(request.url)
        self.asked[parts.path] += 1
        self.before(parts.path)
        answer = self.answer(parts.path, parts.query)
        if answer is None:
            raise NotFoundError(f"{request.url}: not found")
        return answer

    def answer(self, path: str, query: str) -> Response | None:
        for platform in self.snp:
            base = f"/vcek/v1/{platform.product.value}"
            if path == f"{base}/cert_chain":
                chain = (platform.ask_certificate.data, platform.ark_certificate.data)
                return Response(pem(*chain))
            if path == f"{base}/crl":
                return Response(platform.ark.revocation_list())
            if path == f"{base}/{vcek_of(platform).hardware_id.hex()}":
                levels = platform.levels
                if f"snpSPL={levels['snp']:02}" in query:
                    return Response(platform.signer_certificate.data)
        for host in self.tdx:
            if (found := _intel(host, path, query)) is not None:
                return found
        return None


def _intel(platform: TdxPlatform, path: str, query: str) -> Response | None:
    value = json.loads(platform.collateral().data)

    def signed(name: str, key: str) -> bytes:
        return f'{{"{name}":{value[key]},"signature":"{value[key + "_signature"]}"}}'.encode()

    tdx = "/tdx/certification/v4"
    if path == f"{tdx}/tcb" and query == f"fmspc={platform.fmspc.hex()}":
        chain = quote(value["tcb_info_issuer_chain"])
        return Response(signed("tcbInfo", "tcb_info"), {"tcb-info-issuer-chain": chain})
    if path == f"{tdx}/qe/identity":
        chain = quote(value["qe_identity_issuer_chain"])
        headers = {"sgx-enclave-identity-issuer-chain": chain}
        return Response(signed("enclaveIdentity", "qe_identity"), headers)
    if path == "/sgx/certification/v4/pckcrl":
        chain = quote(value["pck_crl_issuer_chain"])
        return Response(bytes.fromhex(value["pck_crl"]), {"sgx-pck-crl-issuer-chain": chain})
    if path.endswith(("IntelSGXRootCA.der", "rootcacrl")):
        return Response(bytes.fromhex(value["root_ca_crl"]))
    return None


@contextmanager
def serving(vendors: Vendors) -> Iterator[str]:
    """The same over HTTP on a local port; the base URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            vendors.asked[parts.path] += 1
            if parts.path == "/limited":
                self._send(429, b"", {"retry-after": "77"})
                return
            if parts.path == "/huge":
                self._send(200, b"x" * (5 * 1024 * 1024), {})
                return
            if parts.path == "/moved":
                self._send(302, b"", {"location": "/huge"})
                return
            answer = vendors.answer(parts.path, parts.query)
            if answer is None:
                self._send(404, b"", {})
            else:
                self._send(200, answer.body, dict(answer.headers))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self._send(200, body, {"x-type": self.headers["content-type"]})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
