#!/usr/bin/env python3
"""Makes the certificates that TLS tests need, fresh at each run: `certificates.py DIRECTORY`.

    ca.pem                    signs server, expired, wrong-name and client
    other-ca.pem              signs nothing that the server shows: the wrong CA
    server.pem, .key          for localhost, 127.0.0.1 and ::1
    expired.pem, .key         the same, but its time is over
    wrong-name.pem, .key      for elsewhere.example only
    client.pem, .key          what mTLS asks for
    other-client.pem, .key    signed by other-ca.pem
"""
import pathlib
import subprocess
import sys

HERE = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


def make_key(name, cwd):
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-out", f"{name}.key", cwd=cwd)  # fmt: skip


def make_ca(name, cwd):
    make_key(name, cwd)
    openssl("req", "-x509", "-new", "-key", f"{name}.key", "-subj", f"/CN=oteld test {name}",
            "-days", "2", "-out", f"{name}.pem", cwd=cwd)  # fmt: skip


def make_leaf(name, ca, extension, cwd, period=("20200101000000Z", None)):
    """`openssl ca` and not `openssl x509`: only it can sign for a time that is over."""
    make_key(name, cwd)
    openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN=oteld test {name}",
            "-out", f"{name}.csr", cwd=cwd)  # fmt: skip
    (cwd / f"{name}.cnf").write_text(
        "[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\nnew_certs_dir=issued\nrand_serial=yes\n"
        "default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
        f"[leaf]\n{extension}\n"
    )
    (cwd / "index.txt").touch()
    start, end = period
    until = ["-enddate", end] if end else ["-days", "2"]
    openssl("ca", "-batch", "-notext", "-config", f"{name}.cnf", "-extensions", "leaf",
            "-cert", f"{ca}.pem", "-keyfile", f"{ca}.key", "-in", f"{name}.csr",
            "-startdate", start, *until, "-out", f"{name}.pem", cwd=cwd)  # fmt: skip


def make_all(directory):
    cwd = pathlib.Path(directory)
    (cwd / "issued").mkdir(parents=True, exist_ok=True)
    make_ca("ca", cwd)
    make_ca("other-ca", cwd)
    make_leaf("server", "ca", HERE, cwd)
    make_leaf("expired", "ca", HERE, cwd, ("20200101000000Z", "20210101000000Z"))
    make_leaf("wrong-name", "ca", "subjectAltName=DNS:elsewhere.example", cwd)
    make_leaf("client", "ca", "extendedKeyUsage=clientAuth", cwd)
    make_leaf("other-client", "other-ca", "extendedKeyUsage=clientAuth", cwd)
    return cwd


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make_all(sys.argv[1])
