"""The settings as rules, and the judgement of addresses by them."""

from itertools import chain

import pytest

from tollway.config import BadSettings, Settings
from tollway.upstream.guard_dial import is_ours
from tollway.upstream.guard_faults import FetchFault
from tollway.upstream.guard_rules import Rules, refuse_place, rules_of, vet
from tollway.upstream.guard_urls import read_url


def nobody(_address):
    return False


def vetted(allow, host, *addresses, ours=nobody):
    return vet(rules_of(Settings(fetch_allow=allow)), host, addresses, ours)


def test_settings_become_rules():
    rules = rules_of(
        Settings(
            fetch_allow="Files.lan, 10.1.2.3/16,minio , ::1, bücher.example",
            fetch_ports="443, 8443",
            fetch_max=7,
            fetch_timeout=3,
            connect_timeout=2,
            public_url="https://GW.example.com:8443/base",
        )
    )
    assert rules.hosts == {"files.lan", "minio", "xn--bcher-kva.example"}
    assert [str(one) for one in rules.networks] == ["10.1.0.0/16", "::1/128"]
    assert rules.ports == {443, 8443}
    assert rules.own_hosts == {"gw.example.com"}
    assert (rules.bytes_max, rules.timeout, rules.connect_timeout) == (7, 3.0, 2.0)


def test_nothing_inside_is_allowed_unless_it_is_said():
    assert rules_of(Settings()) == Rules()


@pytest.mark.parametrize(
    "entry", ["http://a.lan", "a.lan:80", "10.0.0.0/33", "a b", "a@b", "*", "*.lan", "127.1", "a/b"]
)
def test_an_entry_that_means_nothing_is_refused_at_the_start(entry):
    with pytest.raises(BadSettings, match="fetch_allow"):
        rules_of(Settings(fetch_allow=f"fine.lan, {entry}"))


@pytest.mark.parametrize("entry", ["https", "0", "65536", "-1", "８０", "80-90"])
def test_a_port_that_is_none_is_refused_at_the_start(entry):
    with pytest.raises(BadSettings, match="fetch_ports"):
        rules_of(Settings(fetch_ports=entry))


def test_public_addresses_are_vetted_in_their_order_and_once():
    found = vetted("", "h.example", "2606:4700::1", "1.1.1.1", "1.1.1.1", "::ffff:1.1.1.1")
    assert (found.addresses, found.public) == (("2606:4700::1", "1.1.1.1"), True)


INSIDE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "169.254.1.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "192.0.0.192",
    "100.100.100.200",
    "198.18.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%2",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "::127.0.0.1",
    "fec0::1",
    "garbage",
]


@pytest.mark.parametrize("address", INSIDE)
def test_one_address_inside_spoils_all_and_says_no_more_than_no_address_at_all(address):
    messages = set()
    for addresses in ([address], ["1.1.1.1", address], [address, "1.1.1.1"], []):
        with pytest.raises(FetchFault) as caught:
            vetted("", "h.example", *addresses)
        assert caught.value.kind == "forbidden"
        messages.add(caught.value.message)
    assert len(messages) == 1


def test_this_machine_is_not_fetched_from_by_its_public_address():
    with pytest.raises(FetchFault):
        vetted("", "h.example", "1.1.1.1", ours=lambda address: address == "1.1.1.1")
    assert vetted("1.1.1.1", "h.example", "1.1.1.1", ours=lambda _: True).addresses == ("1.1.1.1",)


def test_a_machine_knows_its_own_addresses():
    assert is_ours("127.0.0.1")
    assert not is_ours("1.1.1.1")
    assert not is_ours("2606:4700::1")


@pytest.mark.parametrize(
    ("allow", "host", "address", "public"),
    [
        ("10.0.0.0/8", "h.example", "10.1.2.3", False),
        ("10.0.0.0/8", "h.example", "::ffff:10.1.2.3", False),
        ("minio", "minio", "10.1.2.3", False),
        ("minio", "minio", "127.0.0.1", False),
        ("minio", "minio", "fd12::1", False),
        ("minio", "minio", "100.64.1.1", False),
        ("minio", "minio", "1.1.1.1", True),
        ("169.254.169.254", "h.example", "169.254.169.254", False),
        ("64:ff9b::/96", "h.example", "64:ff9b::808:808", False),
        ("64:ff9b::/96, 10.0.0.0/8", "h.example", "64:ff9b::a00:1", False),
    ],
)
def test_what_the_operator_allows_may_be_reached(allow, host, address, public):
    found = vetted(allow, host, address)
    assert (len(found.addresses), found.public) == (1, public)


@pytest.mark.parametrize(
    ("allow", "host", "address"),
    [
        ("10.0.0.0/8", "h.example", "11.0.0.1 10.0.0.1 192.168.0.1"),
        ("minio", "other", "10.1.2.3"),
        ("minio", "minio.h.example", "10.1.2.3"),
        ("minio", "minio", "169.254.169.254"),
        ("minio", "minio", "fd00:ec2::254"),
        ("minio", "minio", "169.254.1.1"),
        ("minio", "minio", "0.0.0.0"),
        ("minio", "minio", "224.0.0.1"),
        ("minio", "minio", "64:ff9b::7f00:1"),
        ("64:ff9b::/96", "h.example", "64:ff9b::a9fe:a9fe"),
        ("2002::/16", "h.example", "2002:7f00:1::"),
        ("::/0", "h.example", "::127.0.0.1 127.0.0.1"),
    ],
)
def test_what_the_operator_did_not_mean_stays_shut(allow, host, address):
    with pytest.raises(FetchFault):
        vetted(allow, host, *address.split())


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://h.example:8443/", "forbidden"),
        ("https://localhost/", "forbidden"),
        ("https://metadata.google.internal/", "forbidden"),
        ("https://printer.local/", "forbidden"),
        ("https://x.localhost/", "forbidden"),
        ("https://router.home.arpa/", "forbidden"),
        ("https://gw.example/v1/models", "forbidden"),
        ("https://10.0.0.1/", "forbidden"),
        ("https://[::1]/", "forbidden"),
        ("http://h.example/", "bad_url"),
    ],
)
def test_some_places_are_refused_before_anything_is_resolved(url, kind):
    with pytest.raises(FetchFault) as caught:
        refuse_place(rules_of(Settings(public_url="https://gw.example")), read_url(url), secure=True)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    "url", ["http://minio:9000/", "http://10.0.0.1:9000/", "https://h.example/", "https://8.8.8.8/"]
)
def test_others_are_not(url):
    refuse_place(rules_of(Settings(fetch_allow="minio, 10.0.0.0/8")), read_url(url), secure=True)


def test_every_refusal_of_a_place_names_no_address_that_was_not_given():
    texts = []
    for address in chain(INSIDE):
        with pytest.raises(FetchFault) as caught:
            vetted("", "h.example", address)
        texts.append(caught.value.message)
    assert all(address not in text for address in INSIDE for text in texts if len(address) > 2)
