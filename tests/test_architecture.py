"""The rules of the layout: who imports whom, and what no module may do."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("oanix", "mounts", "coder_api")
CONTRACTS = ROOT / ".importlinter"

# All of oanix but the kernel. What is not named here is kernel, a new module too.
ABOVE_THE_KERNEL = {"__main__", "cli", "assembly", "env", "scheduler", "dvm", "services", "lib"}
KERNEL_LIBRARIES = {"trio", "attrs", "apsw"}
ONE_IMPORTER: dict[str, str | tuple[str, ...]] = {
    "msgspec": "oanix.lib.nostr.codec",
    "coincurve": "oanix.lib.nostr.keys",
    "bech32": "oanix.lib.nostr.nip19",
    "ada_url": "oanix.lib.url",
    "h11": ("oanix.lib.web", "mounts.web"),
    "h2": "oanix.lib.web",
    "hishel": "oanix.lib.web",
    "brotli": "oanix.lib.web",
    "backports": "oanix.lib.web",
    "httpcore2": "oanix.lib.web",
    "wsproto": "oanix.lib.websocket",
    # Each uses other parts of it: secrets at rest, and the ciphers of NIP-44.
    "cryptography": ("oanix.lib.vault", "oanix.lib.nostr.nip44"),
    "keyring": "oanix.lib.vault",
    "wasmtime": "oanix.scheduler.engine",
}


def _lint_imports(folder: Path) -> "subprocess.CompletedProcess[str]":
    # In a process of its own: import-linter switches off the loggers of the one it runs in.
    program = "from importlinter.cli import lint_imports_command as main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "--config", CONTRACTS, "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_packages_keep_the_import_contracts() -> None:
    run = _lint_imports(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


FORBIDDEN_IMPORTS = {
    "oanix.lib.planted": "oanix.services",
    "oanix.services.planted": "oanix.scheduler",
    "oanix.services.one": "oanix.services.two",
    "oanix.scheduler.planted": "oanix.assembly",
    "oanix.assembly": "mounts",
    "oanix.env": "oanix.cli",
    "mounts.planted": "coder_api",
    "mounts.other": "oanix.services.two",
    "coder_api.planted": "oanix.node",
    "coder_api.other": "pyfuse3",
    "oanix.kit": "apsw",
}
ALLOWED_IMPORTS = {
    "mounts.fuse.serving": "pyfuse3",
    "oanix.store": "apsw",
    "oanix.cli": "coder_api",
}


@pytest.mark.slow
def test_every_contract_catches_what_it_forbids(tmp_path: Path) -> None:
    for package in (*PACKAGES, "oanix.lib", "oanix.services", "oanix.scheduler"):
        _write_module(tmp_path, f"{package}.__init__", "")
    _write_module(tmp_path, "oanix.node", "")
    _write_module(tmp_path, "oanix.services.two", "")
    for module, imported in {**FORBIDDEN_IMPORTS, **ALLOWED_IMPORTS}.items():
        _write_module(tmp_path, module, f"import {imported}\n")

    run = _lint_imports(tmp_path)

    assert run.returncode == 1, run.stderr
    kept = [name for name in _contract_names() if f"{name} BROKEN" not in run.stdout]
    assert kept == []
    missed = [
        f"{a} -> {b}" for a, b in FORBIDDEN_IMPORTS.items() if f"{a} -> {b}" not in run.stdout
    ]
    assert missed == []
    refused = [f"{a} -> {b}" for a, b in ALLOWED_IMPORTS.items() if f"{a} -> {b}" in run.stdout]
    assert refused == []


def test_the_kernel_imports_only_itself_and_its_three_libraries() -> None:
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    kernel = {module for module in graph.modules if _is_kernel(module)}
    allowed = kernel | KERNEL_LIBRARIES | sys.stdlib_module_names
    assert "oanix.node" in kernel
    strays = [
        f"{module} -> {imported}"
        for module in sorted(kernel)
        for imported in sorted(graph.find_modules_directly_imported_by(module) - allowed)
    ]
    assert strays == []


def test_each_large_library_has_one_importer() -> None:
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    strays = [
        f"{importer} -> {library}"
        for library, home in ONE_IMPORTER.items()
        if library in graph.modules
        for importer in sorted(graph.find_modules_that_directly_import(library))
        if not any(
            importer == one or importer.startswith(f"{one}.")
            for one in ((home,) if isinstance(home, str) else home)
        )
    ]
    assert strays == []
    assert "ada_url" in graph.modules


def test_no_module_prints_keeps_state_or_imports_by_string() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{fault}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for fault in _faults(ast.parse(path.read_bytes()))
    ]
    assert faults == []


def test_the_search_for_faults_finds_them() -> None:
    source = """
import importlib
cache: dict[str, int] = {}
seen = set()
VERBS = {"a": 1}
NAMES = list(VERBS)
NOTHING: Mapping[str, int] = {}
def f():
    global seen
    seen = {}
    print(seen)
    importlib.import_module("apsw")
"""
    assert list(_faults(ast.parse(source))) == [
        "3: an empty container at module level is state",
        "4: an empty container at module level is state",
        "9: global",
        "11: print",
        "12: importing apsw by its name hides it from import-linter",
    ]


def _write_module(root: Path, module: str, source: str) -> None:
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)


def _contract_names() -> list[str]:
    contracts = ConfigParser()
    contracts.read(CONTRACTS)
    return [contracts[s]["name"] for s in contracts.sections() if s.startswith("importlinter:")]


def _is_kernel(module: str) -> bool:
    package, *rest = module.split(".")
    return package == "oanix" and not ABOVE_THE_KERNEL.intersection(rest[:1])


def _faults(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if _makes_state(statement):
            yield f"{statement.lineno}: an empty container at module level is state"
    for node in ast.walk(tree):
        match node:
            case ast.Global(lineno=line):
                yield f"{line}: global"
            case ast.Call(func=ast.Name(id="print"), lineno=line):
                yield f"{line}: print"
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value="apsw" | "pyfuse3" as name), *_],
                lineno=line,
            ):
                yield f"{line}: importing {name} by its name hides it from import-linter"


def _makes_state(statement: ast.stmt) -> bool:
    """Tell whether a statement makes what can only be there to be filled later."""
    match statement:
        case ast.AnnAssign(annotation=ast.Subscript(value=ast.Name(id="Mapping" | "Sequence"))):
            return False  # mypy sees to it that nothing is put in
        case ast.Assign(value=value) | ast.AnnAssign(value=value):
            return _is_empty(value)
    return False


def _is_empty(value: ast.expr | None) -> bool:
    match value:
        case ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
        case ast.Call(func=ast.Name(id="set" | "list" | "dict"), args=[], keywords=[]):
            return True
        case ast.Call(func=ast.Name(id="deque" | "defaultdict"), args=[] | [_]):
            return True
    return False
