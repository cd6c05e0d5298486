"""For each alert, series that must make it fire and when, and the same a little milder that must not.

`promtool test rules` plays the series in the notation of Prometheus: `a+bxn` is a and n more values, each b more. One value
a minute.
"""

from dataclasses import dataclass, field

F = 'namespace="shop",function="pay",qualifier="$LATEST"'


@dataclass(frozen=True)
class Case:
    """`series`: with values that make the alert fire at the minute `fires`, and not at `quiet`."""

    alert: str
    series: dict
    fires: str
    quiet: str
    # What must never fire it: the same series with these values.
    milder: dict = field(default_factory=dict)


def calls(outcome):
    return f'pilotlight_invocations_total{{{F},outcome="{outcome}"}}'


def errors(reason):
    return f'pilotlight_function_errors_total{{{F},reason="{reason}"}}'


def buckets(name, counts):
    """A histogram: at each bound so many more a minute."""
    return {f'{name}_bucket{{{F},le="{bound}"}}': f"0+{more}x120" for bound, more in counts.items()}


CASES = [
    Case(
        "PilotlightFunctionErrors",
        {calls("success"): "0+90x120", calls("function_error"): "0+10x120"},
        fires="15m",
        quiet="8m",
        milder={calls("success"): "0+99x120", calls("function_error"): "0+1x120"},
    ),
    Case(
        "PilotlightFunctionTimeouts",
        {errors("timeout"): "0x10 0+1x110"},
        fires="20m",
        quiet="10m",
        milder={errors("timeout"): "7x120"},
    ),
    Case(
        "PilotlightFunctionOutOfMemory",
        {errors("out_of_memory"): "0x10 0+1x110"},
        fires="15m",
        quiet="9m",
        milder={errors("out_of_memory"): "7x120"},
    ),
    Case(
        "PilotlightFunctionMemoryNearLimit",
        buckets("pilotlight_memory_used_ratio", {"0.9": 0, "0.95": 0, "1.0": 10, "+Inf": 10}),
        fires="30m",
        quiet="10m",
        milder=buckets("pilotlight_memory_used_ratio", {"0.9": 10, "0.95": 10, "1.0": 10, "+Inf": 10}),
    ),
    Case(
        "PilotlightFunctionThrottled",
        {calls("success"): "0+90x120", calls("throttled"): "0+10x120"},
        fires="15m",
        quiet="8m",
        milder={calls("success"): "0+1000x120", calls("throttled"): "0+1x120"},
    ),
    Case(
        "PilotlightFunctionCannotStart",
        {calls("not_ready"): "0x10 0+1x110"},
        fires="20m",
        quiet="10m",
        milder={calls("not_ready"): "7x120"},
    ),
    Case(
        "PilotlightInvocationsLost",
        {calls("lost"): "0x10 0+1x110"},
        fires="15m",
        quiet="9m",
        milder={calls("lost"): "7x120"},
    ),
    Case(
        "PilotlightInstancesLost",
        {f'pilotlight_instances_ended_total{{{F},reason="lost"}}': "0x10 0+1x110"},
        fires="20m",
        quiet="9m",
        milder={f'pilotlight_instances_ended_total{{{F},reason="lost"}}': "0x10 1x110"},
    ),
    Case(
        "PilotlightInstancesNotStarted",
        {f'pilotlight_instances_ended_total{{{F},reason="not_started"}}': "0x10 0+1x110"},
        fires="20m",
        quiet="9m",
        milder={f'pilotlight_instances_ended_total{{{F},reason="not_started"}}': "0x10 1x110"},
    ),
    Case(
        "PilotlightQueueAge",
        {f"pilotlight_queue_age_seconds{{{F}}}": "0x10 20x110"},
        fires="13m",
        quiet="10m",
        milder={f"pilotlight_queue_age_seconds{{{F}}}": "5x120"},
    ),
    Case(
        "PilotlightConcurrencyNearLimit",
        {f"pilotlight_in_flight{{{F}}}": "10x120", f"pilotlight_concurrency_limit{{{F}}}": "10x120"},
        fires="12m",
        quiet="8m",
        # A function that may have one instance is at its limit with every call.
        milder={f"pilotlight_in_flight{{{F}}}": "1x120", f"pilotlight_concurrency_limit{{{F}}}": "1x120"},
    ),
    Case(
        "PilotlightProvisionedInstancesBusy",
        {f"pilotlight_in_flight{{{F}}}": "2x120", f"pilotlight_provisioned_instances{{{F}}}": "2x120"},
        fires="20m",
        quiet="12m",
        milder={f"pilotlight_in_flight{{{F}}}": "2x120", f"pilotlight_provisioned_instances{{{F}}}": "0x120"},
    ),
    Case(
        "PilotlightSlowColdStarts",
        buckets("pilotlight_cold_start_duration_seconds", {"1.0": 0, "5.0": 0, "30.0": 1, "+Inf": 1}),
        fires="30m",
        quiet="10m",
        milder=buckets("pilotlight_cold_start_duration_seconds", {"1.0": 1, "5.0": 1, "30.0": 1, "+Inf": 1}),
    ),
    Case(
        "PilotlightFunctionMetricsDropped",
        {f'pilotlight_function_metrics_dropped_total{{{F},reason="malformed"}}': "0x10 0+1x110"},
        fires="15m",
        quiet="9m",
        milder={f'pilotlight_function_metrics_dropped_total{{{F},reason="malformed"}}': "7x120"},
    ),
    Case(
        "PilotlightGatewaysAbsent",
        {'pilotlight_connections{listener="api"}': "1x10 stale"},
        fires="20m",
        quiet="12m",
        milder={'pilotlight_connections{listener="api"}': "0x120"},
    ),
    Case(
        "PilotlightGatewayMemoryShort",
        {
            'pilotlight_budget_used_bytes{of="events"}': "95x120",
            'pilotlight_budget_limit_bytes{of="events"}': "100x120",
        },
        fires="7m",
        quiet="3m",
        milder={
            'pilotlight_budget_used_bytes{of="events"}': "80x120",
            'pilotlight_budget_limit_bytes{of="events"}': "100x120",
        },
    ),
    Case(
        "PilotlightRequestsRefused",
        {'pilotlight_requests_refused_total{reason="event_bytes"}': "0+1x120"},
        fires="10m",
        quiet="4m",
        # A client that sends two lengths has a fault of its own.
        milder={'pilotlight_requests_refused_total{reason="both_lengths"}': "0+1x120"},
    ),
    Case(
        "PilotlightCallersRefused",
        {'pilotlight_callers_refused_total{reason="denied"}': "0+120x120"},
        fires="15m",
        quiet="8m",
        milder={'pilotlight_callers_refused_total{reason="denied"}': "0+30x120"},
    ),
    Case(
        "PilotlightLogStoreAway",
        {"pilotlight_log_store_failures_total": "0+1x120"},
        fires="10m",
        quiet="4m",
        milder={"pilotlight_log_store_failures_total": "7x120"},
    ),
    Case(
        "PilotlightLogRecordsDropped",
        {'pilotlight_log_records_dropped_total{reason="backlog_full"}': "0x10 0+1x110"},
        fires="15m",
        quiet="9m",
        milder={'pilotlight_log_records_dropped_total{reason="backlog_full"}': "7x120"},
    ),
    Case(
        "PilotlightCertificateEnds",
        {'pilotlight_tls_certificate_expiry_timestamp_seconds{secret="tls"}': "10000x120"},
        fires="6m",
        quiet="3m",
        milder={'pilotlight_tls_certificate_expiry_timestamp_seconds{secret="tls"}': "90000x120"},
    ),
    Case(
        "PilotlightCertificateUnusable",
        {'pilotlight_tls_certificate_unusable{secret="tls"}': "1x120"},
        fires="6m",
        quiet="3m",
        milder={'pilotlight_tls_certificate_unusable{secret="tls"}': "0x120"},
    ),
    Case(
        "PilotlightFunctionsUnreadable",
        {"pilotlight_unreadable_functions": "2x120"},
        fires="16m",
        quiet="10m",
        milder={"pilotlight_unreadable_functions": "0x120"},
    ),
    Case(
        "PilotlightSeriesShared",
        {"pilotlight_functions_without_own_series": "2x120"},
        fires="16m",
        quiet="10m",
        milder={"pilotlight_functions_without_own_series": "0x120"},
    ),
    Case(
        "PilotlightNoLeader",
        {"pilotlight_controller_leader": "0x120"},
        fires="3m",
        quiet="1m",
        milder={"pilotlight_controller_leader": "1x120"},
    ),
    Case(
        "PilotlightPodsNotCreated",
        {"pilotlight_controller_pods_create_failures_total": "0+1x120"},
        fires="10m",
        quiet="4m",
        milder={"pilotlight_controller_pods_create_failures_total": "7x120"},
    ),
    Case(
        "PilotlightApiServerErrors",
        {'pilotlight_controller_api_errors_total{operation="watch"}': "0+30x120"},
        fires="15m",
        quiet="8m",
        milder={'pilotlight_controller_api_errors_total{operation="watch"}': "0+1x120"},
    ),
    Case(
        "PilotlightWarmPoolsEmpty",
        {
            'pilotlight_controller_warm_pods{state="ready"}': "0x120",
            'pilotlight_controller_warm_pods{state="wanted"}': "2x120",
        },
        fires="6m",
        quiet="3m",
        milder={
            'pilotlight_controller_warm_pods{state="ready"}': "0x120",
            'pilotlight_controller_warm_pods{state="wanted"}': "0x120",
        },
    ),
]
