"""What the conformance table asks of a function, in Python."""

import datetime
import os
import threading
import time

starts = time.time_ns()
calls = 0


def lambda_handler(event, context):
    global calls
    calls += 1
    do = event.get("do") if isinstance(event, dict) else None
    match do:
        case "context":
            client = context.client_context
            return {
                "requestId": context.aws_request_id,
                "functionName": context.function_name,
                "functionVersion": context.function_version,
                "arn": context.invoked_function_arn,
                "memory": context.memory_limit_in_mb,
                "logGroup": context.log_group_name,
                "logStream": context.log_stream_name,
                "remaining": context.get_remaining_time_in_millis(),
                "custom": client.custom if client else None,
            }
        case "surroundings":
            file = os.path.join(os.environ.get("TMPDIR", "/tmp"), "note")
            with open(file, "w") as note:
                note.write("kept")
            return {"variables": dict(os.environ), "directory": os.getcwd(), "kept": open(file).read()}
        case "count":
            return {"calls": calls, "started": starts}
        case "wait":
            time.sleep(event["seconds"])
            return {"started": starts}
        case "print":
            print(event["text"])
            return None
        case "raise":
            raise ValueError("no such order: grün")
        case "unserialisable":
            return datetime.datetime.now()
        case "size":
            return "x" * event["bytes"]
        case "exit":
            os._exit(event["status"])
        case "memory":
            held = [bytearray(os.urandom(1 << 20)) for _ in range(event["mebibytes"])]
            # Held until the limit acts, here and in the other languages.
            threading.Event().wait()
            return len(held)
    return event


def other(event, context):
    return "other"
