"""An independent server of `process.Process`: connect_server.py PORT | unix:PATH.

The protocol is that of the official SDK's own generated server; the processes are real. A Rust
client is judged by it: what this server understands, E2B's does.
"""

import asyncio
import signal
import sys

import uvicorn
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.process import process_pb as pb
from e2b.envd.process.process_connect import Process, ProcessASGIApplication
from protobuf import Oneof

CHUNK_BYTES = 32 << 10


class Running:
    """A process, its input, and the queues of those who follow it."""

    def __init__(self, process, request):
        self.process = process
        self.config = request.process
        self.tag = request.tag if request.has_field("tag") else None
        self.lock = asyncio.Lock()
        self.followers = []
        self.end = None

    def publish(self, name, value):
        for queue in self.followers:
            queue.put_nowait((name, value))

    async def pump(self):
        async def read(stream, name):
            while data := await stream.read(CHUNK_BYTES):
                event = pb.ProcessEvent.DataEvent(output=Oneof(name, data))
                self.publish("data", event)

        await asyncio.gather(read(self.process.stdout, "stdout"), read(self.process.stderr, "stderr"))
        code = await self.process.wait()
        if code < 0:
            text = f"signal: {signal.strsignal(-code).lower()}"
            end = pb.ProcessEvent.EndEvent(exit_code=-1, exited=False, status=text, error=text)
        else:
            text = f"exit status {code}"
            end = pb.ProcessEvent.EndEvent(exit_code=code, exited=True, status=text)
            if code:
                end.error = text
        self.end = end
        self.publish("end", end)

    async def follow(self):
        queue = asyncio.Queue()
        self.followers.append(queue)
        try:
            yield "start", pb.ProcessEvent.StartEvent(pid=self.process.pid)
            if self.end is not None:
                yield "end", self.end
                return
            while True:
                name, value = await queue.get()
                yield name, value
                if name == "end":
                    return
        finally:
            self.followers.remove(queue)


class Processes(Process):
    def __init__(self):
        self.all = {}
        self.tasks = set()

    def find(self, selector):
        chosen = selector.selector if selector is not None else None
        for pid, running in self.all.items():
            if chosen is not None and chosen.value == (pid if chosen.field == "pid" else running.tag):
                return running
        raise ConnectError(Code.NOT_FOUND, "no such process")

    async def list(self, request, ctx):
        infos = []
        for pid, running in self.all.items():
            if running.end is None:
                info = pb.ProcessInfo(config=running.config, pid=pid)
                if running.tag is not None:
                    info.tag = running.tag
                infos.append(info)
        return pb.ListResponse(processes=infos)

    async def start(self, request, ctx):
        config = request.process
        has_stdin = request.stdin if request.has_field("stdin") else True
        try:
            process = await asyncio.create_subprocess_exec(
                config.cmd,
                *config.args,
                env=dict(config.envs) or None,
                cwd=config.cwd or None,
                stdin=asyncio.subprocess.PIPE if has_stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise ConnectError(Code.INVALID_ARGUMENT, str(error)) from error
        running = Running(process, request)
        self.all[process.pid] = running
        follow = running.follow()
        first = await anext(follow)
        task = asyncio.create_task(running.pump())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        yield pb.StartResponse(event=pb.ProcessEvent(event=Oneof(*first)))
        async for name, value in follow:
            yield pb.StartResponse(event=pb.ProcessEvent(event=Oneof(name, value)))

    async def connect(self, request, ctx):
        async for name, value in self.find(request.process).follow():
            yield pb.ConnectResponse(event=pb.ProcessEvent(event=Oneof(name, value)))

    async def write(self, running, data):
        if running.process.stdin is None or running.process.stdin.is_closing():
            raise ConnectError(Code.INTERNAL, "stdin is closed")
        if data is None or data.input is None or data.input.field != "stdin":
            raise ConnectError(Code.INVALID_ARGUMENT, "stdin is missing")
        async with running.lock:
            running.process.stdin.write(data.input.value)
            await running.process.stdin.drain()

    async def send_input(self, request, ctx):
        await self.write(self.find(request.process), request.input)
        return pb.SendInputResponse()

    async def stream_input(self, request, ctx):
        running = None
        async for message in request:
            event = message.event
            if event is None or event.field == "keepalive":
                continue
            if event.field == "start":
                running = self.find(event.value.process)
            elif running is None:
                raise ConnectError(Code.INVALID_ARGUMENT, "data before start")
            else:
                await self.write(running, event.value.input)
        return pb.StreamInputResponse()

    async def send_signal(self, request, ctx):
        running = self.find(request.process)
        if request.signal not in (pb.Signal.SIGKILL, pb.Signal.SIGTERM):
            raise ConnectError(Code.UNIMPLEMENTED, "no such signal")
        running.process.send_signal(int(request.signal))
        return pb.SendSignalResponse()

    async def close_stdin(self, request, ctx):
        running = self.find(request.process)
        if running.process.stdin is not None:
            running.process.stdin.close()
        return pb.CloseStdinResponse()


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(f"listening on {sys.argv[1]}", flush=True)


def main():
    where = sys.argv[1]
    place = {"uds": where[5:]} if where.startswith("unix:") else {"host": "127.0.0.1", "port": int(where)}
    application = ProcessASGIApplication(Processes())
    Server(uvicorn.Config(application, log_level="warning", lifespan="off", **place)).run()


main()
