"""A function that writes metrics with the client that CloudWatch's documentation names."""

from aws_embedded_metrics import metric_scope


@metric_scope
def lambda_handler(event, context, metrics):
    metrics.set_namespace("shop")
    metrics.set_dimensions({"page": "cart"})
    metrics.put_metric("items", 3, "Count")
    metrics.put_metric("latency", 12.5, "Milliseconds")
    metrics.put_metric("latency", 7.5, "Milliseconds")
    return "done"
