"""The certificates that this machine trusts."""

import os
import ssl
from pathlib import Path

# Where distributions keep their certificates, for a Python that was built to look elsewhere.
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def machine_trust() -> ssl.SSLContext:
    """Return a client's context that trusts what this machine does, or what SSL_CERT_FILE and SSL_CERT_DIR name."""
    context = ssl.create_default_context()
    folder = ssl.get_default_verify_paths().capath
    if not context.cert_store_stats()["x509_ca"] and not (folder and any(Path(folder).iterdir())):
        found = next(filter(os.path.isfile, _CERTIFICATES), None)
        if found is not None:
            context.load_verify_locations(found)
    return context
