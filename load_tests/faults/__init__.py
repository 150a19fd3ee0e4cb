"""Break every part of a running engine on purpose, then compare what is left with what must hold.

`schedule` says when what breaks, `kinds` how, `shoppers` and `publisher` what comes in meanwhile, `evidence`
reads what lies in Kafka and Redis at the end, `referee` compares, and `story` tells of the first shopper that
differs.
"""
