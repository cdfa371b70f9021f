"""Runs that others stop: what a process does on SIGTERM."""

from .preemption import exit_on_sigterm as exit_on_sigterm
from .preemption import stop_on_sigterm as stop_on_sigterm
