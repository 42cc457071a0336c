"""Those that `--compare` names: each a process of its own, which loads the model once and answers round by round.

peer.py                 this side of the pipe
worker.py               the other side; stdlib alone, because it runs where only the other library is installed
transformers_model.py   what worker.py loads, one file a library: `load(settings)` gives a Model
vllm_model.py
aphrodite_model.py      another backend of ours
"""
