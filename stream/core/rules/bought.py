"""Say when what was bought may be recommended again."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stream.core.rules.rule import Rule


class Bought(Rule, tag="bought", frozen=True, kw_only=True):
    """An item that matches and was bought is in no list of its buyer until its usual cycle is over.

    Where no such rule matches an item, `policy.exclude_bought_days` holds. Of several that match, one that
    names items comes before one that names anything else, which comes before one for all; of equals the
    longest holds.
    """

    stage = "cycle"

    days: Annotated[float, Meta(ge=0, le=36_500)]
    """Days from the purchase until the item may come back; 36500 is never again."""
