"""Runs that span several processes, and runs that others stop."""

from .even_share import check_even_share as check_even_share
from .exchange import by_first as by_first
from .exchange import gather as gather
from .exchange import is_first as is_first
from .exchange import meet as meet
from .preemption import exit_on_sigterm as exit_on_sigterm
from .preemption import stop_on_sigterm as stop_on_sigterm
from .shared_folder import check_shared as check_shared
from .start import ProcessConfig as ProcessConfig
from .start import finish as finish
from .start import start as start
from .stop_together import StopTogether as StopTogether
from .watchdog import failing_together as failing_together
