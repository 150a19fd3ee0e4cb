"""Kafka, Redis and Triton on this machine without Docker.

::

    stack.py        up, status, logs, down: what the command line and the tests call
    supervisor.py   the process that owns the servers of one stack, and their deaths
    control.py      how the two talk: JSON lines over a Unix socket in the stack's folder
    server.py       what a server is: a command, its ports, a question that shows it is ready
    kafka.py redis.py triton.py workers.py   the four kinds of server
    java.py libpython.py jars.py             what they need of the system and of Maven Central
    fetching.py cache.py   getting it: shown, cancellable, once for all stacks of a user
    ports.py processes.py                    free ports; processes that die with their parent
"""
