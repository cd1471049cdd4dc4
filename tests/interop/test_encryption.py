"""Configurations of providers, encrypted by Node and opened here, and the reverse."""

import json
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.delivery.sending.providers.config import encrypt, read_config
from tests.interop.node import node, require

KEY = "00112233445566778899aabbccddeeff" * 2
CONFIGS: list[dict[str, Any]] = [
    {},
    {"apiKey": 'SG.é😀"\\'},
    {"host": "smtp.example.com", "port": 587, "secure": False, "auth": {"user": "u", "pass": "p" * 1000}},
]


@pytest.fixture(autouse=True)
def _node() -> None:
    require("node")


def test_what_node_encrypts_is_opened_here() -> None:
    sealed = node("cipher.mjs", "encrypt", KEY, json.dumps(CONFIGS))
    assert [read_config(UUID(int=1), "ses", each, KEY).values for each in sealed] == CONFIGS


def test_what_is_encrypted_here_is_opened_by_node() -> None:
    sealed = [encrypt(each, KEY) for each in CONFIGS]
    assert node("cipher.mjs", "decrypt", KEY, json.dumps(sealed)) == CONFIGS
