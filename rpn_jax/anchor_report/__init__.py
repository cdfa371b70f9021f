"""Do the anchors fit a data set? A report before training, and better anchors."""

from .coverage import ImageBoxes as ImageBoxes
from .coverage import best_overlaps as best_overlaps
from .coverage import scaled as scaled
from .inspection import inspect_anchors as inspect_anchors
from .report import AnchorReport as AnchorReport
from .report import Suggestion as Suggestion
from .suggest import suggest_anchors as suggest_anchors
