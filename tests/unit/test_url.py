"""Url: one canonical form of an address, what is refused, and its name in the tree."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.url import LENGTH_MAX, Url, from_tree, to_tree

ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=40)
PATH_TEXT = st.text("ab/%.;\\?&=é*~+:@25F2fCc0aAe", max_size=40)
URLS = st.builds(
    "{}://{}{}/{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["a", "A.example.", "127.1", "[::1]", "[::ffff:8.8.8.8]", "bücher.de"]),
    st.sampled_from(["", ":80", ":443", ":8080", ":"]),
    PATH_TEXT,
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("HTTPS://Example.COM", "https://example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:0080/a", "http://example.com/a"),
        ("http://example.com:443/a", "http://example.com:443/a"),
        ("wss://example.com:443", "wss://example.com/"),
        ("ws://example.com:8080", "ws://example.com:8080/"),
        ("https://ALLOWED./x", "https://allowed/x"),
        ("https://allowed。evil/", "https://allowed.evil/"),
        ("https://ⓔxample.com/", "https://example.com/"),
        ("https://bücher.de/ü?ü", "https://xn--bcher-kva.de/%C3%BC?%C3%BC"),
        ("https://h/a#b", "https://h/a"),
        ("https://h?x", "https://h/?x"),
        ("https://h/?", "https://h/?"),
        ("https://h/?#b", "https://h/?"),
        ("https://h/a/./b/../c", "https://h/a/c"),
        ("https://h/../../etc/passwd", "https://h/etc/passwd"),
        ("https://h/a/%2e%2E/b", "https://h/b"),
        ("https://h/a\\..\\b", "https://h/b"),
        ("https://h//a///b", "https://h//a///b"),
        ("http://[0:0:0:0:0:0:0:1]:80/", "http://[::1]/"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
    ],
)
def test_every_spelling_has_one_form(text: str, canonical: str) -> None:
    assert str(Url.parse(text)) == canonical


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f.1", "0x7f000001", "0X7F.0.0.1",
     "0177.0.0.1", "017700000001", "127.0.0.1.", "%31%32%37.0.0.1", "\uff11\uff12\uff17.0.0.1",
     "127。0。0。1", "①②⑦.0.0.1"],
)  # fmt: skip
def test_every_spelling_of_an_ipv4_address_is_that_address(host: str) -> None:
    assert Url.parse(f"http://{host}/").host == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    ["/..%2fadmin", "/a/..%2Fadmin", "/%252e%252e%252fadmin", "/a/..%c0%afadmin", "/a/..;/admin",
     "/a/.%2e;/b", "/%u002e%u002e/admin", "/a%00b", "/a%0d%0ab"],
)  # fmt: skip
def test_what_only_some_servers_decode_stays_as_it_is(path: str) -> None:
    assert Url.parse(f"https://h{path}").path == path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "scheme"),
        ("example.com/x", "scheme"),
        ("//example.com/x", "scheme"),
        ("ftp://h/", "http, https, ws, wss"),
        ("file:///etc/passwd", "http, https, ws, wss"),
        ("javascript:alert(1)", "http, https, ws, wss"),
        ("data:,x", "http, https, ws, wss"),
        ("http:", "no host"),
        ("http:h", "no host"),
        ("http:/h", "no host"),
        ("http://", "no host"),
        ("http:///h", "no host"),
        ("http:\\\\h", "no host"),
        ("http://?x", "no host"),
        ("http://#x", "no host"),
        ("http://:80/", "cannot be read"),
        ("http://user@h/", "password"),
        ("http://user:word@h/", "password"),
        ("http://@h/", "password"),
        ("http://:@h/", "password"),
        ("http://allowed@evil/", "password"),
        ("http://allowed:80@evil/", "password"),
        ("http://allowed%40x@evil/", "password"),
        ("http://a@b@evil/", "password"),
        ("http://h:0/", "port 0"),
        ("http://h:65536/", "port"),
        ("http://h:-1/", "port"),
        ("http://h:x/", "port"),
        ("http://h\tx/", "U+0009"),
        ("ht\ntp://h/", "U+000A"),
        ("http://h/a\rb", "U+000D"),
        ("http://h/a\r\nHost: evil", "U+000D"),
        ("http://h/\0", "U+0000"),
        ("http://h/\x7f", "U+007F"),
        ("http://h/\x85", "U+0085"),
        (" http://h/", "blank at character 1"),
        ("http://h/a b", "%20"),
        ("http://h /", "%20"),
        ("http://h/\udcff", "no UTF-8"),
        ("http://*/", "name of the DNS"),
        ("http://*.h/", "name of the DNS"),
        ("http://a..b/", "name of the DNS"),
        ("http://a../", "name of the DNS"),
        ("http://./", "name of the DNS"),
        ("http://.h/", "name of the DNS"),
        ("http://a$b/", "name of the DNS"),
        ("http://a,b/", "name of the DNS"),
        (f"http://{'a' * 64}/", "name of the DNS"),
        (f"http://{'a.' * 128}/", "name of the DNS"),
        ("http://a%00b/", "cannot be read"),
        ("http://a%2fb/", "cannot be read"),
        ("http://256.1.1.1/", "cannot be read"),
        ("http://1.2.3.4.5/", "cannot be read"),
        ("http://[::1/", "cannot be read"),
        ("http://[fe80::1%25eth0]/", "cannot be read"),
        ("http://[::1]x/", "cannot be read"),
        ("http://h/" + "a" * LENGTH_MAX, "longer"),
        ("http://h/" + "é" * (LENGTH_MAX // 4), "longer"),
    ],
)
def test_what_is_no_address_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(OSError, match=r"[Ww]rite|none of|longer|leave|keep|labels") as caught:
        Url.parse(text)
    assert caught.value.errno == errno.EINVAL
    assert said in str(caught.value.strerror)


def test_an_error_never_shows_what_may_be_a_password() -> None:
    for text in ("https://me:hunter2@h/", "https://h/?hunter2 x", "//hunter2@h/"):
        with pytest.raises(OSError, match=r"address") as caught:
            Url.parse(text)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("http://evil#@allowed", "evil"),
        ("http://evil/@allowed", "evil"),
        ("http://evil?@allowed", "evil"),
        ("http://evil\\@allowed", "evil"),
        ("http://allowed.evil/", "allowed.evil"),
        ("http://evil/#allowed", "evil"),
    ],
)
def test_the_host_is_the_one_that_is_connected_to(text: str, host: str) -> None:
    assert Url.parse(text).host == host


@pytest.mark.parametrize(
    ("ascii_name", "look_alike"),
    [
        ("paypal.com", "p\u0430ypal.com"),
        ("github.com", "\u0261ithub.com"),
        ("apple.com", "\u0430\u0440\u0440\u04cf\u0435.com"),
    ],
)
def test_a_look_alike_is_another_host(ascii_name: str, look_alike: str) -> None:
    host = Url.parse(f"https://{look_alike}/").host
    assert host.startswith("xn--")
    assert host != ascii_name


def test_the_parts_are_as_a_request_has_them() -> None:
    url = Url.parse("https://[::1]:8443/a?b=1")
    assert (url.host, url.port, url.default_port) == ("::1", 8443, False)
    assert (url.authority, url.origin) == ("[::1]:8443", "https://[::1]:8443")
    assert (url.path, url.query, url.target) == ("/a", "b=1", "/a?b=1")
    assert Url.parse("http://h").authority == "h"
    assert Url.parse("http://h").target == "/"


@pytest.mark.parametrize(
    ("query", "shown"),
    [("", ""), ("?", "?"), ("?a=1&b=2", "?a=***&b=***"), ("?token", "?***"),
     ("?a==b&&c=", "?a=***&***&c=***")],
)  # fmt: skip
def test_a_log_shows_the_names_of_a_query_only(query: str, shown: str) -> None:
    assert Url.parse(f"https://h/p{query}").masked() == f"https://h/p{shown}"


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("", "https://h/a/b?c"),
        ("x", "https://h/a/x"),
        ("../x", "https://h/x"),
        ("/x", "https://h/x"),
        ("?x", "https://h/a/b?x"),
        ("#x", "https://h/a/b?c"),
        ("//evil/x", "https://evil/x"),
        ("\\\\evil/x", "https://evil/x"),
        ("/\\evil/x", "https://evil/x"),
        ("///evil/x", "https://evil/x"),
        ("http://other/", "http://other/"),
        ("/user@x", "https://h/user@x"),
    ],
)
def test_a_redirect_is_resolved_as_browsers_do(location: str, leads_to: str) -> None:
    assert str(Url.parse("https://h/a/b?c").join(location)) == leads_to


@pytest.mark.parametrize(
    "location",
    ["//user@evil/", "//@evil/", "/\\@evil/", "\\\\me:word@evil/", "http://me@evil/", "https:x",
     "https:///evil", "file:///etc/passwd", "ftp://h/", "javascript:alert(1)", "/a\r\nSet: x",
     "/a b", "//h:0/", "//*/", "/\0"],
)  # fmt: skip
def test_a_redirect_to_what_is_no_address_is_refused(location: str) -> None:
    with pytest.raises(OSError, match=r"address|host|port|scheme") as caught:
        Url.parse("https://h/a").join(location)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://api.github.com/repos/a/b?x=1", "get/https/api.github.com/repos%2Fa%2Fb?x=1"),
        ("https://h", "get/https/h/%2F"),
        ("https://h/?x", "get/https/h/?x"),
        ("https://h//x", "get/https/h/%2F%2Fx"),
        ("https://h/a%20b%2Fc", "get/https/h/a%2520b%252Fc"),
        ("http://[::1]:8080/x/", "get/http/[::1]:8080/x%2F"),
        ("https://h/a?b=c/d#e", "get/https/h/a?b=c%2Fd"),
    ],
)
def test_the_tree_has_an_address_as_one_name(url: str, path: str) -> None:
    assert to_tree(url) == path
    assert from_tree(*path.split("/")[1:]) == Url.parse(url)


def test_a_name_may_be_written_by_hand() -> None:
    assert str(from_tree("https", "H", "%2frepos%2fa")) == "https://h/repos/a"
    assert str(from_tree("https", "h", "a%20b")) == "https://h/a%20b"
    assert str(from_tree("https", "h", "..%2F..%2Fetc")) == "https://h/etc"


def test_a_name_that_no_directory_could_hold_is_refused_with_another_way() -> None:
    assert to_tree("https://h/" + "a" * 255)
    with pytest.raises(OSError, match=r"`call`.*`new`") as caught:
        to_tree("https://h/" + "a" * 256)
    assert caught.value.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize(
    ("scheme", "host", "rest"),
    [("ws", "h", "x"), ("ftp", "h", "x"), ("HTTP", "h", "x"), ("https", "", "x"),
     ("https", "a@h", "x"), ("https", "a?b", "x"), ("https", "a#b", "x"), ("https", "a\\b", "x"),
     ("https", "a/b", "x"), ("https", "h:0", "x"), ("https", "h", "a#b"), ("https", "h", "a b"),
     ("https", "h", "\udcff"), ("https", "h", "a\nb")],
)  # fmt: skip
def test_a_name_that_is_no_address_is_refused(scheme: str, host: str, rest: str) -> None:
    with pytest.raises(OSError, match=r"[a-z]") as caught:
        from_tree(scheme, host, rest)
    assert caught.value.errno == errno.EINVAL


def test_sockets_have_no_get() -> None:
    with pytest.raises(OSError, match=r"http and https"):
        to_tree("wss://h/x")


@given(URLS)
def test_the_canonical_form_is_its_own(text: str) -> None:
    url = Url.parse(text)
    assert Url.parse(str(url)) == url
    assert url.path.startswith("/")
    assert str(url).isascii()
    assert not {".", ".."}.intersection(url.path.split("/"))


@given(URLS)
def test_the_tree_gives_back_each_address(text: str) -> None:
    name = to_tree(text)
    assert name.count("/") == 3
    assert name.rpartition("/")[2] not in ("", ".", "..")
    assert from_tree(*name.split("/")[1:]) == Url.parse(text)


def _parsed(text: str, base: Url | None = None) -> Url | int | None:
    """Give the address, or the errno of the refusal."""
    try:
        return Url.parse(text) if base is None else base.join(text)
    except OSError as error:
        return error.errno


@given(ANY_TEXT)
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    for found in (_parsed(text), _parsed(f"http://{text}"), _parsed(f"https://h/{text}")):
        assert found == errno.EINVAL or Url.parse(str(found)) == found


@given(ANY_TEXT)
def test_a_redirect_to_any_text_is_an_address_or_an_error(location: str) -> None:
    found = _parsed(location, Url.parse("https://h/a"))
    assert found == errno.EINVAL or Url.parse(str(found)) == found
