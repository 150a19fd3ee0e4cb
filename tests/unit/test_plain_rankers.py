"""The plain rankers that lists are measured against."""

from stream.evaluation.baselines import ItemKnn, Popularity


def test_popularity_counts_sessions() -> None:
    popular = Popularity()
    for items in (["a", "b"], ["a"], ["a", "c"], ["b"]):
        popular.learn(items)
    assert popular.rank(["c"]) == ["a", "b"]


def test_item_knn_finds_what_shared_a_session() -> None:
    knn = ItemKnn()
    for items in (["a", "b"], ["a", "b"], ["a", "c"], ["d", "e"]):
        knn.learn(items)
    assert knn.rank(["a"]) == ["b", "c"]


def test_item_knn_with_recency_follows_the_newest_item() -> None:
    knn = ItemKnn(recency=0.1)
    for items in (["a", "x"], ["b", "y"]):
        knn.learn(items)
    assert knn.rank(["a", "b"]) == ["y", "x"]
