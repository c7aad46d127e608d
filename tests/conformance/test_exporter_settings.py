"""Settings that the OTLP exporters refuse before anything is sent, and the environment that they heed."""
import pytest

from exporting import export_one, refused_settings
from protocols import both, endpoint_at
from receiving import Receiver


@both
@pytest.mark.parametrize("option, key", [("ca", "tls.ca_file"), ("cert", "tls.cert_file"), ("key", "tls.key_file")])
def test_a_file_that_cannot_be_read_is_named_before_anything_is_sent(protocol, option, key, tmp_path):
    sentence = refused_settings(protocol, endpoint_at(protocol, 1, True), secure=1, **{option: tmp_path / "nothing"})
    assert key in sentence and f"{tmp_path}/nothing" in sentence


@both
@pytest.mark.parametrize("header", ["header_bad name", "header_bad:name"])
def test_a_header_that_cannot_be_sent_is_named(protocol, header):
    assert header.removeprefix("header_") in refused_settings(protocol, endpoint_at(protocol, 1), **{header: "x"})


@both
def test_a_header_cannot_smuggle_another(protocol):
    sentence = refused_settings(protocol, endpoint_at(protocol, 1), **{"header_x-a": "b\r\nx-evil: c"})
    assert "x-a" in sentence


def test_http_goes_through_the_proxy_that_the_environment_names(tmp_path, monkeypatch):
    with Receiver("http", tmp_path) as receiver:
        # To a plain proxy the whole URL is the request's path; our receiver serves any path.
        monkeypatch.setenv("http_proxy", f"http://{receiver.where}")
        monkeypatch.setenv("no_proxy", "")
        result = export_one("http", "http://behind.invalid/v1/traces")
        (request,) = receiver.requests()
    assert result["outcome"] == "delivered"
    assert request["path"] == "http://behind.invalid/v1/traces"
