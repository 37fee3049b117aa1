"""A trajectory as a page: one file of HTML that asks for nothing else and runs nothing.

Whatever an agent wrote is text here: markup is escaped, and so is what would change the direction
of a line or not be seen at all.
"""

import html
import json
from collections.abc import Iterator
from typing import Any, Final

from oanix.cli.output import escape
from oanix.cli.trajectory_text import between, duration, ending, local, origin, summary, tokens
from oanix.lib.atif import Call, Step, Trajectory

LONG: Final = 1_200
"""Characters of a message from which on it is folded."""

STYLE: Final = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1c2430;--soft:#637083;--line:#e2e6ec;
--agent:#1f7a4d;--user:#a86500;--system:#3b6ea8;--bad:#b3261e;--badbg:#fdecea;--mono:ui-monospace,
SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media(prefers-color-scheme:dark){:root{--bg:#14181e;--card:#1c222b;--ink:#e4e8ee;--soft:#93a0b2;
--line:#2d3541;--agent:#5dc48f;--user:#e0a54a;--system:#7fb0e8;--bad:#ff8a80;--badbg:#3a1f20}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:68rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}
header p{margin:.2rem 0;color:var(--soft);overflow-wrap:anywhere}
.state{display:inline-block;padding:.1rem .6rem;border-radius:1rem;font-size:.85rem;font-weight:600;
vertical-align:middle;margin-left:.6rem;color:#fff;background:var(--system)}
.state.good{background:var(--agent)}.state.bad{background:var(--bad)}
@media(prefers-color-scheme:dark){.state{color:#14181e}}
ol{list-style:none;margin:1.5rem 0 0;padding:0}
li.step{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--system);
border-radius:6px;margin:0 0 .75rem;padding:.7rem 1rem}
li.agent{border-left-color:var(--agent)}li.user{border-left-color:var(--user)}
.top{display:flex;flex-wrap:wrap;gap:.2rem .9rem;font-size:.85rem;color:var(--soft)}
.top b{color:var(--system)}li.agent .top b{color:var(--agent)}li.user .top b{color:var(--user)}
.top .when{margin-left:auto;font-variant-numeric:tabular-nums}
pre{margin:.45rem 0 0;font:13px/1.45 var(--mono);white-space:pre-wrap;overflow-wrap:anywhere}
details{margin:.45rem 0 0}summary{cursor:pointer;color:var(--soft);font-size:.85rem}
.reason pre{color:var(--soft);font-style:italic}
table{width:100%;border-collapse:collapse;margin:.55rem 0 0;font-size:13px}
td{padding:.25rem .5rem;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
table{table-layout:fixed}
td.name{font:600 13px/1.5 var(--mono);width:10.5rem}
td.args{font:13px/1.5 var(--mono);width:42%}
td.ms{width:5.5rem;text-align:right;white-space:nowrap;color:var(--soft);font-variant-numeric:tabular-nums}
tr.bad{background:var(--badbg)}tr.bad td{color:var(--bad)}
.key{color:var(--soft)}.note{color:var(--bad)}
footer{color:var(--soft);font-size:.8rem;margin-top:2rem}
@media print{body{background:#fff}li.step{break-inside:avoid}}
@media(max-width:40rem){td,tr{display:block}tr{border-top:1px solid var(--line)}td{border:0;
padding:.1rem 0}td.name,td.args,td.ms{width:auto}td.ms{text-align:left}}
"""


def page(found: Trajectory) -> bytes:
    """Write the page of a trajectory."""
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none';"
        " form-action 'none'\">",
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{text(_title(found))}</title>",
        f"<style>{STYLE}</style></head><body><main>",
        *_head(found),
        "<ol>",
    ]
    before = ""
    for step in found.steps:
        lines += _step(step, before)
        before = step.timestamp or before
    lines += ["</ol>", *_foot(found), "</main></body></html>", ""]
    return "\n".join(lines).encode()


def text(said: object) -> str:
    """Write a text so that it is one, on a line of its own."""
    return html.escape(escape(str(said)))


def block(said: str) -> str:
    """Write a text of several lines."""
    return "\n".join(text(line.replace("\t", "    ")) for line in said.split("\n"))


def _title(found: Trajectory) -> str:
    return f"{found.agent.get('name', '')} · {found.session}"


def _head(found: Trajectory) -> Iterator[str]:
    ended = ending(found)
    kind = "good" if ended.startswith("completed") else "bad" if ended else "on"
    yield "<header>"
    yield (f"<h1>{text(found.agent.get('name', ''))}"
           f'<span class="state {kind}">{text(ended or "running")}</span></h1>')  # fmt: skip
    yield f"<p>{text(summary(found))}</p>"
    yield f"<p>{text(found.session)} · {text(origin(found))}</p>"
    if "parent_session_id" in found.extra:
        yield f"<p>ordered by {text(found.extra['parent_session_id'])}</p>"
    yield "</header>"


def _foot(found: Trajectory) -> Iterator[str]:
    if found.notes:
        yield f'<p class="note">{text(found.notes)}</p>'
    yield "<footer>ATIF v1.4, written from what the runtime saw. "
    yield "What an agent says of itself is its own.</footer>"


def _step(step: Step, before: str) -> Iterator[str]:
    source = step.source if step.source in ("agent", "user") else "system"
    yield f'<li class="step {source}" id="s{step.number}">'
    said = [f"<span>{step.number}</span>", f"<b>{text(step.source)}</b>"]
    said += [f"<span>{text(step.model)}</span>"] if step.model else []
    said += ["<span>recorded by the job</span>"] if step.by_job else []
    said += [f"<span>{text(one)}</span>" for one in tokens(step.metrics)]
    since = between(before, step.timestamp) if before else None
    when = local(step.timestamp, date=False)
    when += f" (+{duration(since)})" if since is not None else ""
    yield f'<div class="top">{"".join(said)}<span class="when">{text(when)}</span></div>'
    if step.reasoning:
        yield '<details class="reason"><summary>reasoning</summary>'
        yield f"<pre>{block(step.reasoning)}</pre></details>"
    if len(step.message) > LONG:
        first = step.message.split("\n")[0][:120]
        yield f"<details><summary>{text(first)} … {len(step.message):,} characters</summary>"
        yield f"<pre>{block(step.message)}</pre></details>"
    elif step.message:
        yield f"<pre>{block(step.message)}</pre>"
    if step.calls:
        yield "<table>"
        yield from map(_call, step.calls)
        yield "</table>"
    for result in step.results:
        yield f"<pre>{block(result)}</pre>"
    yield "</li>"


def _call(call: Call) -> str:
    took = duration(call.ms / 1e3) if call.ms is not None else ""
    content = block(call.content) + "".join(f" → {text(run)}" for run in call.runs)
    row = '<tr class="bad">' if call.errno else "<tr>"
    return (
        f'{row}<td class="name">{text(call.name)}</td><td class="args">{_arguments(call)}</td>'
        f'<td>{content}</td><td class="ms">{text(took)}</td></tr>'
    )


def _arguments(call: Call) -> str:
    return "<br>".join(_argument(name, value) for name, value in call.arguments.items())


def _argument(name: str, value: Any) -> str:
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if name in ("path", "url", "command"):
        return text(said)
    return f'<span class="key">{text(name)}</span> {text(said)}'
