"""Pictures with matplotlib: `plot_*` makes a figure, `draw_*` draws into given axes.

No function opens a window or changes matplotlib's settings. Save a figure with
`figure.savefig(path)`.
"""

from .anchor_pictures import draw_anchors as draw_anchors
from .anchor_pictures import draw_heat as draw_heat
from .anchor_pictures import draw_labels as draw_labels
from .anchor_pictures import plot_heat as plot_heat
from .anchor_pictures import plot_labels as plot_labels
from .canvas import Pixels as Pixels
from .canvas import draw_boxes as draw_boxes
from .canvas import draw_image as draw_image
from .canvas import image_axes as image_axes
from .canvas import legend_below as legend_below
from .canvas import new_figure as new_figure
from .curves import draw_recall_over_iou as draw_recall_over_iou
from .curves import draw_recall_over_limits as draw_recall_over_limits
from .curves import plot_losses as plot_losses
from .curves import plot_recall as plot_recall
from .landscape import plot_landscapes as plot_landscapes
from .proposal_pictures import draw_proposals as draw_proposals
from .proposal_pictures import plot_proposals as plot_proposals
from .shapes import draw_aspects as draw_aspects
from .shapes import draw_best_iou as draw_best_iou
from .shapes import draw_shapes as draw_shapes
from .shapes import draw_sizes as draw_sizes
from .shapes import plot_anchor_report as plot_anchor_report
