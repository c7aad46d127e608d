"""What the OTLP exporters make of answers that refuse all or a part of a request."""
import time

import pytest

from exporting import export, export_one
from protocols import PROTOCOLS, both
from receiving import Receiver


@both
def test_partial_success_counts_what_was_rejected(protocol, tmp_path):
    answers = ("partial:2;message=two are bad", "partial:0;message=slow down")
    with Receiver(protocol, tmp_path, *answers) as receiver:
        some, none = export(protocol, receiver.endpoint, sends=2)
        assert len(receiver.requests()) == 2  # Never sent again.
    assert (some["outcome"], some["rejected_spans"]) == ("delivered", 2)
    assert "rejected 2 spans" in some["message"] and "two are bad" in some["message"]
    assert (none["outcome"], none["rejected_spans"]) == ("delivered", 0)
    assert "warns" in none["message"] and "slow down" in none["message"]


REFUSALS = [
    # gRPC, HTTP, retried
    ("INVALID_ARGUMENT", 400, False),
    ("INTERNAL", 500, False),
    ("UNKNOWN", 408, False),
    ("UNAUTHENTICATED", 401, False),
    ("PERMISSION_DENIED", 403, False),
    ("UNIMPLEMENTED", 404, False),
    ("RESOURCE_EXHAUSTED", 413, False),
    ("FAILED_PRECONDITION", 501, False),
    ("UNAVAILABLE", 503, True),
    ("ABORTED", 502, True),
    ("DATA_LOSS", 504, True),
    ("OUT_OF_RANGE", 429, True),
    ("CANCELLED", 503, True),
    ("DEADLINE_EXCEEDED", 504, True),
]


@both
@pytest.mark.parametrize("grpc_code, http_code, retried", REFUSALS)
def test_refusals(protocol, grpc_code, http_code, retried, tmp_path):
    answer = refuse(protocol, (grpc_code, http_code), message="because")
    with Receiver(protocol, tmp_path, answer) as receiver:
        result = export_one(protocol, receiver.endpoint)
        assert len(receiver.requests()) == 1  # Retrying is not the exporter's to do.
    assert result["outcome"] == ("retry_after" if retried else "rejected")
    assert result["reason"] == "refused" and result["wait_ms"] is None
    assert "because" in result["message"] and receiver.where in result["message"]
    assert str(grpc_code if protocol == "grpc" else http_code) in result["message"]


@pytest.mark.parametrize("value, wait_ms", [("3", 3000), ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
                                            ("nonsense", None)])  # fmt: skip
@pytest.mark.parametrize("code", (503, 429))
def test_http_retry_after(code, value, wait_ms, tmp_path):
    with Receiver("http", tmp_path, f"refuse:{code};retry-after={value}") as receiver:
        result = export_one("http", receiver.endpoint)
    assert (result["outcome"], result["wait_ms"]) == ("retry_after", wait_ms)


def test_http_retry_after_as_a_date_to_come(tmp_path):
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 1000))
    with Receiver("http", tmp_path, f"refuse:503;retry-after={date}") as receiver:
        result = export_one("http", receiver.endpoint)
    assert result["outcome"] == "retry_after" and 0 < result["wait_ms"] <= 1_001_000


@pytest.mark.parametrize("code", ("UNAVAILABLE", "RESOURCE_EXHAUSTED"))
def test_grpc_retry_info(code, tmp_path):
    """RESOURCE_EXHAUSTED is retried with RetryInfo only (without: test_refusals)."""
    with Receiver("grpc", tmp_path, f"refuse:{code};retry-info-ms=1500") as receiver:
        result = export_one("grpc", receiver.endpoint)
    assert (result["outcome"], result["wait_ms"]) == ("retry_after", 1500)


def test_http_redirects_are_not_followed(tmp_path):
    with Receiver("http", tmp_path / "there") as there:
        with Receiver("http", tmp_path / "here", f"redirect:{there.endpoint}") as here:
            result = export_one("http", here.endpoint, compression="none")
        assert there.requests() == []
    assert result["outcome"] == "rejected" and there.endpoint in result["message"]


def refuse(protocol, code, **options):
    """An answer that refuses; `code` is (gRPC's, HTTP's)."""
    text = f"refuse:{code[PROTOCOLS.index(protocol)]}"
    return text + "".join(f";{key.replace('_', '-')}={value}" for key, value in options.items())
