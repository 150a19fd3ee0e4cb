"""Open-loop load on a running engine, and what its readers see of it.

`profiles` and `arrivals` say who does what when, all of it from one seed; `shoppers` makes messages of that.
`generator` is one process that publishes them and reads the lists, `joining` matches the two. `running`
starts generators, and `watching` looks at what surrounds them; `figures` and `result` are what comes of it.
`slo` judges, `saturation` seeks the highest rate, `comparing` sets two results side by side, and `page` shows
them.
"""
