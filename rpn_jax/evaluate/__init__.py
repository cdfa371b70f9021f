"""Evaluates proposals: average recall, its difference, and files of proposals."""

from ..tables import format_table as format_table
from .coco_files import read_coco_results as read_coco_results
from .coco_files import write_coco_results as write_coco_results
from .compared_recall import Difference as Difference
from .compared_recall import compare_recall as compare_recall
from .found_objects import FoundObjects as FoundObjects
from .found_objects import find_objects as find_objects
from .recall import evaluate as evaluate
from .recall_report import CategoryRecall as CategoryRecall
from .recall_report import ImageProposals as ImageProposals
from .recall_report import Recall as Recall
from .recall_report import Report as Report
