"""`oanix mount`: serve a namespace at a mount point, in the foreground or in the background."""

import errno
import logging
import os
import stat
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click
import trio
from attrs import evolve, field, frozen

from oanix.assembly import directories
from oanix.cli.daemon import in_background, log_file
from oanix.cli.failures import FAILED, Failure, sentence
from oanix.cli.live import followed
from oanix.cli.output import complain, escape
from oanix.cli.running import awaiting_signal
from oanix.cli.source import Source, key_of, source_of
from oanix.cli.web_port import PortPlan, port_plan, takes_tls, web_port
from oanix.env import OanixEnv
from oanix.env.environment import Serving

if TYPE_CHECKING:
    from mounts.door import Door
    from mounts.options import FuseOptions
    from oanix.lib.vault import Key
    from oanix.namespace import Namespace

EPILOG = """\b
Examples:
  oanix mount ~/mnt                  this directory, at ~/mnt/workspace, until Ctrl-C
  oanix mount ~/project ~/mnt        another directory
  oanix mount --daemon ~/project ~/mnt && cd ~/mnt
  oanix mount -n team.ns --ro ~/mnt  what a recipe says, read-only
  oanix mount --web 7777 . ~/mnt     its relay at ws://127.0.0.1:7777/, too
  oanix mount -o exclusive . ~/mnt   faster writes, when nobody else changes the directory

Options for -o: ro, allow-other, exclusive, list-all, nonempty, linger-us=N."""


@frozen
class Plan:
    """All that is needed to serve, with absolute paths."""

    source: Source
    mountpoint: str
    options: "FuseOptions"
    port: PortPlan
    log: str = ""
    key: "Key | None" = field(default=None, repr=False)


@click.command(short_help="Serve a directory or a recipe.", epilog=EPILOG)
@click.option("-n", "recipe", metavar="RECIPE", help="Serve that of a recipe; - reads stdin.")
@click.option("--ro", is_flag=True, help="Mount it read-only.")
@click.option("-o", "options", metavar="OPTION", multiple=True, help="Set a mount option.")
@click.option(
    "--web", metavar="[HOST:]PORT", multiple=True, help="Serve its relay on this port, too."
)
@takes_tls
@click.option("--daemon", is_flag=True, help="Return when it is mounted, and serve on.")
@click.argument("paths", metavar="[DIR] MOUNTPOINT", nargs=-1, required=True)
def mount(
    recipe: str | None, ro: bool, options: tuple[str, ...], web: tuple[str, ...], url: str,
    tls_cert: str, tls_key: str, proxies: tuple[str, ...], daemon: bool, paths: tuple[str, ...],
) -> None:  # fmt: skip
    """Serve DIR (default: the current directory), or a recipe, at MOUNTPOINT.

    It ends, and is unmounted, by Ctrl-C, SIGTERM, SIGHUP, or `oanix unmount MOUNTPOINT`.
    """
    if len(paths) > 2:
        raise click.UsageError("give DIR and MOUNTPOINT, or MOUNTPOINT alone")
    directory = paths[0] if len(paths) == 2 else None
    _require_fuse()
    source = source_of(recipe, directory)
    parsed = _options([*options, *(["ro"] if ro else [])])
    mountpoint = _mountpoint(paths[-1], source)
    port = port_plan(web, url, tls_cert, tls_key, proxies)
    key = key_of(source, ask=True, mountpoint=mountpoint)
    plan = Plan(source, mountpoint, parsed, port, key=key)
    if not daemon:
        _log_to_stderr()
        _serve(plan, lambda: complain(f"oanix: {_mounted(plan)}; Ctrl-C unmounts"))
        complain(f"oanix: unmounted {escape(plan.mountpoint)}")
        return
    log = log_file(source.state, plan.mountpoint)
    pid = in_background(lambda ready: _serve(evolve(plan, log=log), ready), log)
    complain(f"oanix: {_mounted(plan)} by process {pid}")


def _mounted(plan: Plan) -> str:
    return f"mounted {escape(plan.source.called)} at {escape(plan.mountpoint)}"


def _options(words: list[str]) -> "FuseOptions":
    from mounts.options import FuseOptions

    try:
        return FuseOptions.parse(words)
    except PermissionError as error:
        raise Failure(sentence(error), code=os.EX_NOPERM) from None
    except (OSError, ValueError) as error:
        raise click.UsageError(
            sentence(error) if isinstance(error, OSError) else str(error)
        ) from None


def _mountpoint(given: str, source: Source) -> str:
    """Make the mount point absolute; refuse one that would hide what the server itself needs."""
    if not given:
        raise click.UsageError("the mount point is empty")
    real = os.path.realpath(given)
    if _within(os.path.realpath(source.state), real):
        raise Failure(
            f"a mount at {given} would hide the state folder {source.state}",
            "choose another mount point, or set OANIX_STATE to a folder elsewhere",
            os.EX_CANTCREAT,
        )
    for directory in directories(source.lines, source.context):
        if _within(os.path.realpath(directory), real):
            raise Failure(
                f"a mount at {given} would hide {directory}, which it serves",
                "choose a mount point that does not contain the directory",
                os.EX_CANTCREAT,
            )
    return followed(given)


def _within(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def _serve(plan: Plan, ready: Callable[[], None]) -> None:
    trio.run(_run, plan, ready)


async def _run(plan: Plan, ready: Callable[[], None]) -> None:
    serving = Serving(mountpoint=plan.mountpoint, serves=plan.source.called, log=plan.log)
    with awaiting_signal() as signal_to_end:
        async with (
            OanixEnv.open(
                plan.source.lines,
                plan.source.context,
                state=plan.source.state,
                serving=serving,
                key=plan.key,
                journal=plan.source.journal,
            ) as env,
            trio.open_nursery() as nursery,
        ):

            async def end_by_signal() -> None:
                await signal_to_end()
                nursery.cancel_scope.cancel()

            def started(door: "Door") -> None:
                env.operations = lambda: door.operations
                ready()

            nursery.start_soon(end_by_signal)
            async with AsyncExitStack() as ports:
                if plan.port.where:
                    await ports.enter_async_context(web_port(env.namespace, plan.port))
                await _through_fuse(env.namespace, plan, started)
            nursery.cancel_scope.cancel()


async def _through_fuse(
    namespace: "Namespace", plan: Plan, started: "Callable[[Door], None]"
) -> None:
    from mounts import fuse

    try:
        await fuse.serve(namespace, plan.mountpoint, plan.options, started=started)
    except OSError as error:
        code = _MOUNT_CODES.get(error.errno or 0, FAILED)
        raise Failure(sentence(error), _advice(error, plan.mountpoint), code) from error


def _advice(error: OSError, mountpoint: str) -> str:
    if error.errno == errno.EBUSY:
        return f"choose another mount point, or undo that mount: oanix unmount {mountpoint}"
    if error.errno == errno.ENOTDIR:
        return "choose a directory"
    if error.errno == errno.EPERM and not _may_cover(mountpoint):
        return "choose a mount point of your own: a user can mount only where he may write"
    return ""


def _may_cover(mountpoint: str) -> bool:
    """Tell whether fusermount3 lets this user mount here: its check_perm asks for the same."""
    found = os.stat(mountpoint)
    mine = not found.st_mode & stat.S_ISVTX or found.st_uid == os.geteuid()
    return not os.geteuid() or (mine and os.access(mountpoint, os.W_OK))


def _require_fuse() -> None:
    try:
        from mounts import fuse  # noqa: F401  # to see whether it is there
    except ImportError as error:
        raise Failure(
            f"mounting needs pyfuse3, which cannot be used here ({error})",
            "pip install 'oanix[fuse]' (it builds against libfuse 3), or look without a mount: "
            "oanix ls /",
            os.EX_UNAVAILABLE,
        ) from None


_MOUNT_CODES = {
    errno.ENODEV: os.EX_UNAVAILABLE,
    errno.ENOENT: os.EX_CANTCREAT,
    errno.ENOTDIR: os.EX_CANTCREAT,
    errno.ENOTEMPTY: os.EX_CANTCREAT,
    errno.EBUSY: os.EX_CANTCREAT,
    errno.EPERM: os.EX_NOPERM,
    errno.EACCES: os.EX_NOPERM,
}


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.WARNING, format="oanix: %(levelname)s: %(message)s")
