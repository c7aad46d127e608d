"""TLS to backends, and the sentences about certificates that are wrong."""
import re

import pytest

from exporting import export_one
from protocols import both, endpoint_at, packed
from receiving import Receiver


@both
@packed
def test_tls(protocol, compression, certs, tmp_path):
    with Receiver(protocol, tmp_path, tls=certs / "server.pem") as receiver:
        result = export_one(protocol, receiver.endpoint, secure=1, ca=certs / "ca.pem", compression=compression,
                            spans=1000, attribute_bytes=1000)  # fmt: skip
        assert result["outcome"] == "delivered"
        assert len(receiver.spans()) == 1000


BAD_CERTIFICATES = {
    "wrong CA": ("server.pem", "other-ca.pem", "wrong CA"),
    "system's CAs": ("server.pem", None, "wrong CA"),
    "wrong name": ("wrong-name.pem", "ca.pem", "another name"),
    "expired": ("expired.pem", "ca.pem", "has expired"),
}


@both
@pytest.mark.parametrize("case", BAD_CERTIFICATES)
def test_certificates_that_are_not_accepted(protocol, case, certs, tmp_path):
    certificate, ca, words = BAD_CERTIFICATES[case]
    with Receiver(protocol, tmp_path, tls=certs / certificate) as receiver:
        options = {"ca": certs / ca} if ca else {}
        result = export_one(protocol, receiver.endpoint, secure=1, **options)
        assert receiver.requests() == []
    assert result["outcome"] == "retry_after"
    assert words in result["message"] and receiver.where in result["message"]


@both
@pytest.mark.parametrize("certificate", ("expired.pem", "wrong-name.pem"))
def test_insecure_skip_verify_accepts_any(protocol, certificate, certs, tmp_path):
    with Receiver(protocol, tmp_path, tls=certs / certificate) as receiver:
        assert export_one(protocol, receiver.endpoint, secure=1, skip_verify=1)["outcome"] == "delivered"


@both
def test_server_name_override(protocol, certs, tmp_path):
    with Receiver(protocol, tmp_path, tls=certs / "wrong-name.pem") as receiver:
        options = {"secure": 1, "ca": certs / "ca.pem"}
        named = export_one(protocol, receiver.endpoint, server_name="elsewhere.example", **options)
        wrong = export_one(protocol, receiver.endpoint, server_name="nowhere.example", **options)
        assert len(receiver.requests()) == 1
    assert named["outcome"] == "delivered"
    assert wrong["outcome"] == "retry_after" and "another name" in wrong["message"]


@both
def test_client_certificates(protocol, certs, tmp_path):
    with Receiver(protocol, tmp_path, tls=certs / "server.pem", client_ca=certs / "ca.pem") as receiver:

        def send(**options):
            return export_one(protocol, receiver.endpoint, secure=1, ca=certs / "ca.pem", **options)

        missing = send()
        strange = send(cert=certs / "other-client.pem", key=certs / "other-client.key")
        assert receiver.requests() == []
        right = send(cert=certs / "client.pem", key=certs / "client.key")
        assert len(receiver.requests()) == 1
    assert missing["outcome"] == "retry_after" and "tls.cert_file" in missing["message"]
    assert "client certificate" in missing["message"]
    # Which of the two depends on the alert that the receiver's TLS library sends.
    assert strange["outcome"] == "retry_after"
    assert re.search("does not (accept|trust) the client certificate", strange["message"]), strange["message"]
    assert right["outcome"] == "delivered"


@both
def test_tls_to_a_plain_port_is_named(protocol, certs, tmp_path):
    with Receiver(protocol, tmp_path) as receiver:
        endpoint = endpoint_at(protocol, receiver.port, secure=True)
        result = export_one(protocol, endpoint, secure=1, ca=certs / "ca.pem")
    assert result["outcome"] == "retry_after" and "does not speak TLS" in result["message"]


@both
def test_plain_text_to_a_tls_port_is_retried(protocol, certs, tmp_path):
    with Receiver(protocol, tmp_path, tls=certs / "server.pem") as receiver:
        result = export_one(protocol, endpoint_at(protocol, receiver.port))
        assert receiver.requests() == []
    assert result["outcome"] == "retry_after"


def test_http_speaks_http2_where_tls_agrees_on_it(certs, tmp_path):
    """A gRPC server speaks nothing else. It does not like the request, but it says so in HTTP/2."""
    with Receiver("grpc", tmp_path, tls=certs / "server.pem") as receiver:
        result = export_one("http", f"https://{receiver.where}/v1/traces", secure=1, ca=certs / "ca.pem")
    assert "HTTP/2 stream" in result["message"] or "answered HTTP" in result["message"], result
