"""What a watchdog concludes from the records of processes, by a clock of the test."""

import pytest

from rpn_jax.distributed.judgement import Judge, Phase, Record, Verdict

NOTHING = Verdict(process=-1, host="", when="", cause="")


def record(beat, step, phase=Phase.TRAINING, **changes):
    changes = {"place": step, **changes}
    return Record(beat=beat, step=step, phase=phase, host="h", **changes)


def watch(judge, seconds, records_at, start=0):
    """The second of the first verdict of a judge that looks every second, and it."""
    for now in range(start, start + seconds):
        verdict = judge.judge(float(now), records_at(now))
        if verdict is not None:
            return now, verdict
    return None, NOTHING


def measured(*durations, phase=Phase.TRAINING):
    judge = Judge()
    for seconds in durations:
        judge.add(phase, seconds)
    return judge


def test_processes_that_make_steps_are_left_alone():
    judge = measured(1.0, 1.0, 1.0)
    _, verdict = watch(judge, 500, lambda t: {n: record(t, t // 20) for n in (0, 1)})
    assert verdict is NOTHING


@pytest.mark.parametrize(
    ("phase", "when"),
    [
        (Phase.TRAINING, "at step 10"),
        (Phase.SAVING, "while it saved step 10"),
        (Phase.EVALUATING, "in the evaluation after step 10, after 8 images"),
    ],
)
def test_a_process_that_says_nothing_is_the_cause(phase, when):
    judge = measured(1.0, 1.0, 1.0)

    def records_at(now):
        silent = record(min(now, 10), min(now, 10), phase, images=8)
        return {0: record(now, min(now, 11), phase), 1: silent}

    now, verdict = watch(judge, 60, records_at)
    assert now == 10 + 10 + 1
    assert f"process 1 on h ended the run {when}: it has said nothing" in str(verdict)


@pytest.mark.parametrize(("usual", "limit"), [(0.1, 22), (20.0, 60)])
@pytest.mark.parametrize("phase", [Phase.TRAINING, Phase.EVALUATING])
def test_the_process_that_is_behind_is_the_cause_of_a_hang(usual, limit, phase):
    judge = measured(usual, usual, usual, 200.0, phase=phase)  # the median counts

    def records_at(now):
        return {0: record(now, 8), 1: record(now, 7, phase), 2: record(now, 8)}

    now, verdict = watch(judge, 100, records_at)
    assert now == limit + 1
    assert verdict.process == 1
    assert f"{limit} s is the limit" in verdict.cause


def test_of_processes_at_one_place_the_one_that_waits_is_not_the_cause():
    waiting = {"phase": Phase.SAVING, "is_waiting": True}
    judge = measured(1.0, phase=Phase.SAVING)
    _, verdict = watch(
        judge,
        100,
        lambda t: {0: record(t, 8, **waiting), 1: record(t, 8, Phase.SAVING)},
    )
    assert verdict.process == 1
    assert "while it saved step 8: its checkpoint did not grow for 23 s" in str(verdict)


@pytest.mark.parametrize("phase", [Phase.TRAINING, Phase.EVALUATING])
def test_of_processes_at_one_place_the_one_that_has_read_nothing_is_the_cause(phase):
    judge = measured(1.0, 1.0, 1.0, phase=phase)

    def records_at(now):
        waiting = record(now, 8, phase, has_read=True)
        return {0: waiting, 1: record(now, 8, phase), 2: waiting}

    now, verdict = watch(judge, 100, records_at)
    assert now == 23
    assert verdict.process == 1
    assert "for 23 s, where 22 s is the limit; its reader or a device" in verdict.cause


def test_if_all_have_read_no_reader_is_blamed():
    judge = measured(1.0, 1.0, 1.0)
    _, verdict = watch(
        judge, 100, lambda t: {n: record(t, 8, has_read=True) for n in (0, 1)}
    )
    assert verdict.cause.endswith("; a device or the network hangs")
    # Process 1 alone is behind, for example because it does not get its result.
    _, verdict = watch(
        measured(1.0, 1.0, 1.0),
        100,
        lambda t: {0: record(t, 9), 1: record(t, 8, has_read=True)},
    )
    assert verdict.process == 1
    assert verdict.cause.endswith("; its reader or a device hangs")


def test_a_save_may_last_as_long_as_it_grows():
    judge = measured(1.0, phase=Phase.SAVING)

    def records_at(now):
        saving = {"phase": Phase.SAVING}
        return {
            0: record(now, 8, **saving, life=now // 20),
            1: record(now, 8, **saving),
        }

    assert watch(judge, 500, records_at) == (None, NOTHING)


@pytest.mark.parametrize(
    ("phase", "seconds"),
    [(Phase.TRAINING, 300), (Phase.EVALUATING, 300), (Phase.SAVING, 60)],
)
def test_before_enough_is_measured_another_limit_holds(phase, seconds):
    now, _ = watch(Judge(), 400, lambda t: {0: record(t, 2, phase)})
    assert now == seconds + 1


def test_compilation_has_no_limit_and_a_late_step_after_it_has():
    judge = measured(1.0, 1.0, 1.0)

    def compiling(now):
        # Process 0 waits for it in an evaluation, and nobody is late.
        ahead = record(now, 9, Phase.EVALUATING)
        return {0: ahead, 1: record(3, 8, Phase.COMPILING)}

    assert watch(judge, 1000, compiling) == (None, NOTHING)
    (silent,) = judge.silent(1000.0)
    assert "process 1 on h ended the run while it compiled" in str(silent)
    now, _ = watch(
        judge, 100, lambda t: {0: record(t, 10), 1: record(t, 10)}, start=1000
    )
    assert now == 1023


def test_after_an_error_of_a_collective_silence_counts_in_every_phase():
    judge = Judge()
    judge.is_strict = True
    now, verdict = watch(
        judge, 100, lambda t: {0: record(t, 0), 1: record(0, 0, Phase.STARTING)}
    )
    assert now == 11
    assert "process 1 on h ended the run while it started" in str(verdict)
