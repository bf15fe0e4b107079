"""How many photographs a second threads and processes decode, and what is left of the interpreter beside it.

A GPU is kept busy by one thread of Python that launches small operations; whatever holds the interpreter's lock beside
it makes the GPU wait. Pillow lets go of the lock while it decodes and resizes, but each time it wants it back the
thread that launches may stand still for the 5 ms after which Python makes threads take turns. So the second figure is
how many operations on a few numbers the main thread gets done meanwhile, beside none as 100 %, and the third the
longest that 50 of them took.

    python benchmarks/decoding.py

On two cores of an AMD EPYC, which the main thread shares: 1, 2 and 4 threads decode 378, 584 and 642 a second and
leave the main thread 85, 35 and 20 % of its operations; as many processes decode 301, 366 and 394 and leave it 99, 53
and 58 %.

Photographs of 500×375 pixels, made here, scaled to a short side of 256 and cropped to 224×224.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch
from PIL import Image

from robustkit.data.decoders import Decoders
from robustkit.data.pixels import Pixels, Preprocess, read_pixels

FIT = Preprocess((224, 224), 3, 256)
OPERATIONS = 50


def photographs(folder: Path, count: int) -> list[Path]:
    """JPEGs that are about as large as photographs of their size."""
    draw, files = np.random.default_rng(0), [folder / f"{number:03d}.jpg" for number in range(count)]
    for file in files:
        smooth = Image.fromarray(draw.integers(0, 256, (24, 32, 3), np.uint8)).resize((500, 375))
        noisy = np.asarray(smooth) + draw.normal(0, 8, (375, 500, 1))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
    return files


def beside(
    read: Callable[[Path, Preprocess], Pixels], files: list[Path], count: int, seconds: float
) -> tuple[float, float, float]:
    """Photographs a second in `count` threads, operations a second in this one, and the longest of its rounds."""
    stop, done = Event(), [0] * count

    def decode(worker: int) -> None:
        turn = worker
        while not stop.is_set():
            read(files[turn % len(files)], FIT)
            done[worker] += 1
            turn += count

    threads = [Thread(target=decode, args=(worker,)) for worker in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)  # until all have begun
    x, before, rounds, longest = torch.rand(4), sum(done), 0, 0.0
    started = now = time.perf_counter()
    while now - started < seconds:
        for _ in range(OPERATIONS):
            x = x + 1
        rounds, before_round, now = rounds + 1, now, time.perf_counter()
        longest = max(longest, now - before_round)
    decoded = sum(done) - before
    stop.set()
    for thread in threads:
        thread.join()
    return decoded / (now - started), OPERATIONS * rounds / (now - started), longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, action="append", help="how many; may be given again")
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    print(
        f"{os.cpu_count()} cores\n\n| decoded by | photographs/s | operations beside it | longest 50, ms |\n|-|-|-|-|"
    )
    with tempfile.TemporaryDirectory() as folder:
        files = photographs(Path(folder), 100)
        alone = beside(read_pixels, files, 0, given.seconds)
        print(f"| nothing | | 100 % | {1000 * alone[2]:.1f} |", flush=True)
        for count in given.workers or [1, 2, 4]:
            for kind in ("threads", "processes"):
                with Decoders() as pool:
                    read = read_pixels if kind == "threads" else pool.read
                    rate, operations, longest = beside(read, files, count, given.seconds)
                share = f"{operations / alone[1]:.0%}"
                print(f"| {count} {kind} | {rate:.0f} | {share} | {1000 * longest:.1f} |", flush=True)


if __name__ == "__main__":
    main()
