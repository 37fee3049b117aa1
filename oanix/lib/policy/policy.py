"""Policy: whether something may be asked, what it may take, and where it may connect to.

The owner's rules are the base; layers narrow them for a mount or a namespace. A request is allowed
when the base and every layer allow it, under the strictest limits of them, and may go to public
addresses and those that the base names and no layer leaves out.
"""

import errno
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import evolve, field, frozen

from oanix.errors import Denied, fault
from oanix.lib.policy.addresses import Grant, network, refuse_address
from oanix.lib.policy.limits import Limits, strictest
from oanix.lib.policy.pattern import BAD_PORTS, Pattern
from oanix.lib.policy.rate import Bucket
from oanix.lib.policy.rules import Ask, PolicyError, Rule, Rules, TooCostly, may_know

OPTIONS: Final = ("hosts", "methods", "rate", "size", "time")
"""The options of a mount that narrow the policy."""


class Layer:
    """What one writer allows: the owner in the base, others in what narrows it."""

    def __init__(self, rules: Rules | None = None, name: str = "policy") -> None:
        self.rules = Rules() if rules is None else rules
        self.name = name

    @classmethod
    def of_options(cls, options: Mapping[str, str]) -> "Layer":
        """Make the layer of a mount's options. Raises EINVAL with the option and what to write."""
        unknown = [name for name in options if name not in OPTIONS]
        if unknown:
            raise _no_option(f"{unknown[0]}= is none; write one of {', '.join(OPTIONS)}")
        methods = options.get("methods", "*")
        limits = "".join(f" {name}={options[name]}" for name in OPTIONS[2:] if name in options)
        lines = [
            f"allow {methods} {_host_pattern(host)}{limits}\n"
            for host in options.get("hosts", "*").split(",")
        ]
        for name, value in options.items():
            if not value or any(character <= " " or character == "#" for character in value):
                raise _no_option(f"{name}= has no value, or one with blanks")
        try:
            rules = Rules.parse("".join(lines))
        except PolicyError as error:
            raise _no_option(error.sentence) from None
        shown = " ".join(f"{name}={value}" for name, value in options.items())
        return cls(rules if options else Rules(), f"mount option {shown}")


@frozen
class Verdict:
    """What a policy says to one request.

    rule: the rule that decided, with its layer and line. remedy: a rule that, put first in the
    policy, allows the request as far as that goes; or what narrows the policy too far. buckets:
    what the request counts against.
    """

    ask: Ask
    allowed: bool
    rule: str
    sentence: str
    remedy: str
    grant: Grant = field(factory=Grant)
    limits: Limits = field(factory=Limits)
    buckets: tuple[Bucket, ...] = ()
    applied: tuple[tuple[Layer, Rule | None], ...] = field(default=(), repr=False)

    def bounded_by(self, bound: str) -> str:
        """Name the rule whose `size` or `time_s` is the one that counts."""
        strictest = getattr(self.limits, bound)
        for layer, rule in self.applied:
            if rule is not None and getattr(rule.limits, bound) == strictest:
                return _name(layer, rule)
        raise ValueError(f"no rule has a bound on {bound}")


class Policy:
    """The rules of an owner, and how layers narrow them."""

    def __init__(self, base: Layer | None = None) -> None:
        self.base = Layer() if base is None else base

    def replace(self, rules: Rules) -> None:
        """Put other rules in place of the owner's, for everything that is asked from now on."""
        self.base.rules = rules

    def judge(self, ask: Ask, layers: Sequence[Layer] = ()) -> Verdict:
        """Say whether this may be asked."""
        applied: list[tuple[Layer, Rule | None]] = []
        for layer in (self.base, *layers):
            base = layer is self.base and not applied
            try:
                rule = layer.rules.first(ask, narrowing=not base)
            except TooCostly:
                reason = "the path is too long for so many rules with wildcards"
                return _refused(ask, layer, None, reason, base=base)
            if layer.rules.rules and (rule is None or not rule.allow):
                reason = _why_none(ask, None if base else layer)
                return _refused(ask, layer, rule, reason, base=base)
            if base and rule is None and (reason := _never_public(ask)):
                return _refused(ask, layer, None, reason)
            applied.append((layer, rule))
        return _allowed(ask, applied)

    def refuse_address(self, address: str, verdict: Verdict) -> Denied | None:
        """Give the refusal of an address that a host turned out to have; None when it may go there.

        Ask for every address before it is connected to, and connect to that very one.
        """
        reason = refuse_address(address, verdict.grant)
        if reason is None:
            return None
        grant = Grant()
        for layer, rule in verdict.applied:
            grant = _narrowed(grant, rule, base=layer is verdict.applied[0][0])
            if refuse_address(address, grant) is not None:
                break
        ask = verdict.ask
        named = f"{ask.url.host} is at {reason}" if ask.url.host != address else reason
        return Denied(
            f"{named}, and no rule names it: {_shown(ask)} is refused",
            what=_shown(ask),
            rule=_name(layer, rule),
            remedy=_remedy(ask, rule, address=address)
            if layer is verdict.applied[0][0]
            else _wider(layer),
        )

    def denied(self, ask: Ask, verdict: Verdict) -> Denied:
        """Make the error of a verdict that refuses."""
        return Denied(verdict.sentence, what=_shown(ask), rule=verdict.rule, remedy=verdict.remedy)


def _allowed(ask: Ask, applied: Sequence[tuple[Layer, Rule | None]]) -> Verdict:
    rules = [rule for _, rule in applied if rule is not None]
    grant = Grant()
    for number, (layer, rule) in enumerate(applied):
        grant = _narrowed(grant, rule, base=not number)
        if rule is not None and not may_know(ask, grant):
            reason = "the rule leaves out the address of the host"
            return _refused(ask, layer, rule, reason, base=not number)
    return Verdict(
        ask,
        allowed=True,
        rule=_name(*applied[0]),
        sentence=f"{_shown(ask)} is allowed",
        remedy="",
        grant=grant,
        limits=strictest([rule.limits for rule in rules]),
        buckets=tuple(
            ((layer, rule.text), rule.limits.rate)
            for layer, rule in applied
            if rule is not None and rule.limits.rate is not None
        ),
        applied=tuple(applied),
    )


def _narrowed(grant: Grant, rule: Rule | None, *, base: bool) -> Grant:
    if rule is None or (not base and not rule.grant.networks):
        return grant
    return rule.grant if base else grant.within(rule.grant)


def _refused(
    ask: Ask, layer: Layer, rule: Rule | None, reason: str, *, base: bool = True
) -> Verdict:
    named = _name(layer, rule)
    said = f"{named} says so" if rule is not None and not rule.allow else reason
    return Verdict(
        ask,
        allowed=False,
        rule=named,
        sentence=f"{_shown(ask)} is refused: {said}",
        remedy=_remedy(ask, rule if rule is not None and rule.allow else None)
        if base
        else _wider(layer),
        applied=((layer, rule),),
    )


def _why_none(ask: Ask, layer: Layer | None) -> str:
    """Say why nothing allows this. layer: what narrows the policy, None for the policy itself."""
    if layer is not None:
        return f"{layer.name} leaves it out, which no rule of the policy can change"
    if reason := _never_public(ask):
        return reason
    return "no rule allows it, and there are rules"


def _never_public(ask: Ask) -> str:
    """Say why no rule and a rule for everything do not allow this; nothing when they do."""
    if ask.url.port in BAD_PORTS:
        return f"port {ask.url.port} is of another protocol, and no rule names it"
    if may_know(ask, Grant()):
        return ""
    return f"{refuse_address(ask.to.known[0], Grant())}, and no rule names it"


def _wider(layer: Layer) -> str:
    return f"another mount or namespace, without {layer.name}"


def _name(layer: Layer, rule: Rule | None) -> str:
    if rule is not None:
        return f"{layer.name} line {rule.line}: {rule.text}"
    if not layer.rules.rules:
        return "no policy: public addresses only"
    named = "a policy with rules" if layer.name == "policy" else layer.name
    return f"no rule: {named} denies the rest"


def _shown(ask: Ask) -> str:
    return f"{ask.method} {ask.url.masked()}"


def _remedy(ask: Ask, rule: Rule | None, *, address: str | None = None) -> str:
    """Write the rule that allows this; limits and addresses of an allow that applied stay."""
    url = ask.url
    networks = rule.networks if rule is not None else frozenset()
    pattern = Pattern(url.scheme, url.host, None if url.default_port else url.port, any_port=False)
    if url.port in BAD_PORTS:
        pattern = evolve(pattern, port=url.port)
    if address is not None and (named := network(address)) is not None:
        networks |= {named}
    return Rule(
        allow=True,
        # A rule's methods are in upper case; no other can be named.
        methods=frozenset((ask.method,)) if ask.method == ask.method.upper() else None,
        pattern=pattern,
        limits=rule.limits if rule is not None else Limits(),
        networks=networks,
    ).text


def _host_pattern(host: str) -> str:
    if "/" in host or "://" in host:
        raise _no_option(
            f"hosts= holds hosts, not addresses; write {host.split('//')[-1].split('/')[0]}"
        )
    has_port = ":" in host.rpartition("]")[2]
    return f"*://{host}" if has_port else f"*://{host}:*"


def _no_option(sentence: str) -> OSError:
    return fault(errno.EINVAL, f"mount option: {sentence}")
