"""Strictness for every test, and what the tests share."""

import gc
import os
import pathlib

import chex
import hypothesis
import jax
import numpy as np
import pytest

# Nearly all the time of the tests is compilation. Without LLVM's optimisations XLA
# compiles the same operations two to five times faster. Set RPN_JAX_TEST_OPTIMIZED=1
# to compile as users do; continuous integration tests the core in that way as well.
FAST_TO_COMPILE = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
]
if jax.__version_info__ < (0, 11):  # later versions end on a flag that they do not know
    FAST_TO_COMPILE.append("--xla_cpu_use_fusion_emitters=false")
    FAST_TO_COMPILE.append("--xla_cpu_parallel_codegen_split_count=1")
if not os.environ.get("RPN_JAX_TEST_OPTIMIZED"):  # JAX reads it with the first array
    flags = [os.environ.get("XLA_FLAGS", ""), *FAST_TO_COMPILE]
    os.environ["XLA_FLAGS"] = " ".join(flags).strip()

# To note for every operation where in the source it comes from takes time, up to a
# tenth in measurements that vary as much. No test reads it. Processes that tests start
# read the variable.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
jax.config.update("jax_traceback_in_locations_limit", 0)

# JAX reads JAX_ENABLE_X64 by itself; continuous integration tests the core with both.
promotion = os.environ.get("JAX_NUMPY_DTYPE_PROMOTION", "strict")
jax.config.update("jax_numpy_dtype_promotion", promotion)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_compilation_cache", False)  # test what is compiled here
# A GPU's default for float32 convolutions keeps 10 bits of each factor.
jax.config.update("jax_default_matmul_precision", "highest")

# Programs are made of many small objects that last. By default Python would search all
# of them for garbage again and again.
gc.set_threshold(200_000, 50, 100)


def pytest_sessionfinish():
    """Looks for garbage once, where pytest would do so five times, for 3 s each."""
    gc.collect()
    gc.freeze()


hypothesis.settings.register_profile(
    "repeatable", max_examples=25, deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile("repeatable")


# The files that take longest. They begin first, so that no worker ends long before the
# other. The seconds were measured on two CPU cores.
LONGEST = (
    "test_cli",  # 46
    "test_nms",  # 33
    "test_match",  # 29
    "test_rpn",  # 28
    "test_proposals",  # 23
    "test_step",  # 22
    "test_docs",  # 22
    "test_resume",  # 19
    "test_sharding",  # 19
    "test_presets",  # 15
)


def pytest_collection_modifyitems(items):
    """Moves the longest files to the front; workers take files in this order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True)
def count_traces_anew():
    """`chex.assert_max_traces` counts by the name of the function."""
    chex.clear_trace_counter()


@pytest.fixture
def variant(request):
    """Wraps a function to be compiled, or leaves it alone where a test asks for it.

    An eager call compiles every operation by itself, so one case in this form is
    enough: `@pytest.mark.parametrize("variant", ["jit", "eager"], indirect=True)`.
    """
    is_eager = getattr(request, "param", "jit") == "eager"
    return (lambda function: function) if is_eager else jax.jit


@pytest.fixture(scope="session")
def golden():
    """Reads a file of golden vectors: `golden("torchvision", "match_c4_random0")`."""
    folder = os.environ.get("RPN_JAX_GOLDEN")
    if not folder:
        pytest.skip("RPN_JAX_GOLDEN does not name the folder with the golden vectors")

    def read(peer, name):
        with np.load(pathlib.Path(folder) / peer / f"{name}.npz") as arrays:
            return dict(arrays)

    return read
