#!/usr/bin/env python3
"""A producer in Python: pushes documents one by one onto graphmill's queue, and waits until all are durable.

    export GRAPHMILL_API_KEY=gm_... REDIS_URL=redis://127.0.0.1:6379
    python3 submit.py papers documents.jsonl

Each line of the file is a document: {"id": "...", "text": "..."}, perhaps with "title", "source_uri" and "metadata". They go
into one batch, `papers`, which the first of them opens; it is sealed when it has them all. Run it again at any time: what
was submitted is not submitted twice. It needs redis-py (apt-get install python3-redis, or pip install redis).
"""
import hashlib
import json
import os
import sys
import time
import uuid

try:
    import redis
except ModuleNotFoundError:
    sys.exit(f"{sys.executable} has no redis-py: pip install redis; or apt-get install python3-redis, and run this with /usr/bin/python3")

QUEUE = "graphmill:submit"


def push(server, envelope):
    """Pushes an envelope; returns the id that its receipt is asked for with."""
    task = "submit:" + uuid.uuid4().hex
    with server.pipeline(transaction=True) as pipe:
        pipe.hset(f"{QUEUE}:data", task, json.dumps(envelope))
        pipe.hset(f"{QUEUE}:meta:{task}", mapping={"attempts": 0, "max_attempts": 1, "status": "Pending"})
        pipe.rpush(f"{QUEUE}:active", task)
        pipe.publish(f"tasks:{QUEUE}:active:available", task)
        pipe.execute()
    return task


def receipt(server, task, until):
    """Waits for a receipt; None if there is none in time."""
    seconds = max(1, int(until - time.monotonic()))
    found = server.blpop(f"{QUEUE}:receipt:{task}", timeout=seconds)
    return json.loads(found[1]) if found else None


def key(*parts):
    """The same parts are the same request, however often it is pushed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: submit.py NAME FILE.jsonl [SECONDS]")
    name, path = sys.argv[1:3]
    until = time.monotonic() + float(sys.argv[3] if len(sys.argv) == 4 else 60)
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379").replace("redis+unix://", "unix://")
    server = redis.Redis.from_url(url)
    head = {"v": 1, "api_key": os.environ["GRAPHMILL_API_KEY"]}

    tasks, ids = [], set()
    with open(path, encoding="utf-8") as lines:
        for line in filter(str.strip, lines):
            document = json.loads(line)
            ids.add(document["id"])
            add = {"name": name, "documents": [document]}
            tasks.append(push(server, {**head, "key": key(name, document), "add": add}))
    # It may come before the documents, which may come in any order: so it says how many there are.
    seal = {"name": name, "documents": len(ids)}
    tasks.append(push(server, {**head, "key": key(name, sorted(ids)), "seal": seal}))

    batch, told = None, {"durable": 0, "again": 0, "refused": 0, "no_receipt": 0}
    for task in tasks:
        answer = receipt(server, task, until)
        if answer is None:
            told["no_receipt"] += 1
        elif answer["status"] == "accepted":
            batch = answer["batch_id"]
            told["durable"] += 1
            told["again"] += answer["again"]
            for refused in answer.get("refused", []):
                print(f"refused {refused['document']}: {refused['message']}", file=sys.stderr)
        else:
            told["refused"] += 1
            print(f"refused: {answer['message']}", file=sys.stderr)
    print(json.dumps({"batch_id": batch, **told}))
    # Without a receipt nobody knows: it is safe to run this again.
    sys.exit(1 if told["refused"] or told["no_receipt"] else 0)


if __name__ == "__main__":
    main()
