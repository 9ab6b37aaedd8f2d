"""A server and a client of gRPC, by grpcio, for the scenarios of grpc.rs. Messages are bytes: nothing is generated.

    peer.py serve                     prints its port, and serves until its standard input ends
    peer.py call ADDRESS WHAT…        does what is asked, and prints what came of each, a line each
"""
import sys
import threading
import time
from concurrent import futures

import grpc

NAME = "test.Echo"
cancelled = []
health = {"status": b"\x08\x01"}
refusals = {"left": 0}


def unary(request, context):
    context.send_initial_metadata((("x-head", "1"),))
    context.set_trailing_metadata((("x-tail", "2"), ("x-tail-bin", b"\x00\xff")))
    return request


def stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def collect(requests, context):
    return b",".join(requests)


def talk(requests, context):
    for request in requests:
        yield request.upper()


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: \u00fc%")


def nap(request, context):
    ended = threading.Event()
    context.add_callback(ended.set)
    if ended.wait(float(request)):
        cancelled.append("nap")
    return b"slept"


def drip(request, context):
    context.add_callback(lambda: cancelled.append("drip"))
    yield b"first"
    time.sleep(20)


def count(request, context):
    until = time.monotonic() + 5
    while request.decode() not in cancelled and time.monotonic() < until:
        time.sleep(0.02)
    return b"%d" % cancelled.count(request.decode())


def refuse(request, context):
    if refusals["left"] > 0:
        refusals["left"] -= 1
        context.abort(grpc.StatusCode.UNAVAILABLE, "later")
    return b"taken"


def arm(request, context):
    refusals["left"] = int(request)
    return b""


def check(request, context):
    return health["status"]


def ill(request, context):
    health["status"] = b"\x08" + bytes([int(request)])
    return b""


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(32))
    one = grpc.unary_unary_rpc_method_handler
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler(NAME, {
            "Unary": one(unary),
            "Stream": grpc.unary_stream_rpc_method_handler(stream),
            "Collect": grpc.stream_unary_rpc_method_handler(collect),
            "Talk": grpc.stream_stream_rpc_method_handler(talk),
            "Fail": one(fail),
            "Nap": one(nap),
            "Drip": grpc.unary_stream_rpc_method_handler(drip),
            "Count": one(count),
            "Refuse": one(refuse),
            "Arm": one(arm),
            "Ill": one(ill),
        }),
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": one(check)}),
    ))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


def call(address, wanted):
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0))
    channel = grpc.insecure_channel(address, options=options)
    path = "/" + NAME + "/"
    for one in wanted:
        name, _, argument = one.partition("=")
        argument = argument.encode()
        try:
            print(name, DO[name](channel, path, argument), flush=True)
        except grpc.RpcError as error:
            print(name, error.code().name, error.details(), flush=True)


def do_unary(channel, path, argument):
    answer, ended = channel.unary_unary(path + "Unary").with_call(argument, timeout=10)
    head = dict(ended.initial_metadata()).get("x-head")
    tail = dict(ended.trailing_metadata())
    return answer.decode(), head, tail.get("x-tail"), tail.get("x-tail-bin").hex()


def do_large(channel, path, argument):
    message = bytes(range(256)) * (int(argument) // 256)
    return channel.unary_unary(path + "Unary")(message, timeout=30) == message


def do_stream(channel, path, argument):
    return len(list(channel.unary_stream(path + "Stream")(argument, timeout=10)))


def do_collect(channel, path, argument):
    return channel.stream_unary(path + "Collect")(iter(argument.split(b" ")), timeout=10).decode()


def do_talk(channel, path, argument):
    """Each word is said only when the answer to the one before has been heard."""
    heard = threading.Semaphore(1)

    def words():
        for word in argument.split(b" "):
            heard.acquire()
            yield word

    answers = []
    for answer in channel.stream_stream(path + "Talk")(words(), timeout=10):
        answers.append(answer.decode())
        heard.release()
    return " ".join(answers)


def do_plain(name):
    return lambda channel, path, argument: channel.unary_unary(path + name)(argument, timeout=10).decode()


def do_deadline(channel, path, argument):
    return channel.unary_unary(path + "Nap")(b"10", timeout=float(argument)).decode()


def do_cancel(channel, path, argument):
    answers = channel.unary_stream(path + "Drip")(b"", timeout=20)
    first = next(answers)
    answers.cancel()
    return first.decode()


DO = {
    "unary": do_unary,
    "large": do_large,
    "stream": do_stream,
    "collect": do_collect,
    "talk": do_talk,
    "fail": do_plain("Fail"),
    "deadline": do_deadline,
    "cancel": do_cancel,
    "count": do_plain("Count"),
    "refuse": do_plain("Refuse"),
    "arm": do_plain("Arm"),
    "ill": do_plain("Ill"),
    "missing": do_plain("Missing"),
}

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        call(sys.argv[2], sys.argv[3:])
