"""A JSON API over the event {method, path, body}: routes, and answers with a status.

Takes the event apart and puts the answer together; what is computed lives in
units.py. A request that cannot be served is an answer (4xx, with the field),
never an exception: exceptions are left for faults of the function itself.
"""

import re

import units


class Refused(Exception):
    """A request that is answered with a 4xx status."""

    def __init__(self, status, message, field=None):
        super().__init__(message)
        self.answer = answer(status, {"error": {"field": field, "message": message}})


def handler(event, context):
    try:
        return route(event)
    except Refused as refused:
        return refused.answer


def answer(status, body):
    return {"statusCode": status, "body": body}


def route(event):
    if not isinstance(event, dict) or not isinstance(event.get("path"), str):
        raise Refused(400, "must be a string such as /units", "path")
    path = event["path"].rstrip("/") or "/"
    method = event.get("method", "GET")
    found = [
        (allowed, match, serve) for allowed, pattern, serve in ROUTES if (match := pattern.fullmatch(path))
    ]
    if not found:
        raise Refused(404, f"nothing is served at {path}", "path")
    for allowed, match, serve in found:
        if allowed == method:
            return serve(event, **match.groupdict())
    methods = ", ".join(allowed for allowed, _, _ in found)
    raise Refused(405, f"{path} takes {methods}", "method")


def list_quantities(event):
    return answer(200, {"quantities": units.quantities()})


def list_units(event, quantity):
    if quantity not in units.quantities():
        raise Refused(404, f"there is no quantity {quantity}, see GET /units", "path")
    return answer(200, {"quantity": quantity, "units": units.units_of(quantity)})


def convert(event):
    body = event.get("body")
    if not isinstance(body, dict):
        raise Refused(400, "must be an object with value, from and to", "body")
    value = body.get("value")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Refused(400, f"must be a number, got {value!r}", "body.value")
    try:
        converted = units.convert(value, body.get("from"), body.get("to"))
    except units.ConversionError as error:
        raise Refused(422, str(error), f"body.{error.field}") from error
    return answer(200, {"value": converted, "unit": body["to"]})


ROUTES = [
    ("GET", re.compile(r"/units"), list_quantities),
    ("GET", re.compile(r"/units/(?P<quantity>[a-z]+)"), list_units),
    ("POST", re.compile(r"/conversions"), convert),
]
