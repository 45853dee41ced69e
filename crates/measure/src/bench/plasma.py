"""Has the pieces of a file in Ray's object store, and reads those whose numbers come on standard input."""
import json
import sys
import time

import numpy
import ray

path, size = sys.argv[1], int(sys.argv[2])
contents = numpy.fromfile(path, dtype=numpy.uint64).reshape(-1, size // 8)
ray.init(
    num_cpus=1,
    object_store_memory=max(2 * contents.nbytes, 128 << 20),
    include_dashboard=False,
    log_to_driver=False,
    logging_level="ERROR",
)
objects = [ray.put(piece) for piece in contents]
print("ready", flush=True)
for line in sys.stdin:
    times, found, cpu = [], 0, time.process_time_ns()
    for n in json.loads(line):
        start = time.perf_counter_ns()
        found += int(ray.get(objects[n]).sum())
        times.append(time.perf_counter_ns() - start)
    cpu = time.process_time_ns() - cpu
    print(json.dumps({"ns": times, "cpu_ns": cpu, "sum": found % 2**64}), flush=True)
ray.shutdown()
