"""`ponder tinker`: a server on this machine that speaks what the Tinker SDK speaks, over ponder's trainer and engine.

    protobuf.py     messages <-> fields, without a library       futures.py      requests in order, answers kept
    wire.py         what forward_backward and sample say         checkpoints.py  tinker:// paths and their folders
    losses.py       the losses, summed over tokens               service.py      sessions, models, samplers: the verbs
    packing.py      data -> packs with shared prompts            app.py          routes and errors
    training.py     one adapter in training                      run.py          uvicorn
    sampling.py     one base with the versions of its weights

This room joins training and sampling; `serve` is another server and never seen here (docs/tinker.md).
"""
