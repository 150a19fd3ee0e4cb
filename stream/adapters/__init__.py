"""The ports on Kafka, Redis, Triton, usearch and tantivy."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC writes to stderr what our own errors say on one line
