"""Many runs: jobs in processes of their own, rows that outlive a crash, what they
amount to.

A run is a row: a dict, on a line of its own in a file of JSON lines. It says which run
it is and what it was made with (KEYS), and what it ended in or, under the key "error",
what it died of.

A script that sweeps has Settings; VARIANTS, {name: what can build(s, generator) its
network}; run(variant, seed, s, device), which returns the end of a row; change(variant,
s), what that variant changes; VERSION, to be raised when anything changes in how rows
are made; and FIXED, its constants. It may have FEWER, {name: n}: such a variant runs on
seeds 0 to n - 1 alone, where no seeds are asked for.
"""

import argparse
import json
import math
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict

import common

HERE = os.path.dirname(os.path.abspath(__file__))
KEYS = {"variant", "seed", "version", "device", "torch", "settings", "change"}
CLOSE = {"rel_tol": 1e-3, "abs_tol": 1e-5}  # slopes are 0.1 or so


def label(module, variant, seed, s, device):
    """The start of a row: which run it is and what it was made with."""
    import torch

    row = {"variant": variant, "seed": seed, "version": module.VERSION}
    row |= {"device": device, "torch": torch.__version__}
    settings = asdict(s) | module.FIXED
    return row | {"settings": settings, "change": module.change(variant, s)}


def start(net, loss, generator):
    """What a network is before any step: [loss on a batch, its slope in one random
    direction of all weights], or None where they are not finite."""
    import torch

    weights = list(net.parameters())
    slopes = torch.autograd.grad(loss, weights, materialize_grads=True)
    ways = [torch.randn(p.shape, generator=generator) for p in weights]
    slope = sum((way * slope).sum() for way, slope in zip(ways, slopes))
    found = [float(f"{x:.6g}") for x in (loss.item(), slope.item())]
    return found if all(map(math.isfinite, found)) else None  # JSON knows no NaN


def attempt(module, variant, seed, settings, device):
    """The row of a run; settings are texts for common.change, as a job can be sent."""
    s = common.change(module.Settings(), settings)
    row = label(module, variant, seed, s, device)
    try:
        end = module.run(variant, seed, s, device)
        json.dumps(end, allow_nan=False)  # ValueError where a number is not finite
        return row | end
    except (RuntimeError, ArithmeticError, MemoryError, ValueError) as e:
        return row | {"error": f"{type(e).__name__}: {e}".splitlines()[0]}


def work(module):
    """What a process of a sweep does: for every job that comes by its standard input, a
    line of JSON, it prints the row. It ends when its input does, even amid a run."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a run prints is not an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep alone
    jobs = queue.SimpleQueue()

    def listen():
        for line in sys.stdin:
            jobs.put(json.loads(line))
        os._exit(0)  # the sweep is over, or was killed

    threading.Thread(target=listen, daemon=True).start()
    while True:
        print(json.dumps(attempt(module, *jobs.get())), file=answers, flush=True)


def run(module, jobs, workers):
    """Let attempt(module, *job) run for all jobs, workers at a time; yields the answers
    as they come: (job, row), or (job, a text) if the process died."""
    command = [sys.executable, "-c", f"import sweep, {module}; sweep.work({module})"]
    # In HERE it finds them; a session of its own, as Ctrl-C is for the sweep alone.
    options = {"cwd": HERE, "start_new_session": True, "text": True}
    options |= {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    over, mine, everyone = threading.Event(), threading.local(), []

    def one(job):
        if not hasattr(mine, "process") or mine.process.poll() is not None:
            mine.process = subprocess.Popen(command, **options)
            everyone.append(mine.process)
            if over.is_set():  # since before it was there to be killed
                mine.process.kill()
        try:
            print(json.dumps(job), file=mine.process.stdin, flush=True)
            return job, json.loads(mine.process.stdout.readline())
        except (OSError, ValueError):  # its pipe has ended
            return job, f"the process died with status {mine.process.wait()}"

    pool = ThreadPoolExecutor(workers)  # each thread has a process
    try:
        for future in as_completed([pool.submit(one, job) for job in jobs]):
            yield future.result()
    finally:
        over.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in everyone:
            process.kill()


def append(row, path):
    """Append a row to a file; when this returns, it is on the disk. It starts with a
    new line, so that one torn by a crash spoils no other."""
    with open(path, "a") as f:
        f.write("\n" + json.dumps(row, allow_nan=False))
        f.flush()
        os.fsync(f.fileno())


def read(path):
    """The rows of a file, [] if there is none; what is no row is dropped with a word."""
    if not os.path.exists(path):
        return []
    rows = []
    with open(path, errors="replace") as f:
        for line in filter(str.strip, f):
            try:
                row = json.loads(line)
                known = KEYS | {"error" if "error" in row else "outcome"}
                if not (known <= row.keys() and {**row["settings"], **row["change"]}):
                    raise ValueError
                rows.append(row)
            except (ValueError, TypeError, AttributeError):
                print(f"{path}: dropped {line[:30]!r}..., which is no run")
    return rows


def difference(row, other):
    """How a row was made otherwise than another one, or than a label; "" where it was
    not. Numbers under "start" need agree as CLOSE says: machines round, and a slope may
    be next to nothing; a None here agrees with all."""
    there, here = (r["settings"] | r["change"] for r in (row, other))
    there["version"], here["version"] = row["version"], other["version"]
    found = []
    for key in sorted(there | here):
        a, b = there.get(key), here.get(key)
        alike = a == b
        if key == "start" and (a or not b):  # not b: here it cannot be known
            alike = not b or all(math.isclose(*x, **CLOSE) for x in zip(a, b))
        if not alike:
            found.append(f"{key} is {a} there and {b} here")
    return ", ".join(found)


def distinct(rows):
    """One row a run, as {(variant, seed): row}: the first that finished or, where none
    did, the last that died."""
    runs = {}
    for row in rows:
        key = row["variant"], row["seed"]
        if key not in runs or "error" in runs[key]:
            runs[key] = row
    return runs


def seeds(text):
    """An argparse type: "0-19" or "3" or "0-4,7" -> a list of seeds, each once."""
    found = []
    for part in text.split(","):
        ends = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        low, high = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if low > high:
            known = "as in 7 or 0-9,15, below 1000000"
            raise argparse.ArgumentTypeError(f"must be {known}, got {part!r}")
        found += range(low, high + 1)
    return list(dict.fromkeys(found))


def add_options(parser, variants, default, number=20):
    """Add --variants, names among variants, else the default ones; --seeds, else 0 to
    number - 1; --workers and --plot-only."""

    def names(text):
        found = list(dict.fromkeys(text.replace(" ", "").split(",")))
        if wrong := [name for name in found if name not in variants]:
            known = f"must be among {', '.join(variants)}"
            raise argparse.ArgumentTypeError(f"{known}, got {wrong[0]!r}")
        return found

    text = f"Names with commas between; else {','.join(default)}."
    parser.add_argument("--variants", type=names, default=default, help=text)
    text = f"Seeds to run, as in 7 or 0-9,15; else 0 to {number - 1}, or as planned."
    parser.add_argument("--seeds", type=seeds, default=list(range(number)), help=text)
    text = "Runs at once; else as many as there are cores, and one on CUDA."
    parser.add_argument("--workers", type=common.whole(1, 1000), help=text)
    text = "Run nothing, draw all that is recorded in FOLDER."
    parser.add_argument("--plot-only", action="store_true", help=text)
    parser.set_defaults(out=None)  # not given: the recorded runs count


def collect(parser, args, s, module, name):
    """Run what is missing of args.variants x args.seeds, and return all that is there:
    {(variant, seed): row}.

    Rows are kept in OUT/NAME.jsonl; without --out, those in figures/ count too, and where
    neither variants nor seeds are asked for, nothing is run. Rows that were made otherwise
    end the program with one line.
    """
    alike = args.plot_only  # what is only drawn need only be alike
    asked = ("out", "variants", "seeds")
    asked = any(getattr(args, key) is not parser.get_default(key) for key in asked)
    args.plot_only = alike or not asked
    path, labels = os.path.join(args.out or "out", f"{name}.jsonl"), {}
    rows = read(path)

    def wrong(row):
        variant = row["variant"]
        if variant not in labels:
            try:
                labels[variant] = label(module, variant, 0, s, args.device)
            except KeyError:
                return f"there is no variant {variant!r} here"
            if alike and rows:
                same = {"settings": rows[0]["settings"], "change": row["change"]}
                labels[variant] |= same
        return difference(row, labels[variant])

    for row in rows:
        if text := wrong(row):
            text = f"{row['variant']} seed {row['seed']} was made otherwise, {text}"
            parser.error(f"{path}: {text}; take another --out, or remove it")
    if args.out is None:
        recorded = read(os.path.join(HERE, "figures", f"{name}.jsonl"))
        fitting = [row for row in recorded if not wrong(row)]
        rows += fitting
        count = f"{len(fitting)} of {len(recorded)} recorded runs are made like this"
        print(f"{count}; to run all anew, give a folder: --out FOLDER")
        args.out = "out"
    if args.plot_only and not rows:
        text = "no runs are in it; --out, --seeds or --variants run some"
        parser.error(f"{path}: {text}")
    parser.writable(args.out)
    common.announce(s)
    known = {row["variant"] for row in rows} if args.plot_only else args.variants
    shown = [name for name in args.variants if name in known]
    nets = {name: module.VARIANTS[name].build(s, None) for name in shown}
    sizes = {k: sum(p.numel() for p in net.parameters()) for k, net in nets.items()}
    print("weights: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items()))
    if args.plot_only:
        return distinct(rows)
    done = {job for job, row in distinct(rows).items() if "error" not in row}
    usual = args.seeds is parser.get_default("seeds")
    fewer = getattr(module, "FEWER", {}) if usual else {}
    every = [(variant, seed) for seed in args.seeds for variant in args.variants]
    every = [job for job in every if job[1] < fewer.get(job[0], math.inf)]
    texts, start = [f"{k}={v}" for k, v in common.flat(s).items()], time.time()
    jobs = [[*job, texts, args.device] for job in every if job not in done]
    there = f"{len(every) - len(jobs)} of {len(every)} runs are there already"
    text = "the others are trained now, and kept as they end in"
    print(f"{there}; {text} {path}" if jobs else there, flush=True)
    cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count()))
    workers = args.workers or (1 if args.device == "cuda" else len(cores(0)))
    for k, (job, row) in enumerate(run(module.__name__, jobs, workers), 1):
        if isinstance(row, str):
            row = label(module, *job[:2], s, args.device) | {"error": row}
        append(row, path)
        rows.append(row)
        end = f"died, {row['error']}" if "error" in row else row["outcome"]
        left = (time.time() - start) / k * (len(jobs) - k) / 60
        what = f"{row['variant']} seed {row['seed']}: {end}"
        print(f"{k}/{len(jobs)}  {what}  ({left:.0f} min left)", flush=True)
    return distinct(rows)


def wilson(k, n, z=1.959964):
    """The interval (low, high) of Wilson 1927 for a share seen k times in n.

    z is a quantile of the normal distribution, by default for 95%. Unlike the usual
    one, it holds near 0 and 1 too. ValueError: n below 1, k not in 0..n.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if not 0 <= k <= n:
        raise ValueError(f"k must be in 0..{n}, got {k}")
    middle, half = k + z**2 / 2, z * math.sqrt(k * (n - k) / n + z**2 / 4)
    return max(0.0, middle - half) / (n + z**2), min(1.0, (middle + half) / (n + z**2))


def difference_interval(k1, n1, k2, n2):
    """The 95% interval (low, high) of k1/n1 - k2/n2, shares of independent runs, from
    Wilson's: method 10 of Newcombe 1998 (Statistics in Medicine 17, p. 873)."""
    (low1, high1), (low2, high2) = wilson(k1, n1), wilson(k2, n2)
    p1, p2 = k1 / n1, k2 / n2
    low = p1 - p2 - math.hypot(p1 - low1, high2 - p2)
    return low, p1 - p2 + math.hypot(high1 - p1, p2 - low2)


def fisher(k1, n1, k2, n2):
    """The p-value of Fisher's exact test, two-sided, for k1 of n1 against k2 of n2: all
    tables with the same margins that are at most as likely as this one, added up.
    ValueError: see wilson."""
    wilson(k1, n1), wilson(k2, n2)
    counts = range(max(0, k1 + k2 - n2), min(k1 + k2, n1) + 1)
    ways = {i: math.comb(n1, i) * math.comb(n2, k1 + k2 - i) for i in counts}
    as_odd = sum(w for w in ways.values() if w <= ways[k1])
    return as_odd / math.comb(n1 + n2, k1 + k2)


def holm(ps):
    """The p-values of several tests, each corrected for all of them, by Holm 1979."""
    found, order = [0.0] * len(ps), sorted(range(len(ps)), key=ps.__getitem__)
    for rank, k in enumerate(order):
        before = found[order[rank - 1]] if rank else 0.0
        found[k] = max(before, min(1.0, (len(ps) - rank) * ps[k]))
    return found


def exit_if_dead(runs):
    """End with status 1, and say how many, where runs have died."""
    if dead := sum("error" in row for row in runs.values()):
        print(f"runs that died: {dead}; starting this again tries them again")
        sys.exit(1)


def markdown(head, rows):
    """A table in Markdown: the names of its columns, and rows of texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
