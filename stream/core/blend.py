"""Linear weights of the features, learnt beside the reranker, for where it cannot be asked.

Written by `streamrec trainer warm-up --blend`; not to be edited. Each in the order of
`stream.core.ranking.FEATURES`; a score is the sum of `WEIGHTS * (feature - CENTRE) / SPREAD`.
Standardised features are clipped at 10.
"""

import numpy as np

from stream.core.items import FloatArray

WEIGHTS: FloatArray = np.array(
    [
        -0.72467,  # covisit_log
        0.0103198,  # covisit_ratio
        0.155988,  # next_log
        0.00488105,  # next_ratio
        0.16354,  # forward_log
        0.0227171,  # forward_ratio
        0.0752197,  # backward_log
        0.0289415,  # backward_ratio
        0.135034,  # second_log
        0.0146367,  # second_ratio
        0.0875882,  # third_log
        -0.0155747,  # third_ratio
        0.703138,  # lift_log
        -0.0101586,  # support
        -0.186031,  # following_log
        -0.00273123,  # following_ratio
        -0.156947,  # recent_log
        0.0892724,  # recent_ratio
        0.419167,  # following_share
        0.196064,  # companions_log
        0.0258509,  # companions_ratio
        0.248475,  # bought
        0.00577447,  # bought_age
        0.00577447,  # touched_age
        0.357002,  # touches
        0.110905,  # transition_log
        -0.0505193,  # transition_ratio
        0.0529183,  # followed_log
        -0.0220882,  # followed_ratio
        0.00953186,  # followed_newest
        0.044266,  # visits_ago
        -0.0291328,  # visits_share
        -0.0244508,  # cycles
        -0.330004,  # popularity_1
        -0.239873,  # popularity_10
        0.381932,  # popularity_30
        0.472383,  # popularity_120
        0.497095,  # trend
        0.223779,  # trend_1
        -0.0295847,  # item_age
        0.368177,  # similarity_last
        0.132009,  # similarity_best
        -0.122061,  # similarity_session
        0.0726626,  # similarity_taste
        0.296441,  # session_items
        -0.496144,  # history_items
        -0.297028,  # visits
        -0.0663874,  # rhythm
    ],
    np.float32,
)

CENTRE: FloatArray = np.array(
    [
        -5.80689,  # covisit_log
        0.0809886,  # covisit_ratio
        -7.42073,  # next_log
        0.0559339,  # next_ratio
        -5.8274,  # forward_log
        0.0866726,  # forward_ratio
        -6.42415,  # backward_log
        0.0733976,  # backward_ratio
        -7.8312,  # second_log
        0.0495581,  # second_ratio
        -8.14529,  # third_log
        0.037649,  # third_ratio
        -10.5894,  # lift_log
        0.327518,  # support
        -8.36552,  # following_log
        0.0293948,  # following_ratio
        -5.94703,  # recent_log
        0.0824364,  # recent_ratio
        -6.44104,  # following_share
        -6.42601,  # companions_log
        0.0619593,  # companions_ratio
        0.219478,  # bought
        0.819049,  # bought_age
        0.819049,  # touched_age
        0.178104,  # touches
        0.0200919,  # transition_log
        0.0212552,  # transition_ratio
        0.0227056,  # followed_log
        0.0183922,  # followed_ratio
        0.00166359,  # followed_newest
        0.124621,  # visits_ago
        0.0561278,  # visits_share
        0.137246,  # cycles
        -1.69612,  # popularity_1
        -2.48181,  # popularity_10
        -2.57885,  # popularity_30
        -2.69552,  # popularity_120
        -2.2382,  # trend
        -3.08629,  # trend_1
        5.20355,  # item_age
        0.317951,  # similarity_last
        0.433131,  # similarity_best
        0.42447,  # similarity_session
        0.499212,  # similarity_taste
        1.89488,  # session_items
        3.19523,  # history_items
        1.40634,  # visits
        3.3174,  # rhythm
    ],
    np.float32,
)

SPREAD: FloatArray = np.array(
    [
        2.40538,  # covisit_log
        0.137241,  # covisit_ratio
        2.30926,  # next_log
        0.131029,  # next_ratio
        2.4837,  # forward_log
        0.140538,  # forward_ratio
        2.31996,  # backward_log
        0.13772,  # backward_ratio
        2.17296,  # second_log
        0.130998,  # second_ratio
        1.98767,  # third_log
        0.117746,  # third_ratio
        2.3387,  # lift_log
        0.316136,  # support
        1.72237,  # following_log
        0.107865,  # following_ratio
        2.3702,  # recent_log
        0.140113,  # recent_ratio
        1.01068,  # following_share
        2.63792,  # companions_log
        0.136033,  # companions_ratio
        0.413893,  # bought
        1.63301,  # bought_age
        1.63301,  # touched_age
        0.357547,  # touches
        0.103057,  # transition_log
        0.102706,  # transition_ratio
        0.120512,  # followed_log
        0.098622,  # followed_ratio
        0.0369077,  # followed_newest
        0.283389,  # visits_ago
        0.146208,  # visits_share
        0.534441,  # cycles
        0.683562,  # popularity_1
        1.1215,  # popularity_10
        1.26336,  # popularity_30
        1.35385,  # popularity_120
        0.582223,  # trend
        0.827117,  # trend_1
        0.852103,  # item_age
        0.147451,  # similarity_last
        0.153954,  # similarity_best
        0.14004,  # similarity_session
        0.101005,  # similarity_taste
        0.571791,  # session_items
        1.78124,  # history_items
        0.924635,  # visits
        0.657901,  # rhythm
    ],
    np.float32,
)
