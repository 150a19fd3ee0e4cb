"""Groups of features: what the reranker reads of a candidate. One file a group."""
