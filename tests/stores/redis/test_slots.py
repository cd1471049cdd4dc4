import pytest
from redis.crc import key_slot

from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.slots import NodeAddress, SlotMap, has_tag, key_of, without_tag


@pytest.mark.parametrize("name", ["{mauntic}", "bull:{mauntic}", "{a}{b}", "{a{b}", "a}{b}", "a{b}c"])
def test_a_name_with_a_tag_keeps_all_its_keys_in_one_slot(name: str) -> None:
    assert has_tag(name)
    assert len({key_slot(f"{name}:{n}{{x}}".encode()) for n in range(20)}) == 1


@pytest.mark.parametrize("name", ["bull", "{}", "{}{a}", "a}b", "{a", ""])
def test_a_name_without_a_tag_does_not(name: str) -> None:
    assert not has_tag(name)
    assert len({key_slot(f"{name}:{n}".encode()) for n in range(20)}) > 1


def test_settings_without_a_tag_are_named() -> None:
    channels = {
        "email": {"prefix": "{mail}"},
        "sms": {"prefix": "sms"},
        "push": {"prefix": "push", "queue": "{send}-push"},
    }
    assert list(without_tag(Settings(channels=channels))) == ["queue_prefix", "channels.sms.prefix"]
    assert list(without_tag(Settings(queue_prefix="{mauntic}", channels={"sms": {"queue": "texts"}}))) == []


def test_the_key_of_a_command_is_known() -> None:
    assert key_of(("GET", "k")) == "k"
    assert key_of((b"EVALSHA", b"0" * 40, 2, "k", "l", "v")) == "k"
    assert [key_of(words) for words in (("PING",), ("CLIENT LIST",), ("config get", "save"))] == [None] * 3


def test_owners_are_read_and_moved() -> None:
    slots = SlotMap("{a}")
    asked = NodeAddress("10.0.0.9", 7000)
    slots.read(
        [[0, 8000, [b"", 7000, b"id", []]], [8001, 16382, [b"host", 7001, b"id"], [b"replica", 7002, b"id"]]], asked
    )
    assert slots.nodes() == [asked, NodeAddress("host", 7001)]
    slots.move(key_slot(b"k"), NodeAddress("new", 1))
    assert slots.owner_of("k") == NodeAddress("new", 1)
    slots.move(key_slot(b"a"), NodeAddress("home", 1))
    assert slots.owner_of(None) == slots.owner_of("{a}:x") == NodeAddress("home", 1)
