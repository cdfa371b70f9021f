"""What a watchdog concludes from the records of processes, by a clock of the test."""

import pytest

from rpn_jax.distributed.judgement import Judge, Record, Verdict

NOTHING = Verdict(process=-1, step=-1, cause="", host="")


def record(beat, step, phase="training"):
    return Record(beat=beat, step=step, phase=phase, host="h")


def watch(judge, seconds, records_at, start=0):
    """The second of the first verdict of a judge that looks every second, and it."""
    for now in range(start, start + seconds):
        verdict = judge.judge(float(now), records_at(now))
        if verdict is not None:
            return now, verdict
    return None, NOTHING


def measured(*durations):
    judge = Judge()
    for seconds in durations:
        judge.add_step(seconds)
    return judge


def test_processes_that_make_steps_are_left_alone():
    judge = measured(1.0, 1.0, 1.0)
    _, verdict = watch(judge, 500, lambda t: {n: record(t, t // 20) for n in (0, 1)})
    assert verdict is NOTHING


def test_a_process_that_says_nothing_is_the_cause():
    judge = measured(1.0, 1.0, 1.0)

    def records_at(now):
        return {0: record(now, min(now, 11)), 1: record(min(now, 10), min(now, 10))}

    now, verdict = watch(judge, 60, records_at)
    assert now == 10 + 10 + 1
    assert (verdict.process, verdict.step) == (1, 10)
    assert "process 1 on h ended the run at step 10: it has said nothing" in str(
        verdict
    )


@pytest.mark.parametrize(("usual", "limit"), [(0.1, 22), (20.0, 60)])
def test_the_process_that_is_behind_is_the_cause_of_a_hang(usual, limit):
    judge = measured(usual, usual, usual, 200.0)  # the median counts

    def records_at(now):
        return {0: record(now, 8), 1: record(now, 7), 2: record(now, 8)}

    now, verdict = watch(judge, 100, records_at)
    assert now == limit + 1
    assert (verdict.process, verdict.step) == (1, 7)
    assert f"{limit} s is the limit" in verdict.cause


def test_before_steps_are_measured_the_limit_is_five_minutes():
    now, _ = watch(measured(1.0, 1.0), 400, lambda t: {0: record(t, 2)})
    assert now == 301


def test_compilation_and_evaluation_have_no_limit_and_a_late_step_after_them_has():
    judge = measured(1.0, 1.0, 1.0)

    def evaluating(now):
        return {0: record(now, 8, "evaluation"), 1: record(3, 8, "compilation")}

    assert watch(judge, 1000, evaluating) == (None, NOTHING)
    now, _ = watch(judge, 100, lambda t: {0: record(t, 9), 1: record(t, 9)}, start=1000)
    assert now == 1023
