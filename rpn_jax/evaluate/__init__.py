"""How many objects the proposals find: average recall, and proposals as files."""

from .recall import evaluate as evaluate
from .report import ImageProposals as ImageProposals
from .report import Recall as Recall
from .report import Report as Report
from .report import format_table as format_table
from .results import read_coco_results as read_coco_results
from .results import write_coco_results as write_coco_results
