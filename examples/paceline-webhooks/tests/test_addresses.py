"""Where a webhook may go: each address of the host is looked at, and no other is connected to."""

import socket
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from webhook_receiver import answer

from paceline_webhooks import Refused, Undelivered, Webhooks
from paceline_webhooks.addresses import objection

PUBLIC = ["8.8.8.8", "93.184.216.34", "172.15.0.1", "172.32.0.1", "100.63.0.1", "2606:4700::1111"]
PRIVATE = [
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.0.1"),
    *("127.0.0.1", "127.255.0.1", "::1", "fc00::1", "fd12:3456::1"),
    *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::192.168.1.1"),
]
NEVER = [
    *("0.0.0.0", "169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "168.63.129.16"),
    *("64:ff9b::169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254"),
    *(
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "198.19.255.255",
        "169.254.255.255",
        "0.255.255.255",
    ),
    *("198.51.100.1", "203.0.113.1", "192.0.0.8", "192.88.99.1"),
    *("::", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "2001:db8::1", "100::1", "::10.0.0.1"),
    *("2002:7f00:1::", "2001:0:7f00:1::", "64:ff9b:1::1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_let_in(address):
    assert objection(address, private=False) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_let_in_only_if_allowed(address):
    assert objection(address, private=False) == "a private address"
    assert objection(address, private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_where_no_receiver_can_be_is_never_let_in(address):
    assert objection(address, private=False)
    assert objection(address, private=True)


ANY = st.ip_addresses() | st.sampled_from([*PUBLIC, *PRIVATE, *NEVER]).map(ip_address)
# The one range that a resolver of an IPv6-only network answers with, for public receivers too.
TRANSLATED = ip_network("64:ff9b::/96")


@given(ANY)
@example(IPv6Address("64:ff9b::808:808"))
def test_what_is_let_in_is_global_for_python_too(address):
    if objection(str(address), private=False) is None and address not in TRANSLATED:
        inner = getattr(address, "ipv4_mapped", None) or address
        assert inner.is_global
        assert not inner.is_multicast


@given(st.ip_addresses(v=4), st.booleans())
def test_an_ipv4_address_inside_ipv6_is_judged_as_itself(address, private):
    said = objection(str(address), private=private)
    for prefix in ("::ffff:", "64:ff9b::"):
        assert objection(f"{prefix}{address}", private=private) == said


@given(st.ip_addresses())
def test_allowing_private_addresses_refuses_none_that_was_let_in(address):
    if objection(str(address), private=False) is None:
        assert objection(str(address), private=True) is None


@pytest.fixture
def public_only(webhooks, monkeypatch, receiver, names):
    """A handler for `hooks.example`, with private addresses not allowed."""
    monkeypatch.delenv("PACELINE_WEBHOOKS_ALLOW_PRIVATE")
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", f"https://hooks.example:{receiver.port}/hooks")
    return Webhooks()


def test_a_name_that_leads_to_this_machine_is_refused_before_anything_is_sent(
    public_only, names, event, receiver, monkeypatch
):
    connected = []
    monkeypatch.setattr(socket.socket, "connect", lambda *told: connected.append(told))
    names["hooks.example"] = [["127.0.0.1"]]
    with pytest.raises(Refused, match=r"hooks\.example is at 127\.0\.0\.1, a private") as raised:
        public_only.handle(event)
    assert raised.value.pause is True
    assert "PACELINE_WEBHOOKS_ALLOW_PRIVATE=1" in str(raised.value)
    assert not connected
    assert not receiver.got


@pytest.mark.parametrize("wrong", ["127.0.0.1", "169.254.169.254", "::1"])
@pytest.mark.parametrize("place", [0, 1])
def test_one_wrong_address_among_good_ones_refuses_the_name(
    public_only, names, event, monkeypatch, wrong, place
):
    # Nothing may leave this machine, also not if this test fails.
    monkeypatch.setattr("paceline_webhooks.sending.httpx2.AsyncClient", None)
    addresses = ["93.184.216.34"]
    addresses.insert(place, wrong)
    names["hooks.example"] = [addresses]
    with pytest.raises(Refused, match=wrong):
        public_only.handle(event)


@pytest.mark.parametrize("written", ["2130706433", "0x7f.1", "127.1", "localhost"])
def test_another_way_to_write_this_machine_is_refused(webhooks, monkeypatch, event, written):
    monkeypatch.delenv("PACELINE_WEBHOOKS_ALLOW_PRIVATE")
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", f"https://{written}/")
    with pytest.raises(Refused, match=r"127\.0\.0\.1|::1"):
        Webhooks().handle(event)


def test_the_cloud_s_address_is_refused_even_where_private_ones_are_allowed(
    webhooks, names, event, monkeypatch
):
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", "http://hooks.example/")
    names["hooks.example"] = [["169.254.169.254"]]
    with pytest.raises(Refused, match="a cloud") as raised:
        Webhooks().handle(event)
    assert "ALLOW_PRIVATE" not in str(raised.value)


@pytest.fixture
def named(webhooks, monkeypatch, receiver, names):
    """A handler that sends to the receiver by the name `hooks.example`."""
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", f"http://hooks.example:{receiver.port}/hooks?a=1")
    return Webhooks()


def test_a_name_is_looked_up_once_and_the_host_is_kept(named, names, event, receiver):
    names["hooks.example"] = [["127.0.0.1"], ["127.0.0.2"]]  # rebound after the check
    named.handle(event)
    assert names["hooks.example"] == [["127.0.0.2"]]
    (got,) = receiver.got
    assert got.headers["host"] == f"hooks.example:{receiver.port}"
    assert got.path == "/hooks?a=1"


def test_the_next_address_is_tried_where_the_first_takes_no_connection(
    named, names, event, receiver
):
    names["hooks.example"] = [["127.0.0.9", "127.0.0.1"]]
    named.handle(event)
    assert len(receiver.got) == 1


def test_the_next_address_is_not_tried_once_something_was_sent(named, names, event, receiver):
    names["hooks.example"] = [["127.0.0.1", "::ffff:127.0.0.1"]]
    receiver.does(lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), answer(204))
    with pytest.raises(Undelivered):
        named.handle(event)
    assert len(receiver.got) == 1


def test_a_name_that_nobody_knows_is_tried_again(named, event, monkeypatch):
    def unknown(*told, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Undelivered, match=r"hooks\.example:.* cannot be reached: .*not known"):
        named.handle(event)


def test_a_resolver_that_hangs_is_given_up_on_in_time(named, event, monkeypatch):
    let_go, answered = threading.Event(), threading.Event()

    def hang(*told, **options):
        let_go.wait(60)
        answered.set()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    named.answer_s = 0.3
    with pytest.raises(Undelivered, match=r"did not answer in 0\.3 s"):
        named.handle(event)
    assert not answered.is_set()
    let_go.set()
    for thread in threading.enumerate():
        if thread.name == "look-up":
            thread.join(60)
    assert answered.is_set()


def test_the_tables_hold_both_kinds_of_addresses():
    assert {type(ip_address(address)) for address in PUBLIC} == {IPv4Address, IPv6Address}
