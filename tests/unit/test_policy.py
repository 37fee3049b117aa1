"""Policy: what the rules of an owner and the layers over them allow."""

import errno
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.errors import Denied
from oanix.lib.policy import Ask, Layer, Policy, Rules, Verdict
from oanix.lib.url import Url
from tests.unit.policies import asks, rule_lines, texts


def _policy(text: str) -> Policy:
    return Policy(Layer(Rules.parse(text)))


def _judge(text: str, url: str, *layers: str, method: str = "GET") -> Verdict:
    narrowed = [Layer(Rules.parse(layer), "this namespace's policy") for layer in layers]
    return _policy(text).judge(Ask(method, Url.parse(url)), narrowed)


def _allows(text: str, url: str, *layers: str, method: str = "GET") -> bool:
    return _judge(text, url, *layers, method=method).allowed


def test_without_rules_every_public_address_is_allowed() -> None:
    verdict = _judge("# none\n\n", "https://example.com/x")
    assert verdict.allowed
    assert verdict.rule == "no policy: public addresses only"
    assert verdict.grant.networks == frozenset()


def test_with_a_rule_the_rest_is_denied() -> None:
    verdict = _judge("allow https://a/**", "https://b/x?token=1")
    assert not verdict.allowed
    assert verdict.rule == "no rule: a policy with rules denies the rest"
    assert "https://b/x?token=***" in verdict.sentence
    assert verdict.remedy == "allow GET https://b/**"


def test_the_first_rule_that_matches_decides_and_is_named() -> None:
    text = "# about a\nallow GET https://a/x/**\ndeny https://a/**\nallow *"
    assert _judge(text, "https://a/x/y").rule == "policy line 2: allow GET https://a/x/**"
    denied = _judge(text, "https://a/y")
    assert denied.rule == "policy line 3: deny https://a/**"
    assert denied.rule in denied.sentence
    assert _allows(text, "https://b/")


def test_methods_are_told_apart() -> None:
    text = "deny DELETE *\nallow GET,post,DELETE https://a/**\nallow * https://b/**"
    assert _allows(text, "https://a/", method="POST")
    assert not _allows(text, "https://a/", method="PUT")
    assert not _allows(text, "https://a/", method="get")
    assert _allows(text, "https://b/", method="get")
    assert not _allows(text, "https://b/", method="delete")


@pytest.mark.parametrize("method", ["", "GET /", "GET\r\nX: y", "GÉT", "A" * 65, "a:b", "GET\0"])
def test_what_is_no_method_is_refused(method: str) -> None:
    with pytest.raises(OSError, match="no method") as caught:
        Ask(method, Url.parse("https://h"))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("allow https://a", "https://A./x"),
        ("allow https://a/", "https://a"),
        ("allow https://a/?*", ""),
        ("allow https://*.a", "https://x.y.a/"),
        ("allow *://a", "ws://a/"),
        ("allow *://a", "https://a/"),
        ("allow https://a:*", "https://a:8443/"),
        ("allow https://a:8443", "https://a:8443/"),
        ("allow https://a/x/*/z", "https://a/x/y/z"),
        ("allow https://a/x/**/z", "https://a/x/y/y/z"),
        ("allow https://a/x**", "https://a/xy/z"),
        ("allow https://a/*.json", "https://a/x.json?q"),
        ("allow https://a/group%2Fproject/**", "https://a/group%2fproject/x"),
        ("allow https://a/ü/**", "https://a/%C3%BC/x"),
        ("allow https://bücher.de", "https://xn--bcher-kva.de/"),
        ("allow http://8.8.8.8", "http://134744072/"),
        ("allow http://[2606::1]:8080", "http://[2606:0::1]:8080/"),
        ("allow https://a/**", "https://a/x/%2e%2e%2fy"),
    ],
)
def test_an_allow_covers_what_it_says(rule: str, url: str) -> None:
    if url:
        assert _allows(rule, url)


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("allow https://allowed", "https://allowed.evil/"),
        ("allow https://allowed", "https://evil/#@allowed"),
        ("allow https://allowed", "https://evil/allowed"),
        ("allow https://allowed", "https://xallowed/"),
        ("allow https://allowed", "https://x.allowed/"),
        ("allow https://*.allowed", "https://allowed/"),
        ("allow https://*.allowed", "https://xallowed/"),
        ("allow https://*.allowed", "https://x.allowed.evil/"),
        ("allow https://paypal.com", "https://p\u0430ypal.com/"),
        ("allow https://a", "http://a/"),
        ("allow https://a", "wss://a/"),
        ("allow https://a", "https://a:8443/"),
        ("allow *://a", "http://a:443/"),
        ("allow https://a/", "https://a/x"),
        ("allow https://a/x", "https://a/x/"),
        ("allow https://a/x/*", "https://a/x/y/z"),
        ("allow https://a/x/**", "https://a/x"),
        ("allow https://a/x/**", "https://a/x/../y"),
        ("allow https://a/x/**", "https://a/x/..%2fy"),
        ("allow https://a/x/**", "https://a/x/%2e%2e%2fy"),
        ("allow https://a/x/**", "https://a/x/%252e%252e%252fy"),
        ("allow https://a/x/**", "https://a/x/%25252e%25252e/y"),
        ("allow https://a/x/**", "https://a/x/..%5cy"),
        ("allow https://a/x/**", "https://a/x/..\\y"),
        ("allow https://a/x/**", "https://a/x/..;/y"),
        ("allow https://a/x/**", "https://a/x/..;v=1/y"),
        ("allow https://a/x/**", "https://a/x/..%3b/y"),
        ("allow https://a/x/**", "https://a/x/%2e%2e;/y"),
        ("allow https://a/x/**", "https://a/x/..%00/y"),
        ("allow https://a/x/**", "https://a/x/..%20/y"),
        ("allow https://a/x/**", "https://a/x/..%c0%afy"),
        ("allow https://a/x/**", "https://a/x/%c0%ae%c0%ae/y"),
        ("allow https://a/x/**", "https://a/x/..%e0%80%afy"),
        ("allow https://a/x/**", "https://a/x/..%f0%80%80%afy"),
        ("allow https://a/x/**", "https://a/x/..%u002fy"),
        ("allow https://a/x/**", "https://a/x/..%%32%66y"),
        ("allow https://a/x/**", "https://a/%78/y"),
        ("allow https://a/x/*", "https://a/x/y%2fz"),
    ],
)
def test_an_allow_covers_no_more(rule: str, url: str) -> None:
    assert not _allows(rule, url)


@pytest.mark.parametrize(
    "url",
    ["https://a/x/y", "https://a/%78/y", "https://a/%2578/y", "https://a//x//y", "https://a/z/../x/",
     "https://a/z/..%2fx/y", "https://a/z/..;/x/y", "https://a/x;v=1/y", "https://a/x%3bv/y",
     "https://a/./x\\y", "https://a/x%5cy", "https://a/x%2fy", "https://a/%c0%afx/y",
     "https://a/%u0078/y", "https://a:8443/x/y", "https://A./x/y"],
)  # fmt: skip
def test_a_deny_touches_whatever_its_server_may_read_so(url: str) -> None:
    assert not _allows("deny https://a/x/**\nallow *\nallow https://a:*/**", url)


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "134744072", "[::ffff:8.8.8.8]", "[64:ff9b::808:808]", "[2002:808:808::]"]
)
def test_a_deny_of_an_address_is_for_every_spelling(host: str) -> None:
    assert _allows("allow *", f"http://{host}/")
    assert not _allows("deny *://8.8.8.8\nallow *", f"http://{host}/")


@pytest.mark.parametrize(
    "host", ["localhost", "a.localhost", "127.0.0.1", "127.8.8.8", "[::1]", "[::ffff:7f00:1]"]
)
def test_a_deny_of_localhost_is_for_every_loopback_address(host: str) -> None:
    named = f"allow *://{host}:*/**"
    assert _allows(named, f"http://{host}:8080/")
    assert not _allows(f"deny *://localhost\n{named}", f"http://{host}:8080/")


@pytest.mark.parametrize("text", ["", "allow *", "allow *://*:*/**", "allow http://*:*"])
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "[::1]", "[::ffff:127.0.0.1]",
     "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "169.254.169.254", "[fd00:ec2::254]", "100.64.0.1",
     "100.100.100.200", "168.63.129.16", "10.0.0.1", "[fe80::1]", "localhost", "LOCALHOST.",
     "x.localhost"],
)  # fmt: skip
def test_no_wildcard_names_an_address_that_is_not_public(text: str, host: str) -> None:
    url = f"http://{host}:8080/x"
    verdict = _judge(text, url)
    assert not verdict.allowed
    assert "no rule names it" in verdict.sentence
    assert _allows(f"{text}\n{verdict.remedy}", url)


@pytest.mark.parametrize("port", [22, 25, 6379, 11211, 6667])
def test_a_port_of_another_protocol_needs_a_rule_that_names_it(port: int) -> None:
    for text in ("", "allow *", "allow *://*:*/**"):
        verdict = _judge(text, f"http://a:{port}/")
        assert not verdict.allowed
        assert f"port {port}" in verdict.sentence
        assert _allows(f"{text}\nallow http://a:{port}", f"http://a:{port}/")
        assert _allows(f"{text}\nallow http://a:{port}", f"http://a:{port}/", "allow *")


def test_a_name_that_leads_to_a_private_address_is_refused_with_the_rule_that_names_it() -> None:
    policy = _policy("allow GET https://a/** size=1M")
    verdict = policy.judge(Ask("GET", Url.parse("https://a/x")))
    assert policy.refuse_address("8.8.8.8", verdict) is None
    for address in ("10.0.0.1", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "169.254.169.254", "x"):
        denied = policy.refuse_address(address, verdict)
        assert isinstance(denied, Denied)
        assert denied.errno == errno.EACCES
        assert "a is at" in str(denied)
        if address != "x":
            named = _policy(denied.remedy)
            again = named.judge(verdict.ask)
            assert named.refuse_address(address, again) is None
            assert again.limits == verdict.limits


def test_a_layer_that_leaves_an_address_out_is_named() -> None:
    policy = _policy("allow https://a addresses=10.0.0.0/8,fd00::/8")
    layers = [Layer(Rules.parse("allow * addresses=10.1.0.0/16"), "this namespace's policy")]
    verdict = policy.judge(Ask("GET", Url.parse("https://a/")), layers)
    assert policy.refuse_address("10.1.0.1", verdict) is None
    denied = policy.refuse_address("10.2.0.1", verdict)
    assert denied is not None
    assert denied.rule.startswith("this namespace's policy line 1")
    denied = policy.refuse_address("192.168.0.1", verdict)
    assert denied is not None
    assert denied.rule.startswith("policy line 1")


def test_a_layer_that_says_nothing_about_addresses_leaves_them() -> None:
    layer = Layer.of_options({"methods": "GET"})
    verdict = _policy("allow http://127.0.0.1:8080").judge(
        Ask("GET", Url.parse("http://127.0.0.1:8080/")), [layer]
    )
    assert verdict.allowed
    assert verdict.grant.networks


def test_the_strictest_limits_hold_and_each_rate_counts() -> None:
    verdict = _judge(
        "allow * rate=10/s size=1M", "https://a/", "allow * rate=60/min size=2M time=5s"
    )
    assert verdict.allowed
    assert (str(verdict.limits.rate), verdict.limits.size) == ("60/min", 2**20)
    assert verdict.limits.time_s == 5
    assert [str(rate) for _, rate in verdict.buckets] == ["10/s", "60/min"]


def test_the_options_of_a_mount_narrow() -> None:
    layer = Layer.of_options(
        {"hosts": "a,*.b,c:8443,localhost", "methods": "GET,HEAD", "rate": "5/s", "size": "10M"}
    )
    assert (
        layer.name == "mount option hosts=a,*.b,c:8443,localhost methods=GET,HEAD rate=5/s size=10M"
    )

    def allowed(url: str, method: str = "GET", text: str = "") -> bool:
        return _policy(text).judge(Ask(method, Url.parse(url)), [layer]).allowed

    assert allowed("http://a/")
    assert allowed("https://a:8443/x")
    assert allowed("https://x.b/")
    assert allowed("https://c:8443/")
    assert not allowed("https://c/")
    assert not allowed("https://b/")
    assert not allowed("https://a/", "POST")
    assert not allowed("http://localhost:8080/")
    assert allowed("http://localhost:8080/", text="allow http://localhost:8080")
    assert Layer.of_options({}).rules == Rules()


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"host": "a"}, "hosts, methods, rate, size, time"),
        ({"hosts": ""}, "no value"),
        ({"hosts": "a,,b"}, "write"),
        ({"hosts": "https://a/x"}, "write a"),
        ({"hosts": "a b"}, "blanks"),
        ({"hosts": "a\nallow *"}, "blanks"),
        ({"hosts": "a*b"}, r"\*.example.com"),
        ({"methods": "GET POST"}, "blanks"),
        ({"methods": "G:T"}, "write"),
        ({"rate": "often"}, "write 10/s"),
        ({"size": "big"}, "write 4096"),
        ({"time": "long"}, "write 500ms"),
        ({"time": "1s#"}, "blanks"),
    ],
)
def test_an_option_that_is_none_is_told_with_what_to_write(
    options: dict[str, str], advice: str
) -> None:
    with pytest.raises(OSError, match=advice) as caught:
        Layer.of_options(options)
    assert caught.value.errno == errno.EINVAL
    assert "mount option" in str(caught.value)


def test_a_refusal_says_what_and_by_which_rule() -> None:
    policy = _policy("deny *")
    ask = Ask("POST", Url.parse("https://a/x?key=1"))
    denied = policy.denied(ask, policy.judge(ask))
    assert (denied.errno, denied.what) == (errno.EACCES, "POST https://a/x?key=***")
    assert denied.rule == "policy line 1: deny *"
    assert denied.remedy == "allow POST https://a/**"


def test_other_rules_hold_from_then_on() -> None:
    policy = _policy("deny *")
    ask = Ask("GET", Url.parse("https://a/"))
    policy.replace(Rules.parse("allow https://a"))
    assert policy.judge(ask).allowed


@given(texts(), asks())
def test_what_a_refusal_advises_allows_it(text: str, ask: Ask) -> None:
    verdict = _policy(text).judge(ask)
    if not verdict.allowed:
        assert _policy(f"{verdict.remedy}\n{text}").judge(ask).allowed


@given(
    texts(), texts(), asks(), st.sampled_from(["10.1.2.3", "127.0.0.1", "::1", "169.254.169.254"])
)
def test_what_advises_about_an_address_allows_it(
    text: str, layer: str, ask: Ask, address: str
) -> None:
    policy = _policy(text)
    verdict = policy.judge(ask)
    denied = policy.refuse_address(address, verdict) if verdict.allowed else None
    if denied is not None:
        named = _policy(f"{denied.remedy}\n{text}")
        assert named.refuse_address(address, named.judge(ask)) is None


@pytest.mark.slow
@given(texts(), st.lists(texts(), max_size=3), asks())
def test_layers_never_allow_what_the_base_refuses(text: str, layers: list[str], ask: Ask) -> None:
    policy = _policy(text)
    alone = policy.judge(ask)
    narrowed = [Layer(Rules.parse(layer), f"layer {n}") for n, layer in enumerate(layers)]
    seen = [policy.judge(ask, narrowed[:count]) for count in range(len(narrowed) + 1)]
    for wide, narrow in zip([alone, *seen], seen, strict=False):
        assert _no_wider(narrow, wide, policy)


@given(texts(), texts(verb="deny"), asks(), st.data())
def test_a_deny_never_widens(text: str, denies: str, ask: Ask, data: st.DataObject) -> None:
    before = _policy(text)
    lines = text.splitlines()
    for line in denies.splitlines():
        lines.insert(data.draw(st.integers(0, len(lines))), line)
    after = _policy("\n".join(lines))
    assert _no_wider(after.judge(ask), before.judge(ask), before)


def _no_wider(narrow: Verdict, wide: Verdict, policy: Policy) -> bool:
    if not narrow.allowed:
        return True
    reached = [
        address
        for address in ("127.0.0.1", "10.1.2.3", "10.2.0.1", "::1", "169.254.169.254", "8.8.8.8")
        if policy.refuse_address(address, narrow) is None
    ]
    return (
        wide.allowed
        and not any(policy.refuse_address(address, wide) for address in reached)
        and (wide.limits.size is None or (narrow.limits.size or 2**63) <= wide.limits.size)
        and len(narrow.buckets) >= len(wide.buckets)
    )


@given(texts(), asks(), st.booleans())
def test_the_rule_that_decides_is_the_first_of_all_that_match(
    text: str, ask: Ask, narrowing: bool
) -> None:
    rules = Rules.parse(text)
    matching = [rule for rule in rules.rules if rule.matches(ask, narrowing=narrowing)]
    assert rules.first(ask, narrowing=narrowing) is (matching[0] if matching else None)


@given(rule_lines(verb="deny"), asks())
def test_an_allow_covers_no_more_than_the_same_deny_touches(line: str, ask: Ask) -> None:
    if _policy(line.replace("deny", "allow", 1)).judge(ask).allowed:
        assert not _policy(f"{line}\nallow *").judge(ask).allowed


@pytest.mark.slow
def test_a_pathological_policy_is_judged_in_time() -> None:
    stars = "**a*a" * 800 + "**z*b"
    one = _policy(f"allow https://a/{stars}")
    many = _policy(f"allow https://a/{stars[-400:]}\n" * 2000)
    long = Url.parse("https://a/" + "a" * 60_000 + "b")
    began = time.process_time()
    assert not one.judge(Ask("GET", long)).allowed
    refused = many.judge(Ask("GET", long))
    assert not refused.allowed
    assert "too long" in refused.sentence
    assert _policy(f"{refused.remedy}\n{many.base.rules.format()}").judge(Ask("GET", long)).allowed
    assert many.judge(Ask("GET", Url.parse("https://a/" + "aa" * 100 + "zb"))).allowed
    assert time.process_time() - began < 20


@pytest.mark.slow
def test_a_path_that_is_encoded_very_often_is_read_in_time() -> None:
    began = time.process_time()
    often = "%" + "25" * 30_000
    for path in (f"{often}2e", "%2" * 30_000 + "5" * 5_000, "%c0" * 20_000, f"{often}%2e"):
        assert _allows("deny https://a/x/**\nallow *", f"https://a/{path}")
    assert not _allows("allow https://a/x/**", f"https://a/x/{often}2e./y")
    assert not _allows("deny https://a/x/**\nallow *", f"https://a/y/.{often}2e/x/z")
    assert time.process_time() - began < 10


def test_what_narrows_the_policy_is_named_as_no_rule_can_change_it() -> None:
    policy = _policy("allow *")
    layer = Layer.of_options({"methods": "GET"})
    ask = Ask("POST", Url.parse("https://a/"))
    verdict = policy.judge(ask, [layer])
    assert "mount option methods=GET leaves it out" in verdict.sentence
    assert verdict.remedy == "another mount or namespace, without mount option methods=GET"
    listed = policy.judge(Ask("GET", ask.url), [Layer.of_options({"hosts": "b"})])
    assert "hosts=b" in listed.remedy
