"""TLS: the certificate is checked against the name, although an address is connected to."""

import ssl

import pytest
import trustme

from paceline_webhooks import Undelivered, Webhooks


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def served_as(receiver, authority, names, monkeypatch, tmp_path):
    """Make the receiver speak TLS under a name, and return the names that senders asked for."""

    def serve(name: str) -> list[str | None]:
        asked: list[str | None] = []
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(context)
        context.sni_callback = lambda _socket, sni, _context: asked.append(sni)
        receiver.server.context = context
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("PACELINE_WEBHOOKS_ALLOW_PRIVATE", "1")
        monkeypatch.setenv("PACELINE_WEBHOOKS_URL", f"https://hooks.example:{receiver.port}/hooks")
        names["hooks.example"] = [["127.0.0.1"]]
        return asked

    return serve


def test_the_certificate_of_the_name_is_asked_for_and_taken(served_as, receiver, event):
    asked = served_as("hooks.example")
    Webhooks().handle(event)
    assert asked == ["hooks.example"]
    (got,) = receiver.got
    assert got.headers["host"] == f"hooks.example:{receiver.port}"


@pytest.mark.parametrize("name", ["other.example", "127.0.0.1"])
def test_a_certificate_of_another_name_is_refused(served_as, receiver, event, name):
    served_as(name)
    with pytest.raises(Undelivered, match="certificate"):
        Webhooks().handle(event)
    assert not receiver.got


def test_a_certificate_of_nobody_known_is_refused(served_as, receiver, event, monkeypatch):
    served_as("hooks.example")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(Undelivered, match="certificate"):
        Webhooks().handle(event)
    assert not receiver.got


def test_a_receiver_that_speaks_no_tls_is_tried_again(served_as, receiver, event):
    served_as("hooks.example")
    receiver.server.context = None
    with pytest.raises(Undelivered, match="cannot be reached"):
        Webhooks().handle(event)
