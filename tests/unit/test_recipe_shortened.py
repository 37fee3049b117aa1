"""The recipe of a namespace that lives long stays short."""

import pytest

from oanix.namespace import Namespace, Where
from oanix.recipe import Bind, Mount, Unmount, shortened
from oanix.services.memfs import MemFs


def test_binding_and_unmounting_for_ever_leaves_no_trace() -> None:
    namespace = Namespace()
    namespace.mount(MemFs(), "/mem")
    before = namespace.recipe()
    for _ in range(100):
        namespace.bind("/mem", "/other")
        namespace.bind("/mem", "/other", Where.AFTER)
        namespace.unmount("/other")
    assert namespace.recipe() == before


def test_binding_in_place_of_a_bind_keeps_the_last_alone() -> None:
    namespace = Namespace()
    namespace.mount(MemFs(), "/mem")
    for _ in range(100):
        namespace.bind("/mem", "/other")
    assert namespace.recipe() == "mount mem /mem\nbind /mem /other\n"


@pytest.mark.parametrize(
    "lines",
    [
        # A later bind looked at the path.
        (Bind("/a", "/p"), Bind("/p/x", "/q")),
        # A later line changed what lies above.
        (Bind("/a", "/p/x"), Mount("mem", "/")),
        # A bind above may have brought mounts along.
        (Bind("/a", "/"), Mount("mem", "/p")),
        # Nothing was done to the path.
        (Bind("/a", "/q"),),
    ],
)
def test_what_another_line_depends_on_stays(lines: tuple[Bind | Mount, ...]) -> None:
    assert shortened(lines, Unmount("/p")) == lines
