"""Link checker: says which links of documents and web pages lead nowhere.

    check_links.py [--depth N] [--ignore PREFIX] [FILE | FOLDER | URL]...

Files and folders are those of its world (without any: /workspace), URLs are asked through
/cap/http. With a depth, pages of the same server that are linked from a page are looked at, too. It
prints a line for each broken link, writes all of them to /task/result.json, and ends with 1 when
there are any.
"""

import argparse
import json
import os
import re
import sys
from collections import deque
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

SUFFIXES = (".md", ".html", ".htm")
SECONDS = 20
PAGE_MAX = 4 << 20
MARKDOWN = re.compile(
    r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)|<(https?://[^>\s]+)>"
)
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINKS = {"a": "href", "link": "href", "img": "src", "script": "src", "iframe": "src"}


class Page(HTMLParser):
    """The links of a page, with their lines."""

    def __init__(self, text):
        super().__init__()
        self.links = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        target = dict(attributes).get(LINKS.get(tag, ""))
        if target:
            self.links.append((self.getpos()[0], target.strip()))


def links_of(text, *, markdown):
    """Give the links of a text: line and target."""
    if not markdown:
        return Page(text).links
    # What code shows is no link; its lines still count.
    text = CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    return [
        (number, next(filter(None, found.groups())))
        for number, line in enumerate(text.split("\n"), 1)
        for found in MARKDOWN.finditer(line)
    ]


class Web:
    """Asks /cap/http, over one connection for each server; an answer is asked for once."""

    def __init__(self):
        self.answers = {}
        self.pages = {}
        self.call = None

    def problem(self, url):
        """Say what is wrong with a URL; None when nothing is."""
        if url not in self.answers:
            status = self.ask("HEAD", url).get("status")
            # Some servers answer HEAD with an error that GET does not get.
            if status is None or status >= 400:
                self.page(url)
            else:
                self.answers[url] = None
        return self.answers[url]

    def page(self, url):
        """Read a page, and learn of its state."""
        if url not in self.pages:
            answer = self.ask("GET", url)
            status = answer.get("status")
            self.answers[url] = answer.get("problem") or (None if status < 400 else str(status))
            kind = answer.get("headers", {}).get("content-type", "")
            good = self.answers[url] is None and "html" in kind
            self.pages[url] = (answer.get("url", url), answer.get("body", "")) if good else None
        return self.pages[url]

    def ask(self, method, url):
        if self.call is None:
            try:
                self.call = os.open("/cap/http/call", os.O_RDWR)
            except FileNotFoundError:
                sys.exit("check_links: there is no web here; grant it: --grant /cap/http")
        try:
            question = {"method": method, "url": url, "timeout": SECONDS}
            os.write(self.call, json.dumps(question).encode() + b"\n")
            line = b""
            while not line.endswith(b"\n"):
                piece = os.read(self.call, 65_536)
                if not piece:
                    return {"problem": "no answer"}
                line += piece
            return json.loads(line)
        except OSError as error:
            return {"problem": told() or error.strerror}


def told():
    """Give the sentence for what just went wrong."""
    try:
        with open("/dev/errstr", encoding="utf-8") as file:
            return file.read().splitlines()[-1].partition(": ")[2]
    except (OSError, IndexError):
        return ""


def documents(paths):
    """List the files to look at."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (f"{folder}/{name}" for name in sorted(files) if name.endswith(SUFFIXES))


def check_file(path, web, ignored):
    """Look at the links of a file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read(PAGE_MAX)
    for line, link in links_of(text, markdown=path.endswith(".md")):
        target = urldefrag(link).url
        scheme = urlsplit(target).scheme
        if not target or any(link.startswith(prefix) for prefix in ignored):
            continue
        problem = None
        if scheme in ("http", "https"):
            problem = web.problem(target)
        elif not scheme:
            there = os.path.join(os.path.dirname(path), unquote(urlsplit(target).path))
            problem = None if os.path.exists(os.path.normpath(there)) else "no such file"
        yield f"{path}:{line}", link, problem


def check_site(start, web, ignored, depth):
    """Look at the links of a page, and at the pages of its server that these lead to."""
    seen, waiting = {start}, deque([(start, depth)])
    while waiting:
        url, left = waiting.popleft()
        page = web.page(url)
        if page is None:
            yield url, url, web.answers[url] or "no page"
            continue
        base, text = page
        for line, link in links_of(text, markdown=False):
            target = urldefrag(urljoin(base, link)).url
            parts = urlsplit(target)
            if (
                link.startswith("#")
                or parts.scheme not in ("http", "https")
                or any(target.startswith(prefix) for prefix in ignored)
            ):
                continue
            yield f"{url}:{line}", link, web.problem(target)
            same = parts.netloc == urlsplit(start).netloc
            if same and left > 0 and target not in seen and web.page(target) is not None:
                seen.add(target)
                waiting.append((target, left - 1))


def main():
    parser = argparse.ArgumentParser(description="Say which links lead nowhere.")
    parser.add_argument("places", nargs="*", default=["/workspace"], metavar="FILE|FOLDER|URL")
    parser.add_argument("--depth", type=int, default=0, help="how far pages are followed")
    parser.add_argument("--ignore", action="append", default=[], metavar="PREFIX")
    given = parser.parse_args()
    web, checked, broken = Web(), 0, []
    sites = [place for place in given.places if "://" in place]
    found = [check_site(url, web, given.ignore, given.depth) for url in sites]
    files = documents(place for place in given.places if "://" not in place)
    found += [check_file(path, web, given.ignore) for path in files]
    for where, link, problem in (one for some in found for one in some):
        checked += 1
        if problem:
            broken.append({"where": where, "link": link, "problem": problem})
            print(f"{where}: {link}: {problem}")
    print(f"{checked} links, {len(broken)} broken")
    if os.path.isdir("/task"):
        with open("/task/result.json", "w", encoding="utf-8") as file:
            json.dump({"checked": checked, "broken": broken}, file)
    sys.exit(1 if broken else 0)


main()
