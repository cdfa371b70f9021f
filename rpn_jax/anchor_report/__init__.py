"""Do the anchors fit a data set? A report before training, and better anchors."""

from .coverage import ImageBoxes as ImageBoxes
from .coverage import best_overlaps as best_overlaps
from .coverage import scaled as scaled
from .fit_report import AnchorReport as AnchorReport
from .fit_report import Suggestion as Suggestion
from .inspection import inspect_anchors as inspect_anchors
from .suggest import suggest_anchors as suggest_anchors
