import pathlib

import pytest

import certificates


@pytest.fixture(scope="session")
def certs(tmp_path_factory) -> pathlib.Path:
    return certificates.make_all(tmp_path_factory.mktemp("certificates"))
