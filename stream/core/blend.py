"""Linear weights of the features, trained beside the reranker, for where it cannot be asked.

Written by `model-factory train reranker`; not to be edited. Each in the order of
`stream.core.ranking.FEATURES`: a score is the sum of `WEIGHTS * (feature - CENTRE) / SPREAD`.
"""

import numpy as np

from stream.core.items import FloatArray

WEIGHTS: FloatArray = np.array(
    [
        -0.409208,  # covisit_log
        0.138659,  # covisit_ratio
        0.190909,  # next_log
        0.07979,  # next_ratio
        0.186588,  # forward_log
        0.0637805,  # forward_ratio
        0.284691,  # backward_log
        0.0668873,  # backward_ratio
        0.39406,  # lift_log
        0.0558132,  # support
        0.0620252,  # profile_log
        0.029108,  # profile_ratio
        0.0970585,  # bought
        0.0330939,  # bought_age
        0.0330939,  # touched_age
        0.38483,  # touches
        0.0973522,  # transition_log
        -0.0111636,  # transition_ratio
        0.0509487,  # popularity_1
        0.164334,  # popularity_10
        -0.0409365,  # popularity_30
        0.106908,  # popularity_120
        0.417784,  # trend
        0.372273,  # similarity_last
        0.0699545,  # similarity_best
        -0.0764635,  # similarity_session
        0.0358938,  # similarity_taste
        -0.187295,  # session_items
        0.74052,  # history_items
    ],
    np.float32,
)

CENTRE: FloatArray = np.array(
    [
        -5.94067,  # covisit_log
        0.0799906,  # covisit_ratio
        -7.48652,  # next_log
        0.0573657,  # next_ratio
        -6.05486,  # forward_log
        0.0871706,  # forward_ratio
        -6.79579,  # backward_log
        0.0672767,  # backward_ratio
        -10.637,  # lift_log
        0.278173,  # support
        -5.26213,  # profile_log
        0.0532115,  # profile_ratio
        0.175948,  # bought
        0.655435,  # bought_age
        0.655435,  # touched_age
        0.125611,  # touches
        0.00896613,  # transition_log
        0.0148476,  # transition_ratio
        -1.82436,  # popularity_1
        -2.45014,  # popularity_10
        -2.6068,  # popularity_30
        -2.77656,  # popularity_120
        -2.07194,  # trend
        0.248722,  # similarity_last
        0.376371,  # similarity_best
        0.355362,  # similarity_session
        0.439033,  # similarity_taste
        1.93842,  # session_items
        3.10174,  # history_items
    ],
    np.float32,
)

SPREAD: FloatArray = np.array(
    [
        2.5113,  # covisit_log
        0.13866,  # covisit_ratio
        2.36708,  # next_log
        0.135226,  # next_ratio
        2.60751,  # forward_log
        0.14838,  # forward_ratio
        2.41758,  # backward_log
        0.141374,  # backward_ratio
        2.52867,  # lift_log
        0.295738,  # support
        3.67416,  # profile_log
        0.136332,  # profile_ratio
        0.380776,  # bought
        1.51868,  # bought_age
        1.51868,  # touched_age
        0.274956,  # touches
        0.0619696,  # transition_log
        0.0882234,  # transition_ratio
        0.761466,  # popularity_1
        1.21994,  # popularity_10
        1.35829,  # popularity_30
        1.4328,  # popularity_120
        0.695838,  # trend
        0.154662,  # similarity_last
        0.16437,  # similarity_best
        0.150975,  # similarity_session
        0.123052,  # similarity_taste
        0.54472,  # session_items
        1.61394,  # history_items
    ],
    np.float32,
)
