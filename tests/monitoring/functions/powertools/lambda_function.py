"""A function that writes metrics with Powertools for AWS Lambda."""

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

metrics = Metrics(namespace="orders", service="checkout")


@metrics.log_metrics(capture_cold_start_metric=True)
def lambda_handler(event, context):
    metrics.add_metric(name="placed", unit=MetricUnit.Count, value=2)
    metrics.add_dimension(name="environment", value="test")
    return "done"
