"""Jobs of the dashboard: processes that say how far they are, that are cancelled, killed and left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from work import count, employ, refuse, stubborn, stumble

from dashboard.components.calibration.work import expected
from dashboard.components.jobs import seen_of, span
from dashboard.service import Refused
from dashboard.service.jobs import MOST, Home, Job, Jobs

PATIENCE_S = 60.0


@pytest.fixture
def jobs(tmp_path):
    with closing(Jobs(Home(tmp_path, ("mine.py:f",)))) as made:
        yield made


def begin(jobs, key, work, asked):
    """Expect a job and start it at once."""
    return jobs.start(key, jobs.expect(key).number, work, asked)


def until(wanted, *of):
    """Wait until something is true, and give it."""
    end = time.monotonic() + PATIENCE_S
    while not (found := wanted(*of)):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def ended(jobs, key):
    return until(lambda: (job := jobs.job(key)) and not job.active and job)


def family(jobs, key, size):
    """The processes of a job, once it has so many beside its first."""

    def members():
        first = psutil.Process(jobs._started[key].process.pid)
        found = [first, *first.children(recursive=True)]
        return found if len(found) > size else None

    return until(members)


def gone(processes):
    return all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in processes)


def test_a_job_says_how_far_it_is_and_what_it_found(jobs, tmp_path):
    expected = jobs.expect("a").number
    assert jobs.job("a").status == "starting"
    number = jobs.start("a", expected, count, 4)
    assert jobs.alive(number)
    halfway = until(lambda: (job := jobs.job("a")).done >= 2 and job)
    assert (halfway.status, halfway.total, halfway.text) == ("running", 4, "counting")
    assert halfway.rate == pytest.approx(4, rel=0.5)  # steps of 0.25 s
    assert halfway.left_s == pytest.approx((4 - halfway.done) / halfway.rate)
    with pytest.raises(Refused, match="a: is being computed already"):
        jobs.expect("a")
    assert jobs.start("a", expected, count, 4) == 0 and jobs.alive(number)
    found = ended(jobs, "a")
    assert found.status == "done"
    assert found.result == {"counted": 4, "where": str(tmp_path), "own": ["mine.py:f"]}
    until(lambda: not jobs.alive(number))
    assert jobs.expect("a").number > found.number


def test_a_job_that_fails_says_why(jobs, caplog):
    begin(jobs, "wrong", refuse, "this")
    begin(jobs, "odd", stumble, None)
    assert (ended(jobs, "wrong").status, jobs.job("wrong").message) == ("failed", "this: cannot be")
    assert ended(jobs, "odd").status == "failed"
    assert jobs.job("odd").message.startswith("ZeroDivisionError: ")


def test_a_killed_job_is_noticed_and_its_workers_end(jobs):
    begin(jobs, "k", employ, 600)
    members = family(jobs, "k", 2)
    members[0].kill()
    lost = ended(jobs, "k")
    assert (lost.status, lost.done, lost.total) == ("lost", 1, 2)
    assert "killed from outside (SIGKILL)" in lost.message
    until(gone, members)
    begin(jobs, "k", count, 0)
    assert ended(jobs, "k").status == "done"


def test_cancelling_ends_a_job_and_its_workers(jobs):
    begin(jobs, "c", employ, 600)
    members = family(jobs, "c", 2)
    jobs.cancel("c")
    assert jobs.job("c").status == "cancelled"
    until(gone, members)
    jobs.cancel("c")
    jobs.cancel("never was")
    assert jobs.job("c").status == "cancelled" and jobs.job("never was") is None


def test_a_job_that_was_cancelled_before_it_began_does_not_begin(jobs):
    first = jobs.expect("k").number
    jobs.cancel("k")
    assert jobs.start("k", first, count, 0) == 0 and jobs.job("k").status == "cancelled"
    second = jobs.expect("k").number
    assert jobs.start("k", first, refuse, "the request of before") == 0
    assert jobs.start("k", second, count, 0) and ended(jobs, "k").status == "done"
    third = jobs.expect("f").number
    jobs.forget("f")
    assert jobs.start("f", third, count, 0) == 0 and jobs.job("f") is None


def test_processes_that_have_ended_are_let_go(jobs):
    def run(key):
        begin(jobs, key, count, 0)
        process = psutil.Process(jobs._started[key].process.pid)
        assert ended(jobs, key).status == "done"
        until(gone, [process])

    own = psutil.Process()
    run("first")  # opens what stays open, as the cache
    jobs.forget("first")
    before = own.num_fds()
    for number in range(2):
        run(f"k{number}")
        jobs.forget(f"k{number}")
    assert own.num_fds() <= before and not jobs._started
    begin(jobs, "dies", employ, 600)
    family(jobs, "dies", 2)[0].kill()
    until(lambda: not jobs._started["dies"].process.is_alive())
    begin(jobs, "next", count, 0)
    assert set(jobs._started) == {"next"} and jobs.job("dies").status == "lost"


def test_others_do_not_wait_while_a_job_is_ended(jobs):
    begin(jobs, "s", stubborn, 600)
    until(lambda: jobs.job("s").status == "running")
    ending = [threading.Thread(target=jobs.cancel, args=("s",)) for _ in range(2)]
    for one in ending:
        one.start()
    until(lambda: jobs._started["s"].cancelled)
    asked = 0
    while any(one.is_alive() for one in ending):  # GRACE_S, as it does not end by itself
        jobs.job("other")
        asked += 1
    assert asked > 3 and jobs.job("s").status == "cancelled"


def test_what_jobs_say_is_their_owners_alone_and_goes_with_the_application(tmp_path):
    jobs = Jobs(Home(tmp_path))
    folder = Path(jobs.folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    begin(jobs, "x", employ, 600)
    members = family(jobs, "x", 2)
    jobs.close()
    assert not folder.exists() and list(tmp_path.iterdir()) == []
    until(gone, members)


def test_a_job_does_not_outlive_a_killed_server(tmp_path):
    code = (
        "import test_dashboard_jobs as t, time\n"
        "from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    jobs = t.Jobs(t.Home(Path('.')))\n"
        "    t.begin(jobs, 'x', t.employ, 600)\n"
        "    print(' '.join(str(one.pid) for one in t.family(jobs, 'x', 2)), jobs.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    script = tmp_path / "server.py"
    script.write_text(code)
    here = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    server = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
    )
    *numbers, folder = server.stdout.readline().split()
    processes = [psutil.Process(int(one)) for one in numbers]
    assert len(processes) > 2
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    until(gone, processes)
    assert Path(folder).is_dir(), "nobody was left to remove it"
    with closing(Jobs(Home(tmp_path))) as jobs, closing(Jobs(Home(tmp_path))):
        assert not Path(folder).exists() and Path(jobs.folder).is_dir()


def test_so_many_jobs_at_once_and_no_more(jobs, monkeypatch):
    monkeypatch.setattr("dashboard.service.jobs.MOST", 1)
    begin(jobs, "one", count, 40)
    with pytest.raises(Refused, match="1 jobs are at work already"):
        jobs.expect("one more")


def test_jobs_that_are_about_to_start_count_too(jobs):
    expected_now = [jobs.expect(f"k{number}") for number in range(MOST)]
    with pytest.raises(Refused, match=f"{MOST} jobs are at work already"):
        jobs.expect("one more")
    assert jobs.start("k0", expected_now[0].number, count, 0)
    jobs.cancel("k1")
    assert jobs.expect("one more").status == "starting"


def test_who_comes_second_watches_what_is_at_work(jobs, monkeypatch):
    assert expected(jobs, "one") == jobs.job("one") and expected(jobs, "one") is None
    monkeypatch.setattr("dashboard.service.jobs.MOST", 0)
    with pytest.raises(Refused, match="0 jobs are at work already"):
        expected(jobs, "another")
    assert expected(jobs, "one") is None


def test_progress_in_words():
    assert seen_of(None, "points").title == ""
    assert seen_of(Job("k", "done"), "points").title == ""
    assert seen_of(Job("k", "starting"), "points").title == "Starting…"
    job = Job("k", "running", since=10.0, told=20.0, first=40, done=100, total=1240)
    seen = seen_of(job, "points")
    assert (seen.title, seen.text) == ("Computing: 100 of 1,240 points", "6.0 points/s, 3 min to go")
    assert seen.share == pytest.approx(100 * 100 / 1240)
    assert [span(s) for s in (0.1, 40, 89.4, 200, 8000)] == ["1 s", "40 s", "89 s", "3 min", "2 h 13 min"]
