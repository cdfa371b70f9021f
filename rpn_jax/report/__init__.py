"""Reports of runs as single HTML files, which a browser opens without a network.

plotly draws the curves: it is well kept, zooms, and inlines its code. jinja2 escapes
every value. Both come with the extra `train`, and are imported when a page is written.
"""

from .charts import Chart as Chart
from .charts import Line as Line
from .compared_runs import FinishedRun as FinishedRun
from .compared_runs import comparison_page as comparison_page
from .compared_runs import differing_settings as differing_settings
from .compared_runs import flat as flat
from .compared_runs import read_run as read_run
from .finders import Finders as Finders
from .finders import find_finders as find_finders
from .gallery import Gallery as Gallery
from .gallery import RunProposals as RunProposals
from .gallery import make_gallery as make_gallery
from .page import Page as Page
from .page import render as render
from .page import write_page as write_page
from .page_parts import Picture as Picture
from .page_parts import Table as Table
from .page_parts import read_picture as read_picture
from .run_page import PageFacts as PageFacts
from .run_page import evaluation_page as evaluation_page
from .run_page import inspection_page as inspection_page
from .sections import Section as Section
