"""How reasons call things."""

from __future__ import annotations

from stream.core.context import Context
from stream.core.events import EVENT_TYPES
from stream.core.state import ADD_TO_CART, PURCHASE

TITLE_CHARS = 60


def did(context: Context, item_id: str) -> str:
    """What the shopper last did to an item, such as "viewed RED MUG"."""
    title = title_of(context, item_id)
    for interaction in reversed(context.state.interactions):
        if interaction.item_id == item_id:
            if interaction.kind == PURCHASE:
                return f"bought {title}"
            if interaction.kind == ADD_TO_CART:
                return f"put {title} in your cart"
            if EVENT_TYPES[interaction.kind] == "remove_from_cart":
                return f"had {title} in your cart"
            break
    return f"viewed {title}"


def title_of(context: Context, item_id: str) -> str:
    """An item's title, its id where it is not known any more."""
    item = context.items.get(item_id)
    return short(item.title) if item is not None else item_id


def short(text: str) -> str:
    """Cut a text to what a reason has room for."""
    return text if len(text) <= TITLE_CHARS else text[: TITLE_CHARS - 1].rstrip() + "…"
