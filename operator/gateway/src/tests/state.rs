//! The state API: what all gateways know of their functions, in one answer.

use pilotlight_wire::state::{State, Totals};

use super::peers::two;
use super::stage::{Answer, Stage, function, named, on_stage, settled};
use crate::config::Config;

const PATH: &str = "/pilotlight/v1/state";

fn read(answer: &Answer) -> State {
    assert_eq!(answer.header("content-type"), "application/json");
    serde_json::from_slice(&answer.body).expect("a state")
}

#[tokio::test(start_paused = true)]
async fn the_state_has_instances_limits_and_totals_of_each_function() {
    on_stage(async {
        let config = Config {
            concurrency: 7,
            ..Config::default()
        };
        let mut stage = Stage::new(config, None);
        let hello = function("concurrency: {reserved: 1, queue: 1}");
        stage.gateway.deploy(vec![hello, named("other", "")]).await;
        let callers = [stage.call("1"), stage.call("2"), stage.call("3")];
        settled().await;
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let state = read(&stage.get(PATH).await);
        let [hello, other] = &state.functions[..] else {
            panic!("two functions: {state:?}");
        };
        assert_eq!(hello.namespace.as_str(), "local");
        assert_eq!(
            (hello.name.as_str(), hello.qualifier.as_str()),
            ("hello", "$LATEST")
        );
        assert_eq!(
            (hello.revision.as_str(), hello.owner.as_deref()),
            ("first", Some("local"))
        );
        assert_eq!((hello.instances.busy, hello.queued), (1, 1));
        assert_eq!((hello.limits.concurrency, hello.limits.queue), (1, 1));
        assert_eq!(
            (other.name.as_str(), other.limits.concurrency),
            ("other", 7)
        );
        assert_eq!((hello.totals.throttles, hello.totals.failed), (1, 1));

        instance.answers(&event, "1").await;
        let event = instance.event().await;
        instance.posts(&event, "error", "{}").await;
        instance.asks();
        for caller in callers {
            caller.answer().await;
        }
        let state = read(&stage.get(PATH).await);
        let hello = &state.functions[0];
        let totals = Totals {
            invocations: 3,
            failed: 2,
            errors: 1,
            throttles: 1,
            cold_starts: 1,
        };
        assert_eq!(hello.totals, totals);
        assert_eq!((hello.instances.idle, hello.queued), (1, 0));
        assert_eq!(hello.durations.counts.iter().sum::<u64>(), 3);
        assert_eq!(state.phases["queue"].counts.iter().sum::<u64>(), 1);
        assert!(state.unanswered.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn any_gateway_has_the_state_of_all_and_names_those_that_do_not_answer() {
    on_stage(async {
        let ((mut first, _), (second, to_first)) = two("").await;
        let caller = second.call("1");
        let mut instance = first.instance().await;
        instance.serves("1").await;
        caller.answer().await;
        settled().await;
        let state = read(&second.get(PATH).await);
        let hello = &state.functions[0];
        assert_eq!((state.functions.len(), hello.totals.invocations), (1, 1));
        assert_eq!((hello.instances.idle, hello.owner.is_some()), (1, true));
        assert!(state.unanswered.is_empty());
        // What a gateway tells its peers is its own.
        let own = read(&second.part(PATH).await);
        assert_eq!(
            (own.functions[0].totals.invocations, &own.functions[0].owner),
            (0, &None)
        );

        to_first.is_unreachable();
        let state = read(&second.get(PATH).await);
        assert_eq!(state.unanswered, ["the other"]);
        assert_eq!(
            (state.functions.len(), &state.functions[0].owner),
            (1, &None)
        );
    })
    .await;
}
