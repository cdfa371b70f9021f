"""Data sets, and the pipeline that makes batches of them."""

from .augment import PipelineConfig as PipelineConfig
from .batch import Batch as Batch
from .batch import ReadProblem as ReadProblem
from .batch import num_gt_rows as num_gt_rows
from .buckets import bucket_shapes as bucket_shapes
from .coco import read_coco as read_coco
from .file_source import FileSource as FileSource
from .file_source import open_unannotated as open_unannotated
from .image_source import ENDLESS as ENDLESS
from .image_source import Decoded as Decoded
from .image_source import GroundTruth as GroundTruth
from .image_source import ImageError as ImageError
from .image_source import ImageSource as ImageSource
from .image_source import is_endless as is_endless
from .open import Subset as Subset
from .open import open_source as open_source
from .open import split_source as split_source
from .pipeline import eval_batches as eval_batches
from .pipeline import steps_per_epoch as steps_per_epoch
from .pipeline import train_batches as train_batches
from .problems import Problem as Problem
from .problems import Problems as Problems
from .scenes import Scenes as Scenes
from .voc import read_voc as read_voc
from .voc import voc_splits as voc_splits
