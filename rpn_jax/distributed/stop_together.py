"""One last step for all processes, if one of them is asked to stop."""

from collections.abc import Callable

import jax

from .exchange import store, unique_name

# A process that is asked to stop names the step after the next one: see `is_last`.
_AHEAD = 2


class StopTogether:
    """Lets all processes end with the same step.

    Args:
        is_stopped: whether this process is asked to stop.
    """

    def __init__(self, is_stopped: Callable[[], bool]) -> None:
        self._is_stopped, self._is_announced = is_stopped, False
        self._key = unique_name("stop")

    def is_last(self, step: int) -> bool:
        """Whether the run ends with a step.

        Every process calls this after it has started the step and has waited for the
        end of the step before. A process that waited for the end of `step + 1` knows
        that all processes have started it, so it finds what any of them announced when
        it had started `step`. So every process knows the last step, `step + 2`, when it
        has started it, and not later.

        Args:
            step: number of the step, counted from 1.
        """
        if jax.process_count() == 1:
            return self._is_stopped()
        client = store()
        if self._is_stopped() and not self._is_announced:
            self._is_announced = True
            self._announce(step + _AHEAD)
        try:
            return step >= int(client.key_value_try_get(self._key))
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" in str(error):
                return False
            raise

    def _announce(self, last: int) -> None:
        try:
            store().key_value_set(self._key, str(last))
        except jax.errors.JaxRuntimeError as error:
            if "ALREADY_EXISTS" not in str(error):  # another process was earlier
                raise
