"""What tests share that run over OTLP/gRPC and over OTLP/HTTP."""
import pytest

PROTOCOLS = ("grpc", "http")

both = pytest.mark.parametrize("protocol", PROTOCOLS)
packed = pytest.mark.parametrize("compression", ("none", "gzip"))


def endpoint_at(protocol, port, secure=False):
    if protocol == "grpc":
        return f"127.0.0.1:{port}"
    return f"{'https' if secure else 'http'}://127.0.0.1:{port}/v1/traces"
