"""Linear weights of the features, trained beside the reranker and used where it cannot be asked.

Written by `model-factory train reranker`; not to be edited. Each in the order of
`stream.core.ranking.FEATURES`: a score is the sum of `WEIGHTS * (feature - CENTRE) / SPREAD`.
"""

import numpy as np

from stream.core.items import FloatArray

WEIGHTS: FloatArray = np.array(
    [
        -0.692329,  # covisit_log
        0.1318512,  # covisit_ratio
        0.1903732,  # next_log
        0.08234888,  # next_ratio
        0.2717177,  # forward_log
        0.05743845,  # forward_ratio
        0.3154266,  # backward_log
        0.08458862,  # backward_ratio
        0.6023734,  # lift_log
        0.02508252,  # support
        0.03472478,  # profile_log
        0.04310456,  # profile_ratio
        0.1525289,  # bought
        -0.01436131,  # bought_age
        0.1525289,  # touched
        -0.01436131,  # touched_age
        0.2463668,  # touches
        0.08904504,  # transition_log
        -0.02880955,  # transition_ratio
        0.03429624,  # popularity_1
        0.07705521,  # popularity_10
        0.06413633,  # popularity_30
        0.1605233,  # popularity_120
        0.4150088,  # trend
        0.337593,  # similarity_last
        0.0826967,  # similarity_best
        -0.07346143,  # similarity_session
        0.03655177,  # similarity_taste
        0.05637047,  # price
        0,  # price_step
        0.2422955,  # session_items
        -0.9383172,  # history_items
    ],
    np.float32,
)

CENTRE: FloatArray = np.array(
    [
        -5.938653,  # covisit_log
        0.08384711,  # covisit_ratio
        -7.530766,  # next_log
        0.05949812,  # next_ratio
        -6.068045,  # forward_log
        0.08982402,  # forward_ratio
        -6.837499,  # backward_log
        0.06807862,  # backward_ratio
        -10.57806,  # lift_log
        0.2752486,  # support
        -7.208543,  # profile_log
        0.05151027,  # profile_ratio
        0.1667315,  # bought
        0.6180471,  # bought_age
        0.1667315,  # touched
        0.6180471,  # touched_age
        0.1189562,  # touches
        0.007375691,  # transition_log
        0.01369571,  # transition_ratio
        0.8613192,  # popularity_1
        2.278831,  # popularity_10
        3.124272,  # popularity_30
        4.016689,  # popularity_120
        -2.053134,  # trend
        0.2479622,  # similarity_last
        0.3766277,  # similarity_best
        0.3568826,  # similarity_session
        0.4356808,  # similarity_taste
        1.28858,  # price
        0,  # price_step
        1.935301,  # session_items
        2.958134,  # history_items
    ],
    np.float32,
)

SPREAD: FloatArray = np.array(
    [
        2.500615,  # covisit_log
        0.1405736,  # covisit_ratio
        2.362013,  # next_log
        0.1384747,  # next_ratio
        2.607332,  # forward_log
        0.1496653,  # forward_ratio
        2.41313,  # backward_log
        0.1412406,  # backward_ratio
        2.555618,  # lift_log
        0.2932214,  # support
        2.763137,  # profile_log
        0.134697,  # profile_ratio
        0.3724986,  # bought
        1.481967,  # bought_age
        0.3724986,  # touched
        1.481967,  # touched_age
        0.2679791,  # touches
        0.05418894,  # transition_log
        0.08534547,  # transition_ratio
        0.7589198,  # popularity_1
        1.23127,  # popularity_10
        1.377519,  # popularity_30
        1.513103,  # popularity_120
        0.7020462,  # trend
        0.1539899,  # similarity_last
        0.1641969,  # similarity_best
        0.1500028,  # similarity_session
        0.1247507,  # similarity_taste
        0.6453174,  # price
        1e30,  # price_step
        0.552948,  # session_items
        1.702774,  # history_items
    ],
    np.float32,
)
