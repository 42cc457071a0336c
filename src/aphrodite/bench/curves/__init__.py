"""What `aphrodite bench growth` measures: cost as the work grows. One file a curve.

batches.py    time of a step, and the host's part of it, against the sequences that decode together
contexts.py   memory, and time of a step, against the length of the context
requests.py   throughput against the number of requests, which share nothing, a text or a picture
waiting.py    the scheduler's time against the requests that wait
"""
