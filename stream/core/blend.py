"""Linear weights of the features, learnt beside the reranker, for where it cannot be asked.

Written by `streamrec trainer warm-up --blend`; not to be edited. Each in the order of
`stream.core.ranking.FEATURES`; a score is the sum of `WEIGHTS * (feature - CENTRE) / SPREAD`.
Standardised features are clipped at 10.
"""

import numpy as np

from stream.core.items import FloatArray

WEIGHTS: FloatArray = np.array(
    [
        -0.632767,  # covisit_log
        0.0596645,  # covisit_ratio
        0.215504,  # next_log
        0.0392604,  # next_ratio
        0.224831,  # forward_log
        -0.0310902,  # forward_ratio
        0.318755,  # backward_log
        0.00308096,  # backward_ratio
        0.12068,  # second_log
        0.0197366,  # second_ratio
        0.0702044,  # third_log
        -0.0216668,  # third_ratio
        0.676732,  # lift_log
        -0.00693154,  # support
        -0.187005,  # following_log
        -0.0413928,  # following_ratio
        -0.372933,  # recent_log
        0.0800233,  # recent_ratio
        0.455599,  # following_share
        0.171669,  # companions_log
        0.086403,  # companions_ratio
        0.0898835,  # profile_log
        -0.0205045,  # profile_ratio
        0.300446,  # bought
        -0.0229867,  # bought_age
        -0.0229867,  # touched_age
        0.312213,  # touches
        0.0661478,  # transition_log
        -0.0250618,  # transition_ratio
        0.058092,  # followed_log
        -0.0258547,  # followed_ratio
        0.00414623,  # followed_newest
        0.0261835,  # visits_ago
        -0.0135303,  # visits_share
        -0.0158132,  # cycles
        -0.311594,  # popularity_1
        0.105089,  # popularity_10
        0.17067,  # popularity_30
        0.28262,  # popularity_120
        0.467285,  # trend
        0.183684,  # trend_1
        -0.00978771,  # item_age
        0.26479,  # similarity_last
        0.0879738,  # similarity_best
        -0.113373,  # similarity_session
        0.00997021,  # similarity_taste
        0.358547,  # session_items
        -0.183249,  # history_items
        0.0750514,  # visits
        0.051408,  # rhythm
    ],
    np.float32,
)

CENTRE: FloatArray = np.array(
    [
        -5.52376,  # covisit_log
        0.0835632,  # covisit_ratio
        -7.20933,  # next_log
        0.0616903,  # next_ratio
        -5.55955,  # forward_log
        0.094294,  # forward_ratio
        -6.39922,  # backward_log
        0.0688974,  # backward_ratio
        -7.70441,  # second_log
        0.0475215,  # second_ratio
        -8.00724,  # third_log
        0.0385841,  # third_ratio
        -10.2461,  # lift_log
        0.370911,  # support
        -8.28051,  # following_log
        0.0311658,  # following_ratio
        -5.55436,  # recent_log
        0.0879039,  # recent_ratio
        -6.42369,  # following_share
        -5.85305,  # companions_log
        0.0705526,  # companions_ratio
        -7.2806,  # profile_log
        0.0385619,  # profile_ratio
        0.167101,  # bought
        0.696519,  # bought_age
        0.696519,  # touched_age
        0.131093,  # touches
        0.0142654,  # transition_log
        0.0154593,  # transition_ratio
        0.0146544,  # followed_log
        0.0129143,  # followed_ratio
        0.00110016,  # followed_newest
        0.107444,  # visits_ago
        0.0484635,  # visits_share
        0.109674,  # cycles
        -1.62546,  # popularity_1
        -2.33997,  # popularity_10
        -2.56414,  # popularity_30
        -2.79187,  # popularity_120
        -1.95303,  # trend
        -2.80798,  # trend_1
        5.10969,  # item_age
        0.24865,  # similarity_last
        0.382519,  # similarity_best
        0.361777,  # similarity_session
        0.427745,  # similarity_taste
        1.95208,  # session_items
        2.66188,  # history_items
        1.13931,  # visits
        3.53647,  # rhythm
    ],
    np.float32,
)

SPREAD: FloatArray = np.array(
    [
        2.28224,  # covisit_log
        0.132221,  # covisit_ratio
        2.36491,  # next_log
        0.130949,  # next_ratio
        2.4166,  # forward_log
        0.138176,  # forward_ratio
        2.32851,  # backward_log
        0.130575,  # backward_ratio
        2.22418,  # second_log
        0.121145,  # second_ratio
        2.06162,  # third_log
        0.113275,  # third_ratio
        2.25825,  # lift_log
        0.313959,  # support
        1.79724,  # following_log
        0.108132,  # following_ratio
        2.28732,  # recent_log
        0.135792,  # recent_ratio
        0.993037,  # following_share
        2.69371,  # companions_log
        0.136794,  # companions_ratio
        2.66025,  # profile_log
        0.105796,  # profile_ratio
        0.373066,  # bought
        1.62237,  # bought_age
        1.62237,  # touched_age
        0.305871,  # touches
        0.0903006,  # transition_log
        0.0870583,  # transition_ratio
        0.0961007,  # followed_log
        0.0836164,  # followed_ratio
        0.0277659,  # followed_newest
        0.274844,  # visits_ago
        0.129035,  # visits_share
        0.369853,  # cycles
        0.724167,  # popularity_1
        1.16865,  # popularity_10
        1.24217,  # popularity_30
        1.29777,  # popularity_120
        0.751767,  # trend
        0.755319,  # trend_1
        1.16684,  # item_age
        0.145802,  # similarity_last
        0.159511,  # similarity_best
        0.141794,  # similarity_session
        0.119931,  # similarity_taste
        0.514564,  # session_items
        2.0332,  # history_items
        0.96998,  # visits
        0.589632,  # rhythm
    ],
    np.float32,
)
