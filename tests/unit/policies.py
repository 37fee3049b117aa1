"""Policies, asks and rules as hypothesis makes them."""

from hypothesis import strategies as st

from oanix.lib.policy import Ask
from oanix.lib.url import Url

_HOSTS = ["a", "b.a", "localhost", "127.0.0.1", "[::1]", "10.1.2.3", "8.8.8.8", "[::ffff:a01:203]"]
_PATHS = ["/", "/x", "/x/y", "/x/..%2fz", "/x/..;/z", "/%78/y", "/x%2fy", "/x//y", "/*", "/x/%2A"]
_METHODS = ["GET", "POST", "get"]


def asks() -> st.SearchStrategy[Ask]:
    """Make what somebody may ask for."""
    return st.builds(
        lambda method, scheme, host, port, path: Ask(
            method, Url.parse(f"{scheme}://{host}{port}{path}")
        ),
        st.sampled_from(_METHODS),
        st.sampled_from(["http", "https", "wss"]),
        st.sampled_from(_HOSTS),
        st.sampled_from(["", ":22", ":80", ":8080"]),
        st.sampled_from(_PATHS),
    )


def rule_lines(verb: str | None = None) -> st.SearchStrategy[str]:
    """Make rules; verb: only such."""
    plain = st.builds(
        lambda verb, methods, pattern: " ".join(filter(None, (verb, methods, pattern))),
        st.just(verb) if verb else st.sampled_from(["allow", "deny"]),
        st.sampled_from(["", "*", "GET", "GET,POST"]),
        st.one_of(st.just("*"), _patterns()),
    )
    options = st.builds(
        "".join,
        st.tuples(
            st.sampled_from(["", " rate=10/s", " rate=600/min"]),
            st.sampled_from(["", " size=10M", " size=1025"]),
            st.sampled_from(["", " time=30s", " time=1.5s"]),
            st.sampled_from(["", " addresses=10.0.0.0/8", " addresses=10.1.0.0/16,::1/128",
                             " addresses=0.0.0.0/0", " addresses=169.254.169.254/32"]),
        ),
    )  # fmt: skip
    return st.builds(lambda line, more: line + (more if line[0] == "a" else ""), plain, options)


def texts(verb: str | None = None) -> st.SearchStrategy[str]:
    """Make policies of a few lines."""
    return st.lists(rule_lines(verb), max_size=4).map("\n".join)


def _patterns() -> st.SearchStrategy[str]:
    return st.builds(
        "{}://{}{}{}".format,
        st.sampled_from(["*", "http", "https", "wss"]),
        st.sampled_from(["*", "*.a", "*.localhost", *_HOSTS]),
        st.sampled_from(["", ":*", ":22", ":80", ":8080"]),
        st.sampled_from(["", "/", "/**", "/x", "/x/*", "/x/**", "/x**", "/**/y", "/*/*", "/x%2Fy"]),
    )
