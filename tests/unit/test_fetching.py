"""What a URL of a caller's may lead to: nothing that the operator did not allow, in no spelling."""

import asyncio
import io
import ipaddress
import pickle
import ssl
import time

import pytest

from groundserve import url_reader
from groundserve.errors import InvalidRequestError
from groundserve.fetching import (
    FetchError,
    FetchPolicy,
    is_public,
    parse_url,
    without_secrets,
)
from groundserve.url_reader import fetch
from tests.support.origin import Origin, redirect, whole

VIDEO = bytes(range(256)) * 1000
LOOPBACK = ("127.0.0.0/8",)
PUBLIC = ipaddress.ip_address("93.184.216.34")
ANY = FetchPolicy(hosts=("*", "http://*"), max_seconds=60)
LOCAL = FetchPolicy(hosts=("http://*",), networks=LOOPBACK, max_seconds=60)

# {} is the port of a server on loopback that counts who comes.
SPELLINGS = [
    # Plainly.
    "http://127.0.0.1:{}/", "http://localhost:{}/", "http://LOCALHOST:{}/", "http://[::1]:{}/",
    "http://0.0.0.0:{}/", "http://[::]:{}/", "http://127.1.2.3:{}/", "https://127.0.0.1:{}/",
    # Other spellings of IPv4.
    "http://2130706433:{}/", "http://0x7f000001:{}/", "http://017700000001:{}/", "http://127.1:{}/",
    "http://0x7f.0.0.1:{}/", "http://0177.0.0.1:{}/", "http://127.0.1:{}/", "http://0:{}/",
    "http://0x7f.1:{}/", "http://127.0.0.01:{}/", "http://00000127.0.0.1:{}/", "http://1.0x1:{}/",
    "http://127.0.0.1.:{}/", "http://localhost.:{}/", "http://127.0.0.1..:{}/",
    "http://127.0.0.0x1:{}/", "http://4294967297:{}/", "http://127.0.0.1%2e:{}/",
    # Digits and dots that IDNA maps, and characters that it leaves out.
    "http://\uff11\uff12\uff17.0.0.1:{}/",
    "http://\u2460\u2461\u2466.0.0.1:{}/", "http://local\u00adhost:{}/", "http://ⓛocalhost:{}/",
    "http://lo\u200bcalhost:{}/", "http://127。0。0。1:{}/", "http://xn--127-0-0-1:{}/",
    # IPv6 that leads to IPv4, zones, and other spellings.
    "http://[::ffff:127.0.0.1]:{}/", "http://[::ffff:7f00:1]:{}/", "http://[::127.0.0.1]:{}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{}/", "http://[64:ff9b::7f00:1]:{}/",
    "http://[64:ff9b:1::7f00:1]:{}/", "http://[2002:7f00:1::]:{}/",
    "http://[2001:0:7f00:1::80ff:fffe]:{}/", "http://[::1%25lo]:{}/", "http://[::1%lo]:{}/",
    "http://[fe80::1%25eth0]:{}/", "http://[fe80::1]:{}/", "http://[fd00:ec2::254]:{}/",
    "http://[ff02::1]:{}/", "http://[0000:0000::0001]:{}/", "http://[::ffff:0:127.0.0.1]:{}/",
    "http://[2001:db8::1]:{}/", "http://[3fff::1]:{}/", "http://[5f00::1]:{}/",
    "http://[::FFFF:127.0.0.1]:{}/", "http://[::1:{}/", "http://::1:{}/", "http://[]:{}/",
    "http://[::7f00:1]:{}/", "http://[fe80::5efe:127.0.0.1]:{}/", "http://[fec0::1]:{}/",
    "http://[64:ff9b::169.254.169.254]/", "http://[2002:a9fe:a9fe::]/", "http://[100::1]:{}/",
    "http://[2001:20::1]:{}/", "http://[fd20:ce::254]/", "http://[127.0.0.1]:{}/",
    "http://[::1].example.com:{}/", "http://[::1]example.com:{}/", "http://[v1.127]:{}/",
    "http://[::1%00]:{}/", "http://[0:0:0:0:0:0:0:0x1]:{}/", "http://[::ffff:127.1]:{}/",
    "http://[::ffff:127.0.0.1%25lo]:{}/", "http://%5B::1%5D:{}/",
    # Other digits and dots.
    "http://127\uff0e0\uff0e0\uff0e1:{}/", "http://127\uff610\uff610\uff611:{}/",
    "http://127\u20240\u20240\u20241:{}/", "http://\u0661\u0662\u0667.\u0660.\u0660.\u0661:{}/",
    "http://\U0001d7cf\U0001d7d0\U0001d7d5.0.0.1:{}/", "http://127.\u0966.0.1:{}/",
    "http://0x7f.0x0.0x0.0x1:{}/", "http://0X7F000001:{}/", "http://127.0x0.1:{}/",
    "http://0b1111111.0.0.1:{}/", "http://127.0.0.1e0:{}/", "http://1_2_7.0.0.1:{}/",
    "http://\u017ftatic.localhost:{}/", "http://loc\u212alhost:{}/", "http://localho\ufb06:{}/",
    # Written in hexadecimal, or with another character between.
    "http://%31%32%37.0.0.1:{}/", "http://loc%61lhost:{}/", "http://127%2e0%2e0%2e1:{}/",
    "http://127.0.0.1%3A{}/", "http://127.0.0.1%2F:{}/", "http://%256cocalhost:{}/",
    "http://127.0.0.1;{}/", "http://127.0.0.1,example.com:{}/", "http://127.0.0.1&example.com:{}/",
    "http://example.com%40127.0.0.1:{}/", "http://example.com%23@127.0.0.1:{}/",
    "http://example.com?@127.0.0.1:{}/", "http://example.com;@127.0.0.1:{}/",
    "http://a@b@127.0.0.1:{}/", "http://example.com:80@127.0.0.1:{}/",
    "http://1.1.1.1 &@127.0.0.1:{}# @1.1.1.1/", "http://example.com:80#@127.0.0.1:{}/",
    "http://127.0.0.1:{}?@example.com/", "http://127.0.0.1:0x50/", "http://127.0.0.1:{}.0/",
    "http://127.0.0.1:\uff18\uff10/", "http://127.0.0.1:/", "http://127.0.0.1:65536/",
    "\ufeffhttp://127.0.0.1:{}/", "\u00a0http://127.0.0.1:{}/", "http://127.0.0.1\u2028:{}/",
    "http://127.0.0.1\u3000:{}/", "http://127.0.0.1:{}/\x7f", "http\u003a//127.0.0.1\x0b:{}/",
    "http:////127.0.0.1:{}/", "http:/127.0.0.1:{}/", "https:127.0.0.1:{}/", "/\\127.0.0.1:{}/",
    "\\\\127.0.0.1\\share", "///127.0.0.1:{}/", "url:http://127.0.0.1:{}/", "http://..:{}/",
    "http+http://127.0.0.1:{}/", "hls+http://127.0.0.1:{}/", "tcp://127.0.0.1:{}", "feed:http://127.1/",
    "blob:http://127.0.0.1:{}/x", "view-source:http://127.0.0.1:{}/", "smb://127.0.0.1/x",
    "netdoc:/etc/passwd", "FILE:///etc/passwd", "file:/etc/passwd", "file:\\\\127.0.0.1\\x",
    # Metadata, private, shared, reserved.
    "http://169.254.169.254/latest/meta-data", "http://[fd00:ec2::254]/", "http://100.100.100.200/",
    "http://168.63.129.16/", "http://192.0.0.192/", "http://10.0.0.1/", "http://172.16.0.1/",
    "http://192.168.0.1/", "http://100.64.0.1/", "http://224.0.0.1/", "http://240.0.0.1/",
    "http://255.255.255.255/", "http://198.18.0.1/", "http://192.0.2.1/", "http://0.1.2.3/",
    # Who is the host?
    "http://example.com@127.0.0.1:{}/", "http://127.0.0.1:{}@example.com/", "http://@127.0.0.1:{}/",
    "http://user:pass@127.0.0.1:{}/", "http://example.com#@127.0.0.1:{}/",
    "http://127.0.0.1:{}\\@example.com/", "http:\\\\127.0.0.1:{}/", "http:/\\127.0.0.1:{}/",
    "http://example.com\\.127.0.0.1:{}/", "http://127.0.0.1:{}:80/", "http://127.0.0.1:0{}/x",
    "http://127.0.0.1:+{}/", "http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http://:{}/",
    # Blanks and controls.
    " http://127.0.0.1:{}/", "http://127.0.0.1:{}/\r\nHost: x", "ht\ntp://127.0.0.1:{}/",
    "http://127.0.0.1\t:{}/", "http://127.0.0.1:{}/\x00", "http://127.0.0.1 .example.com:{}/",
    "http://127.0.0.1%00.example.com:{}/", "http://127.0.0.1%09:{}/", "\x01http://127.0.0.1:{}/",
    "http://127.0.0.1:{}/a b",
    # Schemes.
    "HTTP://127.0.0.1:{}/", "hTTp://127.0.0.1:{}/", "HttpS://127.0.0.1:{}/", "//127.0.0.1:{}/",
    "file:///etc/passwd", "file://127.0.0.1/etc/passwd", "gopher://127.0.0.1:{}/_GET%20/",
    "ftp://127.0.0.1:{}/a.mp4", "dict://127.0.0.1:{}/", "data:video/mp4;base64,AAAA",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "javascript:alert(1)", "concat:/etc/passwd|a",
    "subfile,,start,0,end,9,,:/etc/passwd", "jar:http://127.0.0.1:{}/!/", "127.0.0.1:{}/",
    "http:127.0.0.1:{}/", "http:///127.0.0.1:{}/", "http://", "", "ws://127.0.0.1:{}/",
]  # fmt: skip


@pytest.fixture
def names(monkeypatch):
    """Answers of the resolver by name, each a list a call; the last stays."""
    answers = {"localhost": [["127.0.0.1", "::1"]], "near.example": [["127.0.0.1"]]}

    def resolve(host):
        left = answers.get(host)
        if not left:
            raise OSError(f"no such host {host}")
        return [ipaddress.ip_address(one) for one in (left.pop(0) if left[1:] else left[0])]

    monkeypatch.setattr(url_reader, "resolve", resolve)
    return answers


def fetched(url, policy=LOCAL, **given):
    file = io.BytesIO()
    asyncio.run(fetch(url, file, policy, **given))
    return file.getvalue()


def refused(url, policy=LOCAL, **given):
    with pytest.raises(FetchError) as caught:
        fetched(url, policy, **given)
    message = str(caught.value)
    assert not any(word in message for word in ("127.", "secret", "localhost", "[::", "refused:"))
    return caught.value.reason


@pytest.mark.parametrize("spelling", SPELLINGS, ids=ascii)
def test_no_spelling_leads_inside(names, spelling):
    """Not by itself, and not by a redirect of any kind from a host that is allowed."""
    with Origin({"/": whole(b"secret")}) as inside:
        url = spelling.replace("{}", str(inside.port))
        assert refused(url, ANY) in ("refused", "unreachable")
        assert not inside.requests
        # One network is allowed, which the first of two servers is in and no target is.
        only = FetchPolicy(hosts=ANY.hosts, networks=("127.77.0.0/16",), max_seconds=60)
        for status in ("301 a", "302 a", "303 a", "307 a", "308 a"):
            with Origin({"/r": redirect(url, status)}, host="127.77.0.1") as outside:
                assert refused(outside.url("/r"), only) in ("refused", "unreachable")
                assert outside.requests
        assert not inside.requests


def test_there_are_enough_spellings():
    assert len(set(SPELLINGS)) >= 60


@pytest.mark.parametrize(
    ("hosts", "url", "is_allowed"),
    [
        ((), "https://a.example/", False),
        (("*",), "https://a.example/", True),
        (("*",), "http://a.example/", False),
        (("*",), "https://a.example:444/", True),
        (("http://*",), "http://a.example/", True),
        (("a.example",), "https://A.example/x", True),
        (("a.example",), "https://b.a.example/", False),
        (("a.example",), "https://a.example.evil/", False),
        (("a.example",), "https://xa.example/", False),
        (("*.a.example",), "https://b.c.a.example/", True),
        (("*.a.example",), "https://a.example/", False),
        (("*.a.example",), "https://b.a.example:444/", False),
        (("*.a.example",), "https://xa.example/", False),
        (("http://a.example:8080",), "http://a.example:8080/", True),
        (("http://a.example:*",), "http://a.example:1/", True),
        (("[2606:4700::1]",), "https://[2606:4700::1]/", True),
        (("8.8.8.8",), "https://8.8.8.8/", True),
        (("8.8.8.8",), "https://8.8.8.80/", False),
    ],
)
def test_patterns(hosts, url, is_allowed):
    assert FetchPolicy(hosts=hosts).allows_host(parse_url(url)) is is_allowed


@pytest.mark.parametrize("given", [{"hosts": ["ftp://a"]}, {"hosts": ["a b"]}, {"hosts": ["a/b"]},
                                   {"hosts": [""]}, {"networks": ["10.0.0.1/8"]},
                                   {"networks": ["localhost"]}])  # fmt: skip
def test_a_policy_that_is_none_is_refused(given):
    with pytest.raises(InvalidRequestError, match=r"--allow-(host|network) must be"):
        FetchPolicy(**given)


def test_public_addresses():
    for text in ("8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450::1"):
        assert is_public(ipaddress.ip_address(text))


def test_a_video_comes_whole(names):
    with Origin({"/a.mp4?x=%20": whole(VIDEO)}) as origin:
        assert fetched(origin.url("/a.mp4?x=%20#t=1", host="near.example")) == VIDEO
        head = origin.requests[0].decode()
    assert f"Host: near.example:{origin.port}\r\n" in head
    assert "Accept-Encoding: identity" in head
    assert "Cookie" not in head


def test_nothing_of_the_environment_is_used(names, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Origin({"/a.mp4": whole(VIDEO)}) as origin:
        assert fetched(origin.url()) == VIDEO


def test_redirects_are_followed_and_counted(names):
    chain = {f"/{n}": redirect(f"/{n + 1}") for n in range(9)} | {"/5": whole(VIDEO)}
    with Origin(chain) as origin:
        assert fetched(origin.url("/0")) == VIDEO
        chain["/5"] = redirect("/6")
        assert refused(origin.url("/0")) == "unreachable"
        assert len(origin.requests) == 6 + 6
        chain["/0"] = redirect("/0")
        assert refused(origin.url("/0")) == "unreachable"


def test_a_name_is_resolved_once_and_all_of_it_is_checked(names, monkeypatch):
    """The address that was checked is connected to, whatever the name leads to a moment later."""
    tried = []

    async def connect(self, host, port, *args, **options):
        tried.append(host)
        raise OSError("nobody there")

    with Origin({"/": whole(b"secret")}) as inside:
        monkeypatch.setattr("httpcore2.AnyIOBackend.connect_tcp", connect)
        names["rebinding.example"] = [[str(PUBLIC)], ["127.0.0.1"]]
        url = inside.url("/", host="rebinding.example")
        assert refused(url, ANY) == "unreachable"
        assert tried == [str(PUBLIC)]
        assert refused(url, ANY) == "unreachable"
        names["both.example"] = [[str(PUBLIC), "127.0.0.1"]]
        assert refused(inside.url("/", host="both.example"), ANY) == "unreachable"
        assert tried == [str(PUBLIC)]
        assert not inside.requests


@pytest.mark.parametrize(
    "address",
    ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "fe80::1%lo", "::", "0.0.0.0", "2002:7f00:1::"],
)
def test_what_a_resolver_says_is_checked_in_any_form(names, address):
    names["public.example"] = [[str(PUBLIC), address]]
    assert refused("http://public.example/", ANY) == "unreachable"


def test_a_name_is_checked_again_when_it_is_connected_to_again(names):
    """A redirect to the same host, which has moved inside meanwhile."""
    only = FetchPolicy(hosts=ANY.hosts, networks=("127.77.0.0/16",), max_seconds=60)
    with Origin({"/": whole(b"secret")}) as inside:
        names["moving.example"] = [["127.77.0.1"], ["127.0.0.1"]]
        to = f"http://moving.example:{inside.port}/"
        with Origin({"/r": redirect(to)}, host="127.77.0.1") as outside:
            assert refused(outside.url("/r", host="moving.example"), only) == "unreachable"
            assert outside.requests
        assert not inside.requests


def test_no_other_header_leads_anywhere(names):
    with Origin({"/": whole(b"secret")}) as inside:
        url = inside.url("/")
        hints = [f"Refresh: 0;url={url}", f"Content-Location: {url}", f"Link: <{url}>; rel=preload"]
        with Origin({"/a.mp4": whole(VIDEO, f"Location: {url}", *hints)}) as outside:
            assert fetched(outside.url()) == VIDEO
        assert not inside.requests


def test_another_address_is_tried(names):
    with Origin({"/a.mp4": whole(VIDEO)}) as origin:
        names["two.example"] = [["127.0.0.2", "127.0.0.1"]]
        assert fetched(origin.url(host="two.example")) == VIDEO


def test_tls_is_verified_for_the_name(names, tmp_path):
    certificate, key = make_certificate(tmp_path, "public.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=certificate)
    names["public.example"] = names["other.example"] = [["127.0.0.1"]]
    policy = FetchPolicy(hosts=("*:*",), networks=LOOPBACK)
    answers = {"/a.mp4": whole(VIDEO)}
    with Origin(answers, wrap=lambda one: server.wrap_socket(one, server_side=True)) as origin:
        url = origin.url(host="public.example", scheme="https")
        assert fetched(url, policy, ssl_context=trusting) == VIDEO
        assert refused(url, policy) == "unreachable"
        other = origin.url(host="other.example", scheme="https")
        assert refused(other, policy, ssl_context=trusting) == "unreachable"


def make_certificate(folder, name):
    import subprocess

    paths = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
         "-out", str(paths[0]), "-keyout", str(paths[1])],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(whole(VIDEO)[:-1], id="truncated"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", id="chunk"),
        pytest.param(b"not HTTP at all\r\n\r\n", id="garbage"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, id="headers"),
        pytest.param(whole(VIDEO, status="206 Partial Content"), id="partial"),
        pytest.param(whole(VIDEO, status="204 No Content"), id="no_content"),
        pytest.param(whole(b"secret", status="500 secret"), id="failure"),
        pytest.param(whole(VIDEO, "Content-Encoding: gzip"), id="gzip"),
        pytest.param(whole(b"", status="302 Found"), id="nowhere"),
    ],
)
def test_an_origin_that_does_not_send_it_whole(names, answer):
    with Origin({"/a.mp4": answer}) as origin:
        assert refused(origin.url()) == "unreachable"


def endless(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def test_more_bytes_than_allowed_are_not_read(names):
    policy = FetchPolicy(hosts=LOCAL.hosts, networks=LOOPBACK, max_bytes=1000)
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\n"
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2000
    answers = {"/long": long, "/endless": endless, "/chunks": chunks, "/fits": whole(b"x" * 1000)}
    with Origin(answers) as origin:
        assert len(fetched(origin.url("/fits"), policy)) == 1000
        for path in ("/endless", "/chunks"):
            file = io.BytesIO()
            with pytest.raises(FetchError) as caught:
                asyncio.run(fetch(origin.url(path), file, policy))
            assert caught.value.reason == "too_large"
            assert len(file.getvalue()) <= 1000
        assert refused(origin.url("/long"), policy) in ("too_large", "unreachable")


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_origin_that_drips_is_given_up(names, start):
    with Origin({}) as origin:

        def drip(connection):
            connection.sendall(start)
            while not origin.is_over.wait(0.01):
                connection.sendall(b"x")

        origin.answers["/a.mp4"] = drip
        policy = FetchPolicy(hosts=LOCAL.hosts, networks=LOOPBACK, max_seconds=0.5)
        started = time.monotonic()
        assert refused(origin.url(), policy) == "too_slow"
        assert time.monotonic() - started < 30


def test_the_error_travels():
    error = pickle.loads(pickle.dumps(FetchError("too_slow")))
    assert (error.reason, str(error)) == ("too_slow", str(FetchError("too_slow")))


def test_what_a_url_is_called():
    assert without_secrets("https://u:p@a.example/b.mp4?key=1#t") == "https://a.example/b.mp4"
