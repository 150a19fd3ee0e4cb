"""The catalogue: `CatalogWriter` turns messages about items into vectors, `CatalogView` follows them.

Messages of `items` are encoded once, by the worker that owns their partition, and published to the
compacted topic `item-vectors`; every worker follows that topic whole into its own view. An item that
cannot be encoded now is published without a vector, so that its price and availability are in force at
once, and is encoded as soon as the encoder is back.

Another version of the encoder takes over without a gap: while it is a candidate, the owners of the items
encode them with it too, in the background, and publish records that carry both vectors. Each view keeps a
space for each of the two versions, and goes from one to the other as a whole: when the topic
`model-versions` says so and no item would lose its vector by it.
"""
