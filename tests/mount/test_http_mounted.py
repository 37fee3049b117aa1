"""HttpFs through FUSE, with the programs that people use: bash, cat, cp, jq, tail, Python, node."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from tests.mount.mounting import wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SERVER = Path(__file__).parent / "http_server.py"
DIGITS = b"0123456789" * 10_000


@frozen
class Mounted:
    """A mount of HttpFs."""

    path: Path
    port: int
    pid: int

    @property
    def http(self) -> Path:
        return self.path / "cap/http"

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> Path:
        """Give the file of a URL."""
        rest = path[1:].replace("%", "%25").replace("/", "%2F")
        return self.http / f"get/http/127.0.0.1:{self.port}/{rest}"

    def shell(self, command: str, timeout: float = 30) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            ["bash", "-c", command], cwd=self.http, capture_output=True, timeout=timeout,
            env={**os.environ, "U": self.url(""), "KNOWN": str(self.get("/parts/100000")),
                 "UNKNOWN": str(self.get("/streamed/100000"))},
        )  # fmt: skip

    def says(self, command: str) -> str:
        """Give what a command prints; it must succeed."""
        done = self.shell(command)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    def sentences(self) -> str:
        return (self.path / "dev/errstr").read_text()


def start(path: Path, *rules: str) -> Iterator[Mounted]:
    with subprocess.Popen(
        [sys.executable, SERVER, path, *rules],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as server:
        assert server.stdout is not None
        try:
            assert select.select([server.stdout], [], [], 20)[0]
            said, port = server.stdout.readline().split()
            assert said == b"mounted"
            yield Mounted(path, int(port), server.pid)
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """A mount for the tests of this module."""
    yield from start(tmp_path_factory.mktemp("http"))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mounted]:
    """A mount of its own, without a rule that names loopback."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield from start(path, "")


def test_the_examples_of_the_page_work(tmp_path: Path) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    page = (ROOT / "docs/man/http.md").read_text()
    examples = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert examples
    for web in start(path):
        text = "".join(examples).replace("127.0.0.1:8080", f"127.0.0.1:{web.port}")
        said = web.says(f"set -e\n{text}").split("\n")
        assert said[0] == "200200"
        assert said[1].startswith('{"bytes": 6, ')
        assert said[1].endswith("}state done")
        assert said[2].startswith("deny http://127.0.0.1:")


WHOLE = [
    "cat {}", "cp {} /dev/stdout", "dd if={} bs=64k status=none", "dd if={} bs=997 status=none",
    "head -c 1000000 {}", "tail -n 1 {}", "sed -n p {}", "less -f {} | cat",
    "cat < {}", "cmp {} <(cat {}) && cat {}", "cat {} | gzip -c | gzip -d",
    "python3 -c 'import sys; sys.stdout.buffer.write(open(sys.argv[1], \"rb\").read())' {}",
    "t=$(mktemp -u); python3 -c 'import sys, shutil; shutil.copyfile(*sys.argv[1:])' {} $t;"
    " cat $t; rm $t",
    "t=$(mktemp -u); install -m 600 {} $t; cat $t; rm $t",
    "t=$(mktemp -u); cp {} $t; cat $t; rm $t",
]  # fmt: skip


@pytest.mark.parametrize("command", WHOLE)
def test_programs_read_all_of_it_whether_its_length_is_known_or_not(
    web: Mounted, command: str
) -> None:
    known = web.shell(command.replace("{}", "$KNOWN"))
    assert known.stdout.removesuffix(b"\n") == DIGITS
    assert web.shell(command.replace("{}", "$UNKNOWN")).stdout.rstrip(b"\n") == bytes(100_000)


@pytest.mark.parametrize(
    ("command", "known", "unknown"),
    [
        ("grep -ac 0 {}", "1", "0"), ("awk '{print length($0)}' {}", "100000", None),
        ("wc -c < {}", "100000", "100000"), ("tail -c 5 {} | od -An -c", "5   6   7   8   9", None),
        ("dd if={} bs=1000 skip=99 status=none | wc -c", "1000", "1000"),
        # These take the size from a stat before the open.
        ("tar cf - {} 2>/dev/null | tar tvf - | awk '{print $3}'", "0", "0"),
    ],
)  # fmt: skip
def test_what_programs_see(web: Mounted, command: str, known: str, unknown: str | None) -> None:
    assert web.says(command.replace("{}", "$KNOWN")).strip() == known
    if unknown is not None:
        assert web.shell(command.replace("{}", "$UNKNOWN")).stdout.decode().strip() == unknown


def test_the_size_is_exact_once_it_is_open(web: Mounted) -> None:
    path = web.get("/parts/12345")
    assert path.stat().st_size == 0
    with path.open("rb") as file:
        assert os.fstat(file.fileno()).st_size == 12345
        file.seek(-5, os.SEEK_END)
        assert file.read() == DIGITS[12340:12345]
        file.seek(0)
        assert file.read() == DIGITS[:12345]


def test_sendfile_sees_all_after_an_fstat_and_nothing_without(web: Mounted, tmp_path: Path) -> None:
    for look, expected in ((True, 50_000), (False, 0)):
        source = os.open(web.get(f"/parts/50000?{look}"), os.O_RDONLY)
        with (tmp_path / "copy").open("wb") as target:
            if look:
                os.fstat(source)
            sent = os.sendfile(target.fileno(), source, None, 1 << 20)
        os.close(source)
        assert sent == expected


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_reads_and_copies(web: Mounted, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    program = (
        "const fs = require('fs'), [p, c] = process.argv.slice(1); fs.copyFileSync(p, c);"
        "console.log(fs.readFileSync(p).length, fs.statSync(c).size)"
    )
    assert web.says(f'node -e "{program}" $KNOWN {copy}') == "100000 100000\n"
    # Its copy asks the kernel for as many bytes as stat tells.
    assert web.says(f'node -e "{program}" $UNKNOWN {copy}') == "100000 0\n"


def test_gzip_does_not_wait_for_a_stream(web: Mounted) -> None:
    done = web.shell(f"gzip -c {web.get('/sse/0')}")
    assert b"temporarily unavailable" in done.stderr


def test_programs_that_read_every_file_come_to_an_end(web: Mounted) -> None:
    assert "README" in web.says("grep -rl policy .")
    assert "./call" in web.says("tar cf - . | tar tf -")
    assert web.says("find get").split() == ["get", "get/http", "get/https"]
    assert web.says("ls") == "README\ncall\nget\npolicy\n"


def test_status_and_refusal_are_told_as_errno_and_sentence(web: Mounted) -> None:
    for status, number in ((404, 2), (403, 13), (500, 5)):
        with pytest.raises(OSError, match=rf"Errno {number}\]"):
            web.get(f"/status/{status}").read_bytes()
        assert f"answered {status}" in web.sentences()


def test_a_denial_is_explained_by_why_and_ends_with_its_remedy(guarded: Mounted) -> None:
    path = guarded.get("/status/200")
    with pytest.raises(PermissionError):
        path.read_bytes()
    why = (guarded.path / "dev/why").read_text()
    remedy = re.search(r"allow GET http://127\.0\.0\.1:\d+\S*", why)
    assert remedy, why
    guarded.says(f"echo '{remedy[0]}' >> policy")
    assert path.read_bytes() == b"200"
    assert guarded.says("cat policy") == f"{remedy[0]}\n"


def test_the_policy_is_replaced_by_common_programs_at_their_close(
    guarded: Mounted, tmp_path: Path
) -> None:
    path, rules = guarded.get("/status/200"), tmp_path / "rules"
    allow = f"allow GET {guarded.url('/**')}\n"
    rules.write_text("# mine\n" + allow)
    for command in (f"cp {rules} policy", f"cat {rules} > policy", f"tee policy < {rules}"):
        guarded.says("echo 'deny *' > policy")
        assert guarded.shell(f"cat {path}").returncode
        guarded.says(command)
        assert path.read_bytes() == b"200"
    rules.write_text(allow + "permit *\n")
    done = guarded.shell(f"cp {rules} policy")
    assert b"Invalid argument" in done.stderr
    assert "policy:2:1" in guarded.sentences()
    assert path.read_bytes() == b"200"
    guarded.says("{ echo 'deny *'; true; cat /dev/null; echo '# end'; } > policy")
    assert guarded.says("cat policy") == "deny *\n# end\n"


# call -----------------------------------------------------------------------------------------


def test_bash_asks_again_and_again_through_one_descriptor(web: Mounted) -> None:
    said = web.says(
        """
        exec 3<>call
        for n in 201 202 203; do
            echo "{\\"url\\": \\"$U/status/$n\\"}" >&3
            read -r answer <&3
            echo "$answer" | jq -c '[.status, .body]'
        done
        jq -nc '{url: "'$U'/echo", json: {a: "é\\n"}}' >&3
        cat <&3 | jq -r .body | jq -r .body | jq -c .
        """
    )
    assert said == '[201,"201"]\n[202,"202"]\n[203,"203"]\n{"a":"Ã©\\n"}\n'


def test_bash_sees_a_failure_and_goes_on(web: Mounted) -> None:
    done = web.shell(
        """
        exec 3<>call
        echo "{\\"url\\": \\"$U/reset\\"}" >&3
        read -r answer <&3; echo $?
        echo "{\\"url\\": \\"$U/status/404\\"}" >&3
        read -r answer <&3; echo "$answer" | jq .status
        echo nonsense >&3 || echo refused
        """
    )
    assert done.stdout == b"1\n404\nrefused\n"
    assert b"Connection reset by peer" in done.stderr
    assert b"Invalid argument" in done.stderr


def test_buffered_files_of_python_and_node_work(web: Mounted) -> None:
    for mode in ("r+", "r+b"):
        with (web.http / "call").open(mode) as file:
            for status in (201, 202):
                line = json.dumps({"url": web.url(f"/status/{status}")}) + "\n"
                file.write(line if mode == "r+" else line.encode())
                file.flush()
                assert json.loads(file.readline())["status"] == status


def test_an_answer_can_be_waited_for_with_poll(web: Mounted) -> None:
    call = os.open(web.http / "call", os.O_RDWR)
    os.write(call, json.dumps({"url": web.url("/slow/0.3")}).encode() + b"\n")
    poll = select.poll()
    poll.register(call, select.POLLIN)
    assert poll.poll(20_000)
    assert json.loads(os.read(call, 1 << 16))["body"] == "late"
    os.close(call)


# Conversations --------------------------------------------------------------------------------


def test_a_shell_uploads_a_large_file_and_reads_the_answer(web: Mounted) -> None:
    said = web.says(
        """
        exec 4<new; read -r n <&4
        echo $U/upload > $n/url
        head -c 20000000 /dev/zero > $n/body
        cat $n/response; echo
        head -c 5000 /dev/zero > $n/body
        echo start > $n/ctl
        cat $n/response; echo
        echo 'length 3000000' > $n/ctl
        head -c 3000000 /dev/zero > $n/body
        cat $n/response; echo
        sed -n '/^state/p; /^sent/p' $n/status
        """
    ).splitlines()
    assert [json.loads(line)["bytes"] for line in said[:3]] == [20_000_000, 5000, 3_000_000]
    assert said[3:] == ["state done", "sent 3000000"]


def test_a_conversation_tells_its_failure(web: Mounted) -> None:
    done = web.shell(
        "exec 4<new; read -r n <&4; echo http://127.0.0.1:2/ > $n/url; cat $n/response $n/error"
    )
    assert b"Connection refused" in done.stderr
    assert b"127.0.0.1" in done.stdout


def test_events_arrive_as_they_come(web: Mounted) -> None:
    said = web.says(
        "exec 4<new; read -r n <&4; echo $U/sse/0 > $n/url; cat $n/response | head -n 3"
    )
    assert said == "data: 1\n\ndata: 2\n"


@pytest.mark.parametrize("path", ["/hang", "/endless", "/stall/1000", "/drip/1"])
def test_a_signal_ends_an_open_or_a_read_that_waits(web: Mounted, path: str) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        reader = subprocess.Popen(["cat", web.get(path)], stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.3)
        reader.send_signal(number)
        began = time.monotonic()
        assert reader.wait(10) == -number
        assert time.monotonic() - began < 5


def test_others_go_on_while_many_wait(web: Mounted) -> None:
    waiting = [
        subprocess.Popen(["cat", web.get(f"/hang?{n}")], stdout=subprocess.DEVNULL)
        for n in range(6)
    ]
    try:
        began = time.monotonic()
        for _ in range(20):
            assert (web.http / "README").stat().st_size
        assert web.get("/status/200").read_bytes() == b"200"
        assert time.monotonic() - began < 5
    finally:
        for reader in waiting:
            reader.kill()
            reader.wait(10)


def test_a_long_download_runs_in_constant_memory(web: Mounted) -> None:
    def resident() -> int:
        status = Path(f"/proc/{web.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]

    web.says(f"cat {web.get('/bytes/30000000')} > /dev/null")
    before = resident()
    for path in ("/bytes/400000000", "/streamed/200000000"):
        assert web.says(f"cat {web.get(path)} | wc -c").strip() == path.rpartition("/")[2]
    assert resident() - before < 24_000
    wait_until(lambda: resident() - before < 16_000)
