"""The demo: a whole stack, a catalogue, shoppers, and a view of their lists as they change.

::

    data.py      what is sold and what shoppers do: the built-in shop, or real data
    measure.py   which list answers which event, and how fresh it is
    view.py      what is shown, on a terminal and elsewhere
    run.py       starts the stack, sends events, follows lists, sums up
"""
