"""How providers are configured: the keys of each type, and the platform's encryption."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner

from mauntic_jobs.delivery.sending.providers.config import ProviderError, encrypt, read_config
from mauntic_jobs.delivery.sending.providers.keys import problems, unknown_keys
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.ops.providers.list import list_providers
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.support import APP, command, environment, organization, run_program

KEY = "00112233445566778899aabbccddeeff" * 2
OTHER_KEY = "ff" * 32
# Encrypted by Node.
SEALED = (
    "pgmYooxb5nDhqXPN:"
    "aogVuKd/zsYMKNr+Fjl9Iv8NeOflX1jTBFblvabOHtvZvE+BsfLeyBIqwMzVG1b0uJTzR0ITT3fQkUAfgIK4X59ydbgMI/7oRw=="
)
OPENED = {"serverToken": "é-token", "from": "Acme <news@acme.test>"}
HIDDEN = "hunter2"

ACCOUNT = json.dumps({"type": "service_account", "client_email": "a@example.com", "private_key": HIDDEN})
VALID: dict[str, dict[str, Any]] = {
    "ses": {"region": "eu-west-1", "accessKeyId": "A", "secretAccessKey": HIDDEN},
    "sendgrid": {"apiKey": HIDDEN, "from": "news@acme.test"},
    "postmark": {"serverToken": HIDDEN},
    "custom_smtp": {"host": "smtp.acme.test", "port": 587, "secure": False, "auth": {"user": "u", "pass": HIDDEN}},
    "twilio": {"accountSid": "AC", "authToken": HIDDEN, "messagingServiceSid": "MG"},
    "fcm": {"projectId": "p", "serviceAccountKey": ACCOUNT},
}


@pytest.mark.parametrize("kind", VALID)
def test_a_complete_configuration_is_valid(kind: str) -> None:
    assert problems(kind, VALID[kind]) == []
    assert unknown_keys(kind, {**VALID[kind], "fromm": "x"}) == ["fromm"]


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("ses", {"region": ..., "secretAccessKey": ""}, ["region is missing", "secretAccessKey is missing"]),
        ("sendgrid", {"apiKey": {"key": HIDDEN}}, ["apiKey is not a text"]),
        ("postmark", {"serverToken": None}, ["serverToken is missing"]),
        ("postmark", {"serverToken": " \n"}, ["serverToken is missing"]),
        ("postmark", {"serverToken": "a\nb"}, ["serverToken has characters that it cannot have"]),
        ("postmark", {"serverToken": 5}, []),
        ("postmark", {"serverToken": True}, ["serverToken is not a text"]),
        ("custom_smtp", {"host": ...}, ["host is missing"]),
        ("custom_smtp", {"port": "65536"}, ["port is not a number between 1 and 65535"]),
        ("custom_smtp", {"port": True}, ["port is not a number between 1 and 65535"]),
        ("custom_smtp", {"port": "²"}, ["port is not a number between 1 and 65535"]),
        ("custom_smtp", {"secure": "yes"}, ["secure is neither true nor false"]),
        ("custom_smtp", {"auth": {"user": "u"}}, ["password is missing"]),
        ("custom_smtp", {"auth": ..., "password": HIDDEN}, ["username is missing"]),
        ("twilio", {"messagingServiceSid": ...}, ["fromNumber or messagingServiceSid is missing"]),
        ("fcm", {"serviceAccountKey": HIDDEN}, ["serviceAccountKey is not JSON"]),
        ("fcm", {"serviceAccountKey": "[]"}, ["serviceAccountKey is not a JSON object"]),
        (
            "fcm",
            {"serviceAccountKey": {"type": "service_account"}},
            ["serviceAccountKey has no client_email", "serviceAccountKey has no private_key"],
        ),
        ("fcm", {"serviceAccountKey": "{}"}, ["serviceAccountKey is not the key of a service account"]),
        ("fcm", {"serviceAccountKey": json.loads(ACCOUNT)}, []),
        ("fcm", {"projectId": "", "serviceAccountKey": ...}, ["projectId is missing", "serviceAccountKey is missing"]),
        ("twilio", {"authToken": ..., "apiKeySid": "SK"}, ["apiKeySecret is missing"]),
        ("twilio", {"authToken": ..., "apiKeySid": "SK", "apiKeySecret": HIDDEN}, []),
    ],
)
def test_what_is_wrong_with_a_configuration_is_named_by_its_keys(
    kind: str, changes: dict[str, Any], expected: list[str]
) -> None:
    values = {name: value for name, value in {**VALID[kind], **changes}.items() if value is not ...}
    assert problems(kind, values) == expected


def test_a_type_that_is_none_is_named_with_those_there_are() -> None:
    assert problems("fax", {}) == ["there is no type 'fax', only ses, sendgrid, postmark, custom_smtp, twilio, fcm"]


def test_what_node_encrypted_is_opened() -> None:
    assert read_config(UUID(int=1), "postmark", SEALED, KEY).values == OPENED


def test_every_flipped_byte_is_refused() -> None:
    iv, sealed = (base64.b64decode(part) for part in encrypt(OPENED, KEY).split(":"))
    for place in range(len(iv) + len(sealed)):
        flipped = bytearray(iv + sealed)
        flipped[place] ^= 1
        parts = (base64.b64encode(part).decode() for part in (flipped[: len(iv)], flipped[len(iv) :]))
        with pytest.raises(ProviderError, match="does not open"):
            read_config(UUID(int=1), "postmark", ":".join(parts), KEY)


def test_a_configuration_is_never_encrypted_twice_with_one_iv() -> None:
    assert len({encrypt(OPENED, KEY).partition(":")[0] for _ in range(100)}) == 100


def _add(settings: Settings, kind: str, config: Any, channel: str = "email", **columns: Any) -> UUID:
    provider = uuid4()
    row = {"organization_id": organization(1), "priority": 0, "is_active": True, **columns}
    with connect(settings) as session:
        session.execute(
            b"INSERT INTO delivery.provider_configs"
            b" (id, organization_id, channel, provider_type, config, priority, is_active)"
            b" VALUES (%(id)s, %(organization_id)s, %(channel)s, %(kind)s, %(config)s::jsonb, %(priority)s,"
            b" %(is_active)s)",
            {"id": provider, "kind": kind, "config": json.dumps(config), "channel": channel, **row},
        )
    return provider


def test_providers_are_listed_in_the_order_in_which_they_are_tried(direct_settings: Settings) -> None:
    plain = _add(direct_settings, "sendgrid", VALID["sendgrid"])
    first = _add(direct_settings, "ses", encrypt(VALID["ses"], KEY), priority=5)
    wrong = _add(direct_settings, "twilio", encrypt({"accountSid": "AC"}, OTHER_KEY), "sms", is_active=False)
    _add(direct_settings, "fcm", VALID["fcm"], "sms", organization_id=organization(2))
    arguments = ("providers", "list", "--org", str(organization(1)))
    for more in ((), ("--json",)):
        done = run_program(*arguments, *more, settings=direct_settings, ENCRYPTION_KEY=KEY)
        assert (done.returncode, done.stderr, HIDDEN in done.stdout) == (ExitCode.DONE, "", False)
        assert all(str(each) in done.stdout for each in (organization(1), first, plain, wrong))
    shown = [(row["provider"], row["stored"], row["active"], row["state"]) for row in json.loads(done.stdout)]
    assert shown == [
        (str(first), "encrypted", True, "valid"),
        (str(plain), "plain", True, "valid"),
        (str(wrong), "encrypted", False, "its configuration does not open with ENCRYPTION_KEY"),
    ]
    with connect(direct_settings) as session:
        (other,) = list_providers(session, direct_settings, organization(2))
    assert other.problem == "fcm is for push, not for sms"


def _encrypt(kind: str, file: Path, key: str | None = KEY) -> Any:
    arguments = ["providers", "encrypt", "--type", kind, "--file", str(file)]
    return CliRunner().invoke(APP, arguments, env={"ENCRYPTION_KEY": key})


@pytest.mark.parametrize("kind", VALID)
def test_a_configuration_is_encrypted_for_the_column(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps({**VALID[kind], "note": 1}).encode())
    done = _encrypt(kind, file)
    assert (done.exit_code, "has no note" in done.stderr) == (ExitCode.DONE, True)
    assert read_config(UUID(int=1), kind, json.loads(done.stdout), KEY).values == {**VALID[kind], "note": 1}


def test_a_configuration_may_come_on_standard_input() -> None:
    done = subprocess.run(
        command("providers", "encrypt", "--type", "postmark", "--file", "-"),
        input=json.dumps(VALID["postmark"]).encode(),
        capture_output=True,
        check=True,
        env=environment(ENCRYPTION_KEY=KEY),
    )
    assert read_config(UUID(int=1), "postmark", json.loads(done.stdout), KEY).values == VALID["postmark"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"apiKey": "hunter2"', "is no JSON: Expecting ',' delimiter, in line 1, column 21"),
        (b'"hunter2"', "is no JSON object"),
        (b'{"apikey": "hunter2"}', "apiKey is missing"),
        (b'{"apiKey": "hunter2", "x": NaN}', "it has a NaN"),
        (b"\xff\xfe", "is not UTF-8"),
        (None, "Cannot read"),
    ],
)
def test_what_is_no_configuration_is_refused_without_repeating_it(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_bytes(content)
    done = _encrypt("sendgrid", file)
    assert (done.exit_code, done.stdout, HIDDEN in done.stderr) == (ExitCode.USAGE, "", False)
    assert words in done.stderr


def test_nothing_is_encrypted_without_a_key_or_for_no_type() -> None:
    done = _encrypt("sendgrid", Path("/dev/null"), key=None)
    assert (done.exit_code, "Set ENCRYPTION_KEY" in done.stderr) == (ExitCode.CONFIGURATION, True)
    done = _encrypt("fax", Path("/dev/null"))
    assert (done.exit_code, "There is no provider of the type fax" in done.stderr) == (ExitCode.USAGE, True)
