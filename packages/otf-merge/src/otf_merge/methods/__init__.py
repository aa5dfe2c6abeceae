"""The merge methods that come with the package, one a file."""

from .adapter_fusion import adapter_fusion
from .adapter_linear import adapter_linear
from .adapter_svd import adapter_svd
from .breadcrumbs import breadcrumbs
from .breadcrumbs_ties import breadcrumbs_ties
from .dare_linear import dare_linear
from .dare_ties import dare_ties
from .della import della
from .distill import distill
from .ema import ema
from .fisher import fisher
from .greedy_soup import greedy_soup
from .karcher import karcher
from .linear import linear
from .model_stock import model_stock
from .multislerp import multislerp
from .nearswap import nearswap
from .regmean import regmean
from .slerp import slerp
from .swa import swa
from .task_arithmetic import task_arithmetic
from .ties import ties

BUILT_IN = (
    adapter_fusion,
    adapter_linear,
    adapter_svd,
    breadcrumbs,
    breadcrumbs_ties,
    dare_linear,
    dare_ties,
    della,
    distill,
    ema,
    fisher,
    greedy_soup,
    karcher,
    linear,
    model_stock,
    multislerp,
    nearswap,
    regmean,
    slerp,
    swa,
    task_arithmetic,
    ties,
)
