"""One side of a comparison: answers a request per line of JSON on stdin with a line of JSON on stdout."""

import json
import os
import sys
import time

import numpy
import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def read_tensors(path):
    """The f32 tensors of a safetensors file (8 bytes header length, JSON header, data)."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data, dtype=numpy.float32, count=(end - begin) // 4, offset=begin)
        tensors[name] = torch.from_numpy(values.copy()).reshape(entry["shape"])
    return tensors


def milliseconds(run):
    """What run() returns, and how long it took."""
    began = time.perf_counter()
    result = run()
    return result, (time.perf_counter() - began) * 1000


def process_bytes(name):
    """VmHWM (highest resident memory) or VmRSS (resident now) of this process."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def forget_high_water():
    """VmHWM starts again from what is resident now, where the system allows it."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def serve(handlers):
    """Runs handlers[request["op"]](request) for every line; a failure is an answer too."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request["op"]](request)
        except Exception as failure:  # the other side decides what a failure means
            answer = {"error": f"{type(failure).__name__}: {failure}"[:2000]}
        print(json.dumps(answer), flush=True)
