"""The history of a namespace that lives long stays short."""

from oanix.namespace import Namespace, Where
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


def test_what_was_done_elsewhere_meanwhile_keeps_both() -> None:
    namespace = Namespace()
    namespace.mount(MemFs(), "/mem")
    namespace.bind("/mem", "/other")
    namespace.bind("/other", "/third")
    namespace.unmount("/other")
    assert namespace.recipe().splitlines() == [
        "mount mem /mem",
        "bind /mem /other",
        "bind /other /third",
        "unmount /other",
    ]
