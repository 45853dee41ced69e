"""Writes events on a schedule, and waits for each: argv is controller, scope, stream, how many, seconds between two. Prints as JSON how long each
took from when it was due."""

import json
import sys
import time

import pravega_client

controller, scope, stream, n_times, every_s = sys.argv[1:]
# What runs of a writer ends with the manager that made it.
manager = pravega_client.StreamManager(controller, False, False)
writer = manager.create_writer(scope, stream)
event = "x" * 1024
# The first one connects.
writer.write_event(event, routing_key="key")
writer.flush()
times = []
first = time.monotonic()
for n in range(int(n_times)):
    due = first + n * float(every_s)
    now = time.monotonic()
    if now < due:
        time.sleep(due - now)
        due = time.monotonic()
    writer.write_event(event, routing_key="key")
    writer.flush()
    times.append(time.monotonic() - due)
print(json.dumps(times))
