"""Ways of finding candidates. One file a source, one line here."""

from stream.core.sources.covisited import COVISITED as COVISITED
from stream.core.sources.history import HISTORY as HISTORY
from stream.core.sources.like_sessions import LIKE_SESSIONS as LIKE_SESSIONS
from stream.core.sources.new import NEW as NEW
from stream.core.sources.search import SEARCH as SEARCH
from stream.core.sources.similar import SIMILAR as SIMILAR
from stream.core.sources.source import Source as Source
from stream.core.sources.taste import TASTE as TASTE
from stream.core.sources.trending import TRENDING as TRENDING
from stream.core.sources.trending_in_category import TRENDING_IN_CATEGORY as TRENDING_IN_CATEGORY

SOURCES = (
    SEARCH,
    COVISITED,
    LIKE_SESSIONS,
    HISTORY,
    SIMILAR,
    TASTE,
    TRENDING,
    TRENDING_IN_CATEGORY,
    NEW,
)
"""All that are asked for every list."""
