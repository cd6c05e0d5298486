"""Handlers that report what surrounds them: context, environment, log.

Called through functions.yaml by both SDK suites; they only read and print.
"""

import os


def describe(event, context):
    client = context.client_context
    return {
        "aws_request_id": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(),
        "memory_limit_in_mb": context.memory_limit_in_mb,
        "function_name": context.function_name,
        "function_version": context.function_version,
        "invoked_function_arn": context.invoked_function_arn,
        "log_group_name": context.log_group_name,
        "log_stream_name": context.log_stream_name,
        "client_context": client
        and {
            "custom": client.custom,
            "env": client.env,
            "app_title": client.client.app_title,
        },
    }


def environment(event, context):
    return {"variables": dict(os.environ), "directory": os.getcwd()}


def prints(event, context):
    for line in event["lines"]:
        print(line)
