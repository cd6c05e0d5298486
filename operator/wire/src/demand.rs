//! The stream in which a gateway reports to the controller which instances it wants.
//!
//! `core::gateways::demand` has its content. The gateway's `cluster/demand` writes it, the controller's
//! `gateways` reads it. A line is a demand as JSON, or empty. A reader ignores fields that it does not know:
//! the other end may have another release.

use pilotlight_core::gateways::demand::Demand;

/// `GET` on a gateway. The response has a line for each function that the gateway owns, then one at each
/// change, and an empty one at least once a second, which shows that the gateway is alive.
pub const DEMAND_PATH: &str = "/pilotlight/v1/demand";

/// The content type of the response.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DemandLine {
    /// Nothing has changed.
    Alive,
    /// Replaces the gateway's earlier demand for the same pool.
    Demand(Demand),
}

/// A line that is not empty is no demand as JSON.
#[derive(Debug, thiserror::Error)]
#[error("a gateway sent a line that is no demand: {0}")]
pub struct InvalidDemand(#[from] serde_json::Error);

/// Appends the line of a demand, its end included.
pub fn write(demand: &Demand, lines: &mut Vec<u8>) {
    serde_json::to_writer(&mut *lines, demand).expect("a demand is plain data");
    lines.push(b'\n');
}

/// Appends the empty line.
pub fn write_alive(lines: &mut Vec<u8>) {
    lines.push(b'\n');
}

impl DemandLine {
    /// Reads a line without its end.
    ///
    /// # Errors
    /// If it is neither empty nor a demand.
    pub fn read(line: &[u8]) -> Result<Self, InvalidDemand> {
        match line {
            [] => Ok(DemandLine::Alive),
            _ => Ok(DemandLine::Demand(serde_json::from_slice(line)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use pilotlight_core::gateways::demand::ClaimedPod;
    use pilotlight_core::ids::InstanceName;

    use super::*;

    fn demand() -> Demand {
        Demand {
            pool: "shop/hello:$LATEST".parse().expect("a pool"),
            uid: "u".into(),
            revision: "r".into(),
            instances: [InstanceName::from("a"), "b".into()].into(),
            claimed: Default::default(),
            given_up: Default::default(),
            in_flight: 1,
            queued: 2,
            events: 0,
            released: false,
        }
    }

    fn full() -> Demand {
        let pod = ClaimedPod {
            name: "warm-1".into(),
            uid: "u1".into(),
            revision: "r".into(),
        };
        Demand {
            claimed: [("b".into(), pod)].into(),
            given_up: ["c".into()].into(),
            released: true,
            ..demand()
        }
    }

    fn written(demand: &Demand) -> String {
        let mut line = Vec::new();
        write(demand, &mut line);
        String::from_utf8(line).expect("JSON")
    }

    #[test]
    fn a_demand_is_one_line_of_json_without_the_fields_that_have_their_defaults() {
        assert_eq!(
            written(&demand()),
            concat!(
                r#"{"namespace":"shop","function":"hello","qualifier":"$LATEST","uid":"u","#,
                r#""revision":"r","instances":["a","b"],"inFlight":1,"queued":2}"#,
                "\n"
            )
        );
        assert_eq!(
            written(&full()),
            concat!(
                r#"{"namespace":"shop","function":"hello","qualifier":"$LATEST","uid":"u","#,
                r#""revision":"r","instances":["a","b"],"claimed":{"b":{"name":"warm-1","#,
                r#""uid":"u1","revision":"r"}},"givenUp":["c"],"inFlight":1,"queued":2,"released":true}"#,
                "\n"
            )
        );
    }

    #[test]
    fn each_line_reads_back_as_it_was_written() {
        let mut lines = Vec::new();
        write(&demand(), &mut lines);
        write_alive(&mut lines);
        write(&full(), &mut lines);
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.map(|line| line.strip_suffix(b"\n").expect("a whole line"));
        let read = lines.map(|line| DemandLine::read(line).expect("a line"));
        let expected = [
            DemandLine::Demand(demand()),
            DemandLine::Alive,
            DemandLine::Demand(full()),
        ];
        assert_eq!(Vec::from_iter(read), expected);
    }

    #[test]
    fn unknown_fields_of_a_newer_gateway_are_ignored_and_other_lines_are_refused() {
        let newer = written(&demand()).replace("{", r#"{"added":{"later":[true]},"#);
        let read = DemandLine::read(newer.trim_end().as_bytes());
        assert_eq!(read.expect("a demand"), DemandLine::Demand(demand()));
        for line in [&b"{}"[..], b"[]", b"ready", b" ", b"\xff"] {
            assert!(DemandLine::read(line).is_err(), "{line:?}");
        }
    }
}
