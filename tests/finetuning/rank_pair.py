"""Runs a function in two processes that train together over gloo, each with its own rank, on this machine.

The processes come from a fork server that has imported torch once. Functions and arguments must be picklable.
"""

import multiprocessing
import os
import socket
import traceback

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "transformers", "peft"])


def environment(rank, port, size=2):
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {key: str(value) for key, value in place.items()}


def run_pair(function, *arguments, timeout=120):
    """Return what `function(group, *arguments)` returned or raised in each rank."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    pipes, started = [], []
    for rank in range(2):
        here, there = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_one, args=(rank, port, there, function, arguments))
        process.start()
        there.close()
        pipes.append(here)
        started.append(process)
    try:
        return [_received(pipe, timeout) for pipe in pipes]
    finally:
        for process in started:
            process.join(10)
            if process.is_alive():
                process.kill()


def _received(pipe, timeout):
    try:
        return pipe.recv() if pipe.poll(timeout) else TimeoutError("no answer")
    except EOFError as error:  # it ended without a word
        return error


def _one(rank, port, pipe, function, arguments):
    os.environ.update(environment(rank, port))
    import torch

    from doyen.finetuning.parallel import joined

    torch.set_num_threads(1)
    try:
        with joined() as group:
            pipe.send(function(group, *arguments))
    except BaseException as error:
        error.add_note(traceback.format_exc())
        pipe.send(error)
