from .augment import DsaParams as DsaParams
from .unroll import unrolled_sgd as unrolled_sgd
