"""How much of everything a demand needs: costs measured on real servers, and what follows from them.

::

    run.py         what a measurement found, and where
    processes.py   CPU time and memory of the servers of a stack
    catalogue.py   what a catalogue takes of a worker
    measuring.py   measures on a stack of its own: `streamrec plan measure`
    costs.py       runs to costs by event, batch, item and shopper
    queue.py       how batches form in front of a worker, simulated
    plan.py        demand and costs to partitions, workers, memory, GPUs and money
    check.py       what the costs foretell of a run, beside what it found
    measured.json  runs that were made; the costs where none are named
"""
