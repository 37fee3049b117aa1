"""Run the preview 1 modules of WebAssembly's wasi-testsuite with `oanix agent run`.

    git clone --branch prod/testsuite-base https://github.com/WebAssembly/wasi-testsuite
    python -m tests.scheduler.wasi_testsuite wasi-testsuite

A line a module that ends otherwise than its specification says, and the sum. Each module gets a
fresh copy of the directory that its specification names, as `/`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

OANIX = (sys.executable, "-m", "oanix")
TIME_OUT_S = 60.0


def modules(checkout: Path) -> list[Path]:
    """Find the modules of preview 1."""
    return sorted(checkout.glob("tests/*/testsuite/wasm32-wasip1/*.wasm"))


def specification(module: Path) -> dict[str, Any]:
    """Read what a module is given and how it has to end."""
    beside = module.with_suffix(".json")
    said = json.loads(beside.read_text()) if beside.exists() else {}
    return {"args": [], "env": {}, "root": None, "exit_code": 0, "stdout": None, **said}


def run(module: Path, here: Path) -> str:
    """Run a module; gives what was wrong, or nothing."""
    said = specification(module)
    words = [word for name, value in said["env"].items() for word in ("--env", f"{name}={value}")]
    if said["root"] is None:
        words.append("--bare")
    else:
        shutil.copytree(module.parent / said["root"], here / "root")
        words += ["--dir", f"{here / 'root'}::/"]
    (here / "cwd").mkdir()
    try:
        done = subprocess.run(
            [*OANIX, "agent", "run", *words, str(module), *said["args"]], cwd=here / "cwd",
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIME_OUT_S,
            env={**os.environ, "OANIX_STATE": str(here / "state"), "PYTHONPATH": os.getcwd()},
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not within {TIME_OUT_S:g} s"
    if done.returncode != said["exit_code"]:
        return f"code {done.returncode}, not {said['exit_code']}: {done.stderr.strip()[-600:]}"
    if said["stdout"] is not None and done.stdout != said["stdout"]:
        return f"it wrote {done.stdout!r}, not {said['stdout']!r}"
    return ""


def main(checkout: str, *names: str) -> int:
    """Run all, or those of these names; gives the exit code."""
    found = [one for one in modules(Path(checkout)) if not names or one.stem in names]
    failed = 0
    for module in found:
        with tempfile.TemporaryDirectory() as folder:
            wrong = run(module, Path(folder))
        if wrong:
            failed += 1
            sys.stdout.write(f"{module.parents[2].name} {module.stem}: {wrong}\n")
    sys.stdout.write(f"{len(found)} modules, {len(found) - failed} pass, {failed} fail\n")
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
