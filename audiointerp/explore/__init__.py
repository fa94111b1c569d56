"""`audiointerp explore`: a local page to hear, see and question a classifier's decision on a sound."""

from audiointerp.explore.regions import Brush, Region, region_mask
from audiointerp.explore.server import make_app, serve
from audiointerp.explore.workbench import Workbench

__all__ = ["Brush", "Region", "Workbench", "make_app", "region_mask", "serve"]
