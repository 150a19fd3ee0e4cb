"""What a shop demands of its lists. One file a kind of rule, and one line here for each.

A kind is a subclass of `stream.core.rules.rule.Rule`: its fields are what an operator writes, its `stage`
says where it acts, and `concerns` on which items.
"""

from __future__ import annotations

from stream.core.rules.boost import Boost
from stream.core.rules.bought import Bought
from stream.core.rules.bury import Bury
from stream.core.rules.cap import Cap
from stream.core.rules.exclude import Exclude
from stream.core.rules.min_margin import MinMargin
from stream.core.rules.min_quality import MinQuality
from stream.core.rules.pin import Pin
from stream.core.rules.price_range import PriceRange

AnyRule = Exclude | Pin | Boost | Bury | Cap | MinQuality | MinMargin | PriceRange | Bought
"""Every kind of rule; the name that files and messages use is its `tag`."""
