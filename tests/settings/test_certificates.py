"""What the machine trusts is found where distributions keep it, also by a Python that looks elsewhere."""

import ssl
from pathlib import Path

import pytest

from mauntic_jobs.settings import certificates
from tests.delivery.authority import new_authority


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let Python find nothing by itself, and return a file of certificates that only a distribution knows."""
    file, paths = tmp_path / "ca-bundle.crt", ssl.get_default_verify_paths()
    file.write_text(new_authority().pem)
    folder = tmp_path / "certs"
    folder.mkdir()
    monkeypatch.setattr(ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths._replace(capath=str(folder)))
    monkeypatch.setattr(certificates, "_CERTIFICATES", ("/nowhere", str(file)))
    return folder


@pytest.mark.usefixtures("elsewhere")
def test_the_distributions_file_is_taken_where_python_finds_none() -> None:
    context = certificates.machine_trust()
    assert context.cert_store_stats()["x509_ca"] == 1
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_folder_that_python_looks_into_is_enough(elsewhere: Path) -> None:
    (elsewhere / "12345678.0").touch()
    assert certificates.machine_trust().cert_store_stats()["x509_ca"] == 0
