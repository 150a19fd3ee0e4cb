"""Linear weights of the features, trained beside the reranker, for where it cannot be asked.

Written by `model-factory train reranker`; not to be edited. Each in the order of
`stream.core.ranking.FEATURES`: a score is the sum of `WEIGHTS * (feature - CENTRE) / SPREAD`.
"""

import numpy as np

from stream.core.items import FloatArray

WEIGHTS: FloatArray = np.array(
    [
        -0.504491,  # covisit_log
        0.148304,  # covisit_ratio
        0.179312,  # next_log
        0.0926152,  # next_ratio
        0.220913,  # forward_log
        0.0388651,  # forward_ratio
        0.276905,  # backward_log
        0.073568,  # backward_ratio
        0.0,  # second_log
        0.0,  # second_ratio
        0.0,  # third_log
        0.0,  # third_ratio
        0.474513,  # lift_log
        0.0655364,  # support
        0.0,  # following_log
        0.0,  # following_ratio
        0.0,  # recent_log
        0.0,  # recent_ratio
        0.0,  # following_share
        0.0,  # companions_log
        0.0,  # companions_ratio
        0.0370757,  # profile_log
        0.0408334,  # profile_ratio
        0.2451,  # bought
        -0.00554495,  # bought_age
        -0.00554495,  # touched_age
        0.284383,  # touches
        0.0994792,  # transition_log
        0.00803869,  # transition_ratio
        0.0,  # followed_log
        0.0,  # followed_ratio
        0.0,  # followed_newest
        0.0,  # visits_ago
        0.0,  # visits_share
        0.0,  # cycles
        0.063215,  # popularity_1
        0.0963557,  # popularity_10
        0.0162836,  # popularity_30
        0.128703,  # popularity_120
        0.426549,  # trend
        0.0,  # trend_1
        0.0,  # item_age
        0.35181,  # similarity_last
        0.0848491,  # similarity_best
        -0.0628671,  # similarity_session
        0.0431178,  # similarity_taste
        0.341736,  # session_items
        -0.133296,  # history_items
        0.0,  # visits
        0.0,  # rhythm
    ],
    np.float32,
)

CENTRE: FloatArray = np.array(
    [
        -5.95055,  # covisit_log
        0.0801594,  # covisit_ratio
        -7.50173,  # next_log
        0.0573692,  # next_ratio
        -6.06875,  # forward_log
        0.0873678,  # forward_ratio
        -6.81787,  # backward_log
        0.0665812,  # backward_ratio
        0.0,  # second_log
        0.0,  # second_ratio
        0.0,  # third_log
        0.0,  # third_ratio
        -10.6279,  # lift_log
        0.279635,  # support
        0.0,  # following_log
        0.0,  # following_ratio
        0.0,  # recent_log
        0.0,  # recent_ratio
        0.0,  # following_share
        0.0,  # companions_log
        0.0,  # companions_ratio
        -7.11717,  # profile_log
        0.0530534,  # profile_ratio
        0.175135,  # bought
        0.663574,  # bought_age
        0.663574,  # touched_age
        0.124994,  # touches
        0.0081616,  # transition_log
        0.0141516,  # transition_ratio
        0.0,  # followed_log
        0.0,  # followed_ratio
        0.0,  # followed_newest
        0.0,  # visits_ago
        0.0,  # visits_share
        0.0,  # cycles
        -1.83216,  # popularity_1
        -2.45277,  # popularity_10
        -2.60797,  # popularity_30
        -2.77411,  # popularity_120
        -2.06846,  # trend
        0.0,  # trend_1
        0.0,  # item_age
        0.250421,  # similarity_last
        0.373788,  # similarity_best
        0.355936,  # similarity_session
        0.437917,  # similarity_taste
        1.9284,  # session_items
        3.08195,  # history_items
        0.0,  # visits
        0.0,  # rhythm
    ],
    np.float32,
)

SPREAD: FloatArray = np.array(
    [
        2.51065,  # covisit_log
        0.138319,  # covisit_ratio
        2.36491,  # next_log
        0.135636,  # next_ratio
        2.60993,  # forward_log
        0.147422,  # forward_ratio
        2.41412,  # backward_log
        0.140262,  # backward_ratio
        1.0,  # second_log
        1.0,  # second_ratio
        1.0,  # third_log
        1.0,  # third_ratio
        2.54045,  # lift_log
        0.298391,  # support
        1.0,  # following_log
        1.0,  # following_ratio
        1.0,  # recent_log
        1.0,  # recent_ratio
        1.0,  # following_share
        1.0,  # companions_log
        1.0,  # companions_ratio
        2.78878,  # profile_log
        0.136591,  # profile_ratio
        0.380082,  # bought
        1.54387,  # bought_age
        1.54387,  # touched_age
        0.274184,  # touches
        0.0578995,  # transition_log
        0.0862352,  # transition_ratio
        1.0,  # followed_log
        1.0,  # followed_ratio
        1.0,  # followed_newest
        1.0,  # visits_ago
        1.0,  # visits_share
        1.0,  # cycles
        0.760601,  # popularity_1
        1.21778,  # popularity_10
        1.35568,  # popularity_30
        1.43053,  # popularity_120
        0.700882,  # trend
        1.0,  # trend_1
        1.0,  # item_age
        0.152935,  # similarity_last
        0.162307,  # similarity_best
        0.148607,  # similarity_session
        0.119842,  # similarity_taste
        0.559349,  # session_items
        1.63913,  # history_items
        1.0,  # visits
        1.0,  # rhythm
    ],
    np.float32,
)
