"""How well category and text of a product fit: read in quiet moments, once, and never in anyone's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from builders import raw_item, raw_removal

from stream.catalog import product_fit
from stream.catalog.product_fit import FitReader
from stream.catalog.view import CatalogView
from stream.catalog.writer import CatalogWriter
from stream.core.items import Item
from stream.core.policy import Policy
from stream.errors import ModelUnavailable
from stream.fakes import ExactIndex, HashEncoder, MemoryPublisher, SharedWordsCrossEncoder, WordIndex
from stream.ports import RawMessage
from stream.telemetry.metrics import Telemetry


class Desk:
    """A catalogue, its topic and its reader; the fake model counts the words that category and text share."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.publisher = MemoryPublisher()
        self.telemetry = Telemetry()
        self.model = SharedWordsCrossEncoder()
        self.view = CatalogView(ExactIndex, WordIndex(), self.telemetry, self.policy)
        self.owns: Callable[[str], bool] = lambda _: True
        self.version = ""
        self.when_quiet: Callable[[], None] = lambda: None
        self.rests: list[float] = []
        self._followed = 0
        self.writer = CatalogWriter(
            self.view, HashEncoder(), self.publisher, self.telemetry, lambda _: True, self.policy
        )
        self.reader = FitReader(
            self.view,
            self.writer,
            self.model,
            lambda: self.version,
            lambda item_id: self.owns(item_id),
            self._quiet,
            self.policy,
            self.telemetry,
            self._rest,
        )

    def bring(self, *messages: RawMessage) -> None:
        asyncio.run(self.writer.handle(messages))
        self.follow()

    def read(self) -> int:
        noted = asyncio.run(self.reader.work_off())
        self.follow()
        return noted

    def follow(self) -> None:
        self.view.apply(self.publisher.vectors[self._followed :])
        self._followed = len(self.publisher.vectors)

    def item(self, item_id: str) -> Item:
        found = self.view.items.get(item_id)
        assert found is not None
        return found

    async def _quiet(self) -> None:
        self.when_quiet()

    async def _rest(self, wait_s: float) -> None:
        self.rests.append(wait_s)


MUG = raw_item("mug", "red mug", category=["home", "mug"], offset=0)
LAMP = raw_item("lamp", "iron pan", category=["home", "lamp"], offset=1)


def test_the_fit_is_kept_with_the_item_and_a_misfit_is_a_finding_that_alone_holds_nothing_back() -> None:
    desk = Desk()
    desk.bring(MUG, LAMP)
    assert desk.read() == 2
    mug, lamp = desk.item("mug"), desk.item("lamp")
    assert (mug.fit, mug.fit_version, mug.quality, mug.quality_findings) == (1.0, "1", 1.0, ())
    assert (lamp.fit, lamp.quality, lamp.quality_findings) == (0.0, 0.6, ("misfit",))
    assert not desk.view.items.held_back(lamp)
    assert desk.view.has_vector("lamp")


def test_a_misfit_holds_back_what_is_in_doubt_already_or_alone_where_the_policy_says_so() -> None:
    doubted = raw_item("doubted", "iron pan &amp; <b>lid</b> <i>", category=["lamp"], offset=2)
    desk = Desk()
    desk.bring(doubted)
    assert not desk.view.items.held_back(desk.item("doubted"))
    desk.read()
    assert desk.view.items.held_back(desk.item("doubted"))
    strict = Desk(Policy(misfit_weight=0.6))
    strict.bring(MUG, LAMP)
    strict.read()
    assert [strict.view.items.held_back(strict.item(item_id)) for item_id in ("mug", "lamp")] == [False, True]


def test_a_text_is_read_once_and_again_when_it_changes() -> None:
    desk = Desk()
    desk.bring(MUG, LAMP)
    desk.read()
    assert desk.read() == 0
    desk.bring(raw_item("lamp", "iron pan", category=["home", "lamp"], price=9.0, offset=2))
    assert (desk.item("lamp").price, desk.item("lamp").quality) == (9.0, 0.6)
    assert desk.read() == 0
    desk.bring(raw_item("lamp", "iron lamp", category=["home", "lamp"], offset=3))
    assert (desk.item("lamp").fit, desk.item("lamp").quality) == (None, 1.0)
    assert desk.read() == 1
    assert (desk.item("lamp").fit, desk.item("lamp").quality_findings) == (1.0, ())
    assert sum(map(len, desk.model.calls)) == 3


def test_another_version_of_the_model_reads_again() -> None:
    desk = Desk()
    desk.bring(LAMP)
    desk.read()
    desk.version = desk.model.version = "2"
    assert desk.read() == 1
    lamp = desk.item("lamp")
    assert (lamp.fit_version, lamp.quality, lamp.text_quality) == ("2", 0.6, 1.0)
    assert lamp.quality_findings == ("misfit",)


def test_items_without_category_and_items_of_other_workers_are_not_read() -> None:
    desk = Desk()
    desk.owns = lambda item_id: item_id != "lamp"
    desk.bring(MUG, LAMP, raw_item("plain", "a thing for the house", offset=2))
    assert desk.read() == 1
    assert desk.model.calls == [[("mug", "red mug")]]


def test_a_policy_can_do_without() -> None:
    desk = Desk(Policy(min_fit=0.0))
    desk.bring(MUG, LAMP)
    assert desk.read() == 0
    assert desk.model.calls == []


def test_what_is_in_doubt_is_read_first_a_few_at_a_time_with_rests_between() -> None:
    desk = Desk()
    doubted = raw_item("doubted", "iron pan &amp; <b>lid</b> <i>", category=["lamp"], offset=0)
    others = [
        raw_item(f"mug{n}", "red mug", category=["mug"], offset=1 + n) for n in range(product_fit.PAIRS)
    ]
    desk.bring(*others, doubted)
    desk.read()
    assert desk.model.calls[0][0] == ("lamp", "iron pan &amp; <b>lid</b> <i>")
    assert [len(call) for call in desk.model.calls] == [product_fit.PAIRS, 1]
    assert len(desk.rests) == 2


@pytest.mark.parametrize(
    "newer",
    [raw_item("mug", "red mug", category=["home", "mug"], price=3.0, offset=9), raw_removal("mug", offset=9)],
)
def test_what_was_read_never_overtakes_an_update_or_a_removal(newer: RawMessage) -> None:
    desk = Desk()
    desk.bring(MUG)

    def publish() -> None:
        task = desk.writer.handle([newer])
        with pytest.raises(StopIteration):  # the fakes never wait
            task.send(None)

    desk.when_quiet = publish
    assert desk.read() == 0
    assert [made is not None and made.item.price for _, made in desk.publisher.vectors] == [
        None,
        3.0 if newer.value else False,
    ]


def test_a_text_that_the_model_refuses_keeps_no_other_out() -> None:
    class Refusing(SharedWordsCrossEncoder):
        async def score(self, pairs, timeout_s):  # type: ignore[no-untyped-def]
            if any(left == "lamp" for left, _ in pairs):
                self.calls.append([])
                raise ModelUnavailable("cross_encoder", "refused", "no such token")
            return await super().score(pairs, timeout_s)

    desk = Desk()
    desk.reader._cross_encoder = desk.model = Refusing()
    desk.bring(MUG, LAMP)
    assert desk.read() == 1
    asked = len(desk.model.calls)
    assert desk.read() == 0
    assert len(desk.model.calls) == asked


def test_a_model_that_is_away_is_said_and_nothing_is_lost() -> None:
    desk = Desk()
    desk.bring(MUG)
    desk.model.failure = ModelUnavailable("cross_encoder", "unreachable", "nobody there")
    with pytest.raises(ModelUnavailable):
        desk.read()
    desk.model.failure = None
    assert desk.read() == 1
