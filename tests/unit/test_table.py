"""The mount table: changed copies that share what did not change."""

from hypothesis import given
from hypothesis import strategies as st

from oanix.service import Service
from oanix.table import Access, Member, MountEntry, Place, mapped, merged, put
from tests.unit.trees import Tree

SERVICE: Service = Tree()
PATH = st.lists(st.sampled_from("abc"), max_size=4).map(tuple)


def mount(maker: int = 1, *, locked: bool = False) -> Place:
    return Place((Member(MountEntry(SERVICE), SERVICE.root),), maker=maker, locked=locked)


@given(st.lists(st.tuples(PATH, st.booleans()), max_size=12))
def test_a_table_shows_what_was_put_last_at_each_path(
    acts: list[tuple[tuple[str, ...], bool]],
) -> None:
    table = Place()
    model: dict[tuple[str, ...], Place] = {}
    for names, adds in acts:
        place = mount() if adds else None
        before = table
        kept = dict(before.children)
        table = put(table, names, place)
        assert dict(before.children) == kept
        model = {at: kept for at, kept in model.items() if at[: len(names)] != names}
        if place is not None:
            model[names] = place
    for names, place in model.items():
        found = table.find(names)
        assert found is not None
        assert found.members == place.members
    assert sum(bool(place.members) for place in table.walk()) == len(model)
    for place in table.walk():
        below = list(place.walk())
        assert place.shows == any(one.members for one in below)
        assert place.binds == any(one.members or one.opaque for one in below)
        assert place is table or place.binds


def test_a_change_shares_what_it_does_not_touch() -> None:
    table = put(put(Place(), ("a", "b"), mount()), ("c",), mount())
    changed = put(table, ("c",), None)
    assert changed.find(("a",)) is table.find(("a",))
    assert changed.find(("c",)) is None
    assert table.find(("c",)) is not None


def test_places_that_lead_nowhere_go_and_locks_and_drops_stay() -> None:
    table = put(Place(), ("a", "b", "c"), mount())
    assert put(table, ("a", "b", "c"), None).find(("a",)) is None
    for mark in (Place(opaque=True), Place(locked=True)):
        assert put(table, ("a", "b", "c"), mark).find(("a", "b", "c")) is mark


def test_a_table_is_measured_in_places_and_levels() -> None:
    table = put(put(Place(), ("a", "b"), mount()), ("c",), mount())
    assert table.measure() == (4, 3)


def test_every_place_is_changed_children_first() -> None:
    table = put(put(Place(), ("a", "b"), mount()), ("c",), mount())
    order: list[int] = []

    def change(place: Place) -> Place:
        order.append(len(list(place.walk())))
        return place

    assert mapped(table, change).measure() == table.measure()
    assert order[-1] == 4
    assert sorted(order) == [1, 1, 2, 4]


def test_a_merge_keeps_the_first_and_the_covers_of_both() -> None:
    first = put(put(Place(), ("a",), mount()), ("b", "x"), mount())
    second = put(put(Place(), ("a",), mount()), ("b", "y"), Place(opaque=True, locked=True))
    children = merged(first, second)
    assert children["a"] is first.children["a"]
    assert set(children["b"].children) == {"x", "y"}
    assert children["b"].children["y"].opaque


def test_what_a_namespace_made_itself_is_not_foreign_to_it() -> None:
    assert not mount(maker=1).holds_foreign(1)
    assert mount(maker=1).holds_foreign(2)
    assert mount(maker=1, locked=True).holds_foreign(1)
    assert Place(opaque=True, maker=1).holds_foreign(2)
    assert put(Place(), ("a", "b"), mount(maker=2)).holds_foreign(1)
    assert not put(Place(), ("a", "b"), mount(maker=1)).holds_foreign(1)
    assert not put(mount(maker=1), ("a",), mount(maker=2, locked=True)).holds_foreign(1)


def test_the_stricter_access_of_two_holds() -> None:
    order = [Access.RW, Access.APPEND, Access.RO]
    for one in order:
        for other in order:
            stricter = max(one, other, key=order.index)
            assert one.narrowed(other) is stricter
