"""The mutants: which test of the gateway needs which mechanism.

A test of `operator/gateway/src/tests` is named by file and function, any other by its whole path.

`old` is there exactly once. An edit compiles, and takes the mechanism out without a hang: a gateway that
tries again and again at the same moment of paused time never ends.
"""

from dataclasses import dataclass

GATEWAY = "operator/gateway/src"
CORE = "operator/core/src"
SUPERVISOR = "runtime-image/supervisor/src"
NET = "operator/net/src"
WIRE = "operator/wire/src"


@dataclass(frozen=True)
class Mutant:
    """One edit, and the test that notices it."""

    test: str
    what: str
    file: str
    old: str
    new: str


MUTANTS = [
    # dispatch
    Mutant(
        "dispatch::a_call_reaches_the_handler_as_it_was_made_and_the_answer_the_caller",
        "the lease brings no client context",
        f"{GATEWAY}/instance.rs",
        "client_context: invocation.client_context.clone(),",
        "client_context: None,",
    ),
    Mutant(
        "dispatch::an_instance_has_one_call_at_a_time_and_serves_the_next_one_warm",
        "an instance is stopped after its call",
        f"{CORE}/invoke/pool.rs",
        "Some(Condition::Ready) | None => self.roster.set(now, id, State::Idle),",
        "Some(Condition::Ready) | None => self.stop(now, id),",
    ),
    Mutant(
        "dispatch::ten_calls_start_as_many_instances_as_the_limit_allows_and_all_are_answered",
        "what is wanted is not bounded by the limit",
        f"{CORE}/invoke/pool.rs",
        "wanted.min(self.settings.limit)",
        "wanted",
    ),
    Mutant(
        "dispatch::a_cold_start_is_told_phase_by_phase_and_a_warm_call_has_none",
        "a call does not know that it started cold",
        f"{GATEWAY}/driver.rs",
        "pending.cold = Some(begun.saturating_duration_since(arrived));",
        "let _ = (begun, arrived);",
    ),
    Mutant(
        "dispatch::an_idle_instance_is_kept_for_its_keep_alive_and_ends_after_it",
        "no idle time ends",
        f"{CORE}/invoke/pool.rs",
        "is_spare.then(|| since + self.settings.keep_alive)",
        "is_spare.then_some(since).and(None)",
    ),
    Mutant(
        "dispatch::starts_beyond_the_burst_are_paced",
        "starts are not paced",
        f"{CORE}/invoke/starts.rs",
        "paced.max(self.backoff.as_ref().map(|backoff| backoff.until))",
        "paced.and(None).max(self.backoff.as_ref().map(|backoff| backoff.until))",
    ),
    Mutant(
        "dispatch::a_handler_that_does_not_answer_is_stopped_after_its_timeout_and_its_instance_serves_on",
        "a lease has no deadline",
        f"{CORE}/instance/machine.rs",
        "(None, Some(lease)) => Some(lease.started + self.timeout),",
        "(None, Some(_)) => None,",
    ),
    Mutant(
        "dispatch::an_init_that_fails_answers_one_call_and_the_next_finds_a_fresh_process",
        "an init that failed is told to nobody",
        f"{CORE}/instance/machine.rs",
        "self.failed_init = (!in_invocation).then_some(failure);",
        "self.failed_init = in_invocation.then_some(failure);",
    ),
    # abandon
    Mutant(
        "abandon::a_queued_call_whose_caller_has_gone_leaves_its_place_and_reaches_no_handler",
        "nobody tells the driver that a caller has gone",
        f"{GATEWAY}/invoker/mod.rs",
        "if !self.has_ended {",
        "if !self.has_ended && self.pool.0 == u64::MAX {",
    ),
    Mutant(
        "abandon::a_running_call_whose_caller_has_gone_keeps_its_instance_to_its_end",
        "an answer that nobody takes ends the instance",
        f"{GATEWAY}/instance.rs",
        "pending.end(Outcome::Answered(answered));",
        "if pending.placement.send(Placement::Ended(Outcome::Answered(answered))).is_err() { return Lease::Lost; }",
    ),
    Mutant(
        "abandon::an_instance_whose_caller_has_gone_before_it_came_up_serves_the_next_call",
        "the first call of an instance counts as cold though it was up before",
        f"{GATEWAY}/driver.rs",
        "&& ready.is_none_or(|ready| pending.invocation.arrived < ready)",
        "&& ready.is_none_or(|ready| pending.invocation.arrived != ready)",
    ),
    # not_started
    Mutant(
        "not_started::a_call_that_an_instance_refuses_as_busy_goes_to_another_one_once",
        "a refused lease counts as lost",
        f"{WIRE}/lease.rs",
        "if let Some(refusal) = headers.get(REFUSAL) {",
        'if let Some(refusal) = headers.get("no-such-header") {',
    ),
    Mutant(
        "not_started::a_call_whose_connection_was_closed_before_it_was_sent_goes_to_another_instance_once",
        "a request on a closed connection counts as sent",
        f"{NET}/client.rs",
        "Some(_) => ExchangeError::NeverSent,",
        "Some(_) => ExchangeError::Unknown,",
    ),
    Mutant(
        "not_started::a_call_that_waits_in_an_instance_whose_process_ends_is_run_by_the_next_process",
        "the supervisor drops a lease that it should release",
        f"{SUPERVISOR}/worker/actions.rs",
        "self.invocations.remove(place).release(Refusal::Starting);",
        "drop(self.invocations.remove(place)); let _ = Refusal::Starting;",
    ),
    Mutant(
        "not_started::a_call_for_an_instance_that_cannot_be_reached_any_more_is_handed_back_at_once",
        "orders are handed back only when the reason of the end is known",
        f"{GATEWAY}/instance.rs",
        "Some(order) = orders.recv() => hand_back(link, order).await,\n            reason",
        "Some(order) = std::future::pending() => hand_back(link, order).await,\n            reason",
    ),
    # lost
    Mutant(
        "lost::a_call_whose_machine_is_lost_is_told_so_and_never_sent_again",
        "a call that may have been read is sent again",
        f"{GATEWAY}/instance.rs",
        "Err(ExchangeError::NeverSent) => {\n            let status = None;",
        "Err(ExchangeError::NeverSent | ExchangeError::Unknown) => {\n            let status = None;",
    ),
    Mutant(
        "lost::a_connection_that_breaks_under_a_call_costs_the_instance_and_no_more",
        "an instance whose lease was lost stays",
        f"{GATEWAY}/instance.rs",
        "Lease::Lost => break,",
        "Lease::Lost => {}",
    ),
    Mutant(
        "lost::an_event_and_an_answer_of_the_largest_size_pass",
        "answers have another limit than supervisors",
        f"{GATEWAY}/instance.rs",
        "body::read(body, PAYLOAD_LIMIT, 0)",
        "body::read(body, PAYLOAD_LIMIT - 1, 0)",
    ),
    # handover
    Mutant(
        "handover::queued_calls_move_to_the_new_owner_and_the_running_one_ends_where_it_is",
        "a call that a pool refuses as moved is an error",
        f"{GATEWAY}/invoker/outcome.rs",
        "Rejection::Moved => return Placement::NotStarted(Box::new(invocation)),",
        "Rejection::Moved => Outcome::Stopping,",
    ),
    Mutant(
        "handover::an_instance_of_a_function_that_comes_back_while_it_runs_a_call_is_kept",
        "an instance that comes back is released all the same",
        f"{CORE}/invoke/pool.rs",
        "let next = AfterLease::Serve;",
        "let next = AfterLease::Release;",
    ),
    Mutant(
        "handover::an_instance_that_is_released_lives_on_for_the_new_owner",
        "an instance is drained instead of released",
        f"{CORE}/invoke/pool.rs",
        "self.actions.push_back(Action::Release { instance });",
        "self.actions.push_back(Action::Stop { instance });",
    ),
    Mutant(
        "handover::a_call_for_a_function_that_is_nobodys_waits_for_an_owner_but_not_for_ever",
        "a call does not wait for an owner",
        f"{GATEWAY}/invoker/mod.rs",
        "const OWNER_WAIT_LIMIT: Duration = Duration::from_secs(10);",
        "const OWNER_WAIT_LIMIT: Duration = Duration::ZERO;",
    ),
    Mutant(
        "forward::gateways_that_take_each_other_for_the_owner_pass_a_call_on_only_a_few_times",
        "an invocation that no peer took is not tried again",
        f"{GATEWAY}/invoker/forward.rs",
        "Forwarded::Ended(Outcome::NotPlaced) | Forwarded::NeverSent => {",
        "Forwarded::NeverSent => {",
    ),
    Mutant(
        "forward::a_call_from_a_peer_waits_until_this_gateway_learns_that_it_is_the_owner",
        "a forwarded call is sent back at once",
        f"{GATEWAY}/invoker/mod.rs",
        "if hops < HOP_LIMIT && (!was_forwarded || waited >= FORWARDED_WAIT_LIMIT) =>",
        "if hops < HOP_LIMIT =>",
    ),
    Mutant(
        "forward::a_forwarded_call_whose_peer_is_lost_is_not_sent_again",
        "a call whose peer was lost is forwarded again",
        f"{GATEWAY}/invoker/forward.rs",
        "Forwarded::Ended(Outcome::NotPlaced) | Forwarded::NeverSent => {",
        "Forwarded::Ended(Outcome::NotPlaced | Outcome::Lost) | Forwarded::NeverSent => {",
    ),
    # forward
    Mutant(
        "forward::a_forwarded_call_keeps_its_request_id_and_reaches_the_handler_as_it_was_made",
        "the owner gives a forwarded call a request id of its own",
        f"{GATEWAY}/http/parts.rs",
        "request_id: request.request_id,",
        "request_id: uuid::Uuid::new_v4().to_string().into(),",
    ),
    Mutant(
        "forward::an_error_of_the_function_is_passed_back_as_the_owner_has_it",
        "an error of the function is read as a success",
        "operator/wire/src/invoke.rs",
        "Outcome::Answered(Answer::read(true, headers, body))",
        "Outcome::Answered(Answer::read(false, headers, body))",
    ),
    Mutant(
        "forward::a_limit_of_the_owner_refuses_a_forwarded_call_with_its_reason",
        "the reason of a throttle is left out",
        "operator/wire/src/invoke.rs",
        "response.headers_mut().insert(REASON, reason);",
        "let _ = reason;",
    ),
    Mutant(
        "forward::a_reason_why_no_instance_starts_comes_back_over_the_hop",
        "the reason is left out",
        "operator/wire/src/invoke.rs",
        "*response.body_mut() = Bytes::copy_from_slice(reason.as_bytes());",
        "let _ = reason;",
    ),
    Mutant(
        "forward::a_call_follows_an_owner_that_changes_on_the_way",
        "a forwarded call is not passed on",
        f"{GATEWAY}/invoker/mod.rs",
        "const HOP_LIMIT: u16 = 3;",
        "const HOP_LIMIT: u16 = 1;",
    ),
    Mutant(
        "forward::a_call_that_a_peer_never_got_is_sent_again",
        "a call that was never sent is lost",
        f"{GATEWAY}/invoker/forward.rs",
        "Forwarded::Ended(Outcome::NotPlaced) | Forwarded::NeverSent => {",
        "Forwarded::NeverSent => Placement::Ended(Outcome::Lost),\n        Forwarded::Ended(Outcome::NotPlaced) => {",
    ),
    # shutdown
    Mutant(
        "shutdown::a_gateway_whose_driver_panics_ends_with_an_error",
        "a gateway lives on without its driver",
        f"{GATEWAY}/gateway.rs",
        "failed.cancel();",
        "drop(failed);",
    ),
    Mutant(
        "shutdown::a_gateway_that_ends_lets_the_running_call_finish_and_refuses_the_others",
        "calls that an ending gateway refuses are told that the function is deleted",
        f"{GATEWAY}/driver.rs",
        "self.is_stopping = true;",
        "",
    ),
    Mutant(
        "shutdown::a_gateway_that_ends_lets_the_running_call_finish_and_refuses_the_others",
        "there is no grace period",
        f"{GATEWAY}/driver.rs",
        "let deadline = clock::now() + grace;",
        "let deadline = clock::now() + grace * 0;",
    ),
    Mutant(
        "shutdown::idle_instances_end_at_once_with_their_gateway",
        "instances of a pool that ends stay until they are forced",
        f"{CORE}/invoke/pool.rs",
        "self.reject_all(&Rejection::Deleted);\n                self.retire_all(now);",
        "self.reject_all(&Rejection::Deleted);",
    ),
    Mutant(
        "shutdown::a_call_that_outlasts_the_grace_period_is_ended_with_its_instance",
        "instances do not heed the end of the grace period",
        f"{GATEWAY}/instance.rs",
        '() = force.cancelled() => Arc::from("stopped"),',
        '() = std::future::pending() => Arc::from("stopped"),',
    ),
    Mutant(
        "shutdown::an_instance_on_its_way_up_is_given_up_as_its_gateway_ends",
        "an instance on its way up takes no order",
        f"{GATEWAY}/instance.rs",
        '_ = orders.recv() => return Arc::from("stopped before it was up"),',
        '() = std::future::pending() => return Arc::from("stopped before it was up"),',
    ),
    # limits
    Mutant(
        "limits::a_call_beyond_limit_and_queue_is_refused_at_once",
        "the queue has no bound by count",
        f"{CORE}/invoke/pool.rs",
        "if self.load() >= room {",
        "if self.load() >= room.max(1000) {",
    ),
    Mutant(
        "limits::a_function_with_no_concurrency_starts_nothing",
        "a function without concurrency has a queue",
        f"{CORE}/invoke/pool.rs",
        "            0 => 0,\n",
        "            0 => self.settings.queue,\n",
    ),
    Mutant(
        "limits::payloads_that_wait_are_bounded_in_bytes",
        "the queue has no bound by bytes",
        f"{CORE}/invoke/pool.rs",
        "(!self.queue.has_room_for(bytes)).then_some(Rejection::QueueBytes)",
        "(!self.queue.has_room_for(bytes)).then_some(Rejection::QueueBytes).and(None)",
    ),
    Mutant(
        "limits::a_call_waits_for_a_busy_instance_as_long_as_it_may_and_reaches_it_no_later",
        "calls wait without end",
        f"{GATEWAY}/config.rs",
        "queue_wait: self.queue_wait,",
        "queue_wait: self.queue_wait * 1000,",
    ),
    Mutant(
        "limits::a_call_for_which_no_instance_comes_up_is_told_that_and_not_of_a_limit",
        "a call for which no instance came up is told of a limit",
        f"{CORE}/invoke/pool.rs",
        "None if counts.live() == counts.starting &&",
        "None if counts.live() < counts.starting &&",
    ),
    Mutant(
        "limits::a_start_that_fails_is_tried_again_and_the_second_failure_is_told",
        "the first start that fails is told",
        f"{CORE}/invoke/starts.rs",
        "is_refused || failures > 1",
        "is_refused || failures > 0",
    ),
    Mutant(
        "limits::a_start_that_fails_is_tried_again_and_the_second_failure_is_told",
        "there is no pause after a start that fails",
        f"{CORE}/invoke/starts.rs",
        "until: now + pause,",
        "until: now + pause * 0,",
    ),
    Mutant(
        "limits::while_instances_are_refused_they_are_asked_for_every_second_at_least",
        "a refusal counts as a failure",
        f"{GATEWAY}/driver.rs",
        "true => pool::Event::Refused { instance, reason },",
        "true => pool::Event::Gone { instance, reason },",
    ),
    Mutant(
        "limits::an_event_beyond_the_limit_is_refused_before_an_instance_is_started",
        "events have no limit at the gateway",
        f"{GATEWAY}/http/invoke.rs",
        "body::read(body, PAYLOAD_LIMIT, READ_LIMIT)",
        "body::read(body, READ_LIMIT, READ_LIMIT)",
    ),
    # deploys
    Mutant(
        "deploys::a_new_revision_takes_the_calls_that_wait_and_the_old_one_ends_after_its_last",
        "a new revision replaces nothing",
        f"{GATEWAY}/driver.rs",
        "false => pool::Event::Replaced { settings },",
        "false => pool::Event::Configured { settings },",
    ),
    Mutant(
        "deploys::what_changes_no_instance_keeps_them_and_counts_at_once",
        "any change replaces all instances",
        f"{GATEWAY}/driver.rs",
        "true => pool::Event::Configured { settings },",
        "true => pool::Event::Replaced { settings },",
    ),
    Mutant(
        "deploys::a_function_that_is_deleted_is_not_found_and_its_instances_end",
        "what a function counted stays when it is deleted",
        f"{GATEWAY}/driver.rs",
        "self.metrics.forget(name);",
        "",
    ),
    Mutant(
        "deploys::what_is_provisioned_comes_up_before_the_first_call_and_stays",
        "a new function waits for its first call",
        f"{GATEWAY}/driver.rs",
        "self.with(key, |function| function.pool.wake(clock::now()));",
        "",
    ),
    # apis, logs
    Mutant(
        "apis::a_call_that_cannot_be_one_is_refused_with_its_reason_and_starts_nothing",
        "every version is the latest",
        f"{GATEWAY}/http/function_ref.rs",
        ".filter(|_| version == LATEST)",
        '.filter(|_| version != "")',
    ),
    Mutant(
        "apis::a_call_that_cannot_be_one_is_refused_with_its_reason_and_starts_nothing",
        "a client context of any length is taken",
        f"{GATEWAY}/http/invoke.rs",
        "if encoded.len() > CLIENT_CONTEXT_LIMIT {",
        "if encoded.len() > CLIENT_CONTEXT_LIMIT * 2 {",
    ),
    Mutant(
        "apis::a_dry_run_checks_the_call_and_runs_nothing",
        "a dry run is run",
        f"{GATEWAY}/http/invoke.rs",
        'Some(b"DryRun") => InvocationType::DryRun,',
        'Some(b"DryRun") => InvocationType::RequestResponse,',
    ),
    Mutant(
        "apis::functions_are_listed_page_by_page_in_the_order_of_their_names",
        "a page begins with the last of the page before",
        f"{GATEWAY}/http/management.rs",
        ".is_none_or(|after| one.name.as_str() > after)",
        ".is_none_or(|after| one.name.as_str() >= after)",
    ),
    Mutant(
        "apis::a_functions_configuration_is_that_of_its_manifest",
        "a custom runtime is named as the manifest does",
        f"{GATEWAY}/http/management.rs",
        '"custom" => "provided.al2023".to_owned(),',
        "",
    ),
    Mutant(
        "apis::a_path_that_is_none_is_an_unknown_operation",
        "another method is axum's error",
        f"{GATEWAY}/http/routes.rs",
        ".method_not_allowed_fallback(unknown)",
        "",
    ),
    Mutant(
        "apis::the_log_tail_that_a_caller_asks_for_has_the_invocations_lines_and_no_others",
        "an answer does not wait for its REPORT",
        f"{SUPERVISOR}/invocation.rs",
        "true => self.held = Some(answer),",
        "true => self.send(answer),",
    ),
    Mutant(
        "apis::no_listener_serves_the_paths_of_another",
        "the public API takes invocations from gateways",
        f"{GATEWAY}/http/routes.rs",
        '.route("/pilotlight/v1/functions/{name}/logs", get(logs::logs))',
        '.route("/pilotlight/v1/functions/{name}/logs", get(logs::logs)).route(INVOKE_PATH, post(parts::invoke))',
    ),
    Mutant(
        "apis::metrics_count_what_callers_were_told_and_what_lives",
        "counts of instances are not observed",
        f"{GATEWAY}/driver.rs",
        "function.metrics.observe(counts, queued);",
        "",
    ),
    Mutant(
        "apis::metrics_count_what_callers_were_told_and_what_lives",
        "how invocations ended is not counted",
        f"{GATEWAY}/invoker/mod.rs",
        "entry.metrics.ended(outcome::label(outcome), took);",
        "let _ = (outcome, took);",
    ),
    # state
    Mutant(
        "state::the_state_has_instances_limits_and_totals_of_each_function",
        "errors of functions count as successes",
        f"{GATEWAY}/metrics.rs",
        "errors: of(OutcomeLabel::function_error),",
        "errors: of(OutcomeLabel::lost),",
    ),
    Mutant(
        "state::any_gateway_has_the_state_of_all_and_names_those_that_do_not_answer",
        "the states of peers are left out",
        f"{GATEWAY}/http/state.rs",
        "Some(state) => all.merge(state),",
        "Some(_) => {}",
    ),
    # apis
    Mutant(
        "logs::a_functions_log_is_chosen_by_text_by_request_and_by_time",
        "the filter knows request ids only",
        f"{GATEWAY}/http/logs.rs",
        "entry.text.contains(text) || ",
        "",
    ),
    Mutant(
        "logs::a_log_that_is_read_right_after_an_answer_has_the_calls_last_record",
        "a reader does not wait for what is being logged",
        f"{GATEWAY}/http/logs.rs",
        "logs.catch_up(&filter.function).await;",
        "",
    ),
    Mutant(
        "logs::a_log_is_read_as_far_as_it_is_when_an_instance_does_not_go_on",
        "a reader waits for an hour",
        f"{GATEWAY}/log_marks.rs",
        "const CATCH_UP_LIMIT: Duration = Duration::from_secs(2);",
        "const CATCH_UP_LIMIT: Duration = Duration::from_secs(3600);",
    ),
    Mutant(
        "logs::who_follows_a_log_gets_the_lines_that_come",
        "who follows gets every line",
        f"{GATEWAY}/http/logs.rs",
        "Ok(entry) if filter.admits(&entry) => write_line(&mut chunk, &entry),",
        "Ok(entry) => write_line(&mut chunk, &entry),",
    ),
    # Files by themselves
    Mutant(
        "cluster::claim::tests::the_first_claim_brings_the_code_and_a_second_one_is_told_whose_it_is",
        "a claim that was taken before is another's",
        f"{GATEWAY}/cluster/claim.rs",
        "if instance.as_ref() == Some(&claim.instance) => {",
        "if instance.is_none() => {",
    ),
    Mutant(
        "cluster::claim::tests::code_that_leads_outside_is_refused_with_the_reason",
        "the supervisor leaves out names that lead outside",
        f"{SUPERVISOR}/claim.rs",
        'return Err(io::Error::other("a name leads outside"));',
        "continue;",
    ),
    Mutant(
        "cluster::claim::tests::a_supervisor_that_is_not_there_cannot_be_reached",
        "a supervisor that is not there is not claimed",
        f"{GATEWAY}/cluster/claim.rs",
        "ask.await.map_err(|error: Broken| unreachable(&error))",
        "Ok(ask.await.unwrap_or_else(|_: Broken| false))",
    ),
    Mutant(
        "cluster::codes::tests::an_archive_is_fetched_once_however_many_want_it_and_each_place_has_its_own_tar",
        "each who wants an archive fetches it",
        f"{GATEWAY}/cluster/codes.rs",
        "cell.get_or_try_init(fetch).await.cloned()",
        "OnceCell::new().get_or_try_init(fetch).await.cloned().inspect(|_| drop(cell))",
    ),
    Mutant(
        "cluster::codes::tests::an_archive_that_is_another_is_refused_with_its_field_and_tried_again",
        "an error does not name the field",
        f"{GATEWAY}/cluster/codes.rs",
        ".with_context(|| field.to_owned())",
        ".with_context(|| field.len())",
    ),
    Mutant(
        "cluster::codes::tests::inline_code_is_packed_and_nothing_is_brought_for_it",
        "inline code is packed as a layer",
        f"{GATEWAY}/cluster/codes.rs",
        "pilotlight_archive::pack_texts(texts, TASK)",
        "pilotlight_archive::pack_texts(texts, OPT)",
    ),
    Mutant(
        "cluster::codes::tests::what_no_function_has_any_more_is_removed",
        "old code stays",
        f"{GATEWAY}/cluster/codes.rs",
        "&& let Err(error) = fs::remove_file(path)",
        "&& let Err(error) = fs::metadata(path)",
    ),
    Mutant(
        "cluster::functions::tests::a_function_that_cannot_be_read_any_more_keeps_its_last_readable_spec",
        "a function goes when it cannot be read any more",
        f"{GATEWAY}/cluster/functions.rs",
        "Err(_) => known.cloned(),",
        "Err(_) => None,",
    ),
    Mutant(
        "cluster::functions::tests::a_function_that_never_could_be_read_is_not_served_in_the_place_of_another",
        "a function has the spec of the one that had its name before",
        f"{GATEWAY}/cluster/functions.rs",
        "Err(_) => known.cloned(),",
        "Err(_) => self.known.get(&name).cloned(),",
    ),
    Mutant(
        "cluster::pods::tests::who_follows_an_instance_hears_of_it_before_and_after_its_pod_is_there",
        "nobody hears of a deletion",
        f"{GATEWAY}/cluster/pods.rs",
        '*old = gone("its pod was deleted");',
        'let _ = gone("its pod was deleted");',
    ),
    Mutant(
        "cluster::pods::tests::another_pod_by_the_name_of_one_that_was_followed_is_not_taken_for_it",
        "pods are told apart by name alone",
        f"{GATEWAY}/cluster/pods.rs",
        "if entry.found.is_some() && entry.uid != uid {",
        "if entry.found.is_none() && entry.uid != uid {",
    ),
    Mutant(
        "cluster::pods::tests::what_a_list_lacks_was_deleted_while_nobody_watched",
        "what a list lacks stays",
        "operator/watch/src/fold.rs",
        "self.is_complete = true;",
        "return vec![Change::ListCompleted];",
    ),
    Mutant(
        "cluster::pods::tests::only_living_pods_of_the_function_are_found",
        "a pod that is deleted is taken over",
        f"{GATEWAY}/cluster/pods.rs",
        "is_up && !known.is_deleted",
        "is_up",
    ),
    Mutant(
        "cluster::tests::pods_are_known_once_the_first_list_is_complete_and_stay_so_while_the_watch_fails",
        "pods count as known when the list begins",
        f"{GATEWAY}/cluster.rs",
        "known.take_if(|_| fold.is_complete())",
        "known.take_if(|_| fold.is_listing())",
    ),
    Mutant(
        "process::tests::a_supervisor_that_does_not_come_up_says_why_and_leaves_nothing",
        "a supervisor's complaint is lost",
        f"{GATEWAY}/process.rs",
        "last = line;",
        "last.clear();",
    ),
    Mutant(
        "process::tests::a_supervisor_has_its_lifeline_and_its_records_are_logged_to_the_last",
        "a supervisor keeps its lifeline, and is killed",
        f"{GATEWAY}/process.rs",
        "drop(self.lifeline.take());",
        "",
    ),
    Mutant(
        "process::tests::the_end_of_a_supervisor_is_told_with_its_status",
        "an end is told without its status",
        f"{GATEWAY}/process.rs",
        'format!("its supervisor ended ({status})")',
        'format!("its supervisor ended ({})", status.success())',
    ),
    Mutant(
        "http::errors::tests::each_error_has_the_documented_status_type_and_spelling",
        "a validation error has the message in capitals",
        f"{GATEWAY}/http/errors.rs",
        'let body = json!({ "message": message.into() });',
        'let body = json!({ "Message": message.into() });',
    ),
]
