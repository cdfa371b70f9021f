"""The check that all devices get the same number of images."""

import collections

import jax


def check_even_share(batch_size: int, accumulate: int) -> None:
    """Raises an error unless the devices of all processes share a batch evenly.

    Args:
        batch_size: images per step, over all devices.
        accumulate: number of parts into which the batch is split first.

    Raises:
        ValueError: they do not; it says which numbers would fit.

    >>> check_even_share(8 * jax.device_count(), accumulate=2)
    """
    per_process = collections.Counter(x.process_index for x in jax.devices())
    if len({*per_process.values()}) > 1:
        raise ValueError(
            "A run of several processes needs the same number of devices in each, got "
            f"{[per_process[number] for number in sorted(per_process)]}."
        )
    devices = jax.device_count()
    if batch_size % (devices * accumulate) == 0:
        return
    share = batch_size // accumulate
    fitting = [str(n) for n in range(1, share + 1) if share % n == 0]
    step = devices * accumulate
    larger = -(-batch_size // step) * step
    smaller = [str(larger - step)] * (larger > step)
    raise ValueError(
        f"train needs a batch_size that {devices} devices and {accumulate} parts "
        f"(--accumulate) share evenly, got {batch_size}. This batch fits "
        f"{', '.join(fitting)} devices; these devices fit a batch of "
        f"{' or '.join([*smaller, str(larger)])}."
    )
