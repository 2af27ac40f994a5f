"""What a broker's URL says, and what is refused."""

import pytest

from events.bus.rabbitmq_nodes import address, parameters
from events.errors import PacelineError


def test_each_node_of_a_cluster_has_the_same_user_vhost_and_options() -> None:
    url = "amqp://ada:s3cret@one:5673,two,[::1]:5674/staging?heartbeat=7"
    nodes = parameters(url, name="a test")
    assert [(one.host, one.port) for one in nodes] == [("one", 5673), ("two", 5672), ("::1", 5674)]
    assert {one.virtual_host for one in nodes} == {"staging"}
    assert {one.credentials.password for one in nodes} == {"s3cret"}
    assert address(url) == "amqp://one:5673,two,[::1]:5674/staging"


def test_each_node_must_show_a_certificate_of_its_own_name() -> None:
    nodes = parameters("amqps://ada:s3cret@one,two:5673/", name="a test")
    assert [one.ssl_options and one.ssl_options.server_hostname for one in nodes] == ["one", "two"]


@pytest.mark.parametrize(
    "url",
    [
        "http://guest:s3cret@localhost",
        "amqp://",
        "amqp://guest:s3cret@localhost:port/",
        "amqp://guest:s3cret@localhost,/",
        "amqp://guest:s3cret@localhost,elsewhere:port/",
        "amqp://guest:s3cret@[::1/",
        "amqp://guest:s3cret@localhost/?heartbeat=often",
        "amqps://guest:s3cret@localhost/?cafile=/nowhere/ca.pem",
        "amqps://guest:s3cret@localhost/?certfile=/nowhere/cert.pem&keyfile=/nowhere/key.pem",
    ],
)
def test_a_url_that_can_never_be_one_is_refused_at_once(url: str) -> None:
    with pytest.raises(PacelineError) as refused:
        parameters(url, name="a test")
    assert "s3cret" not in str(refused.value)
