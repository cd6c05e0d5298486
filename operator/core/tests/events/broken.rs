//! The oracle finds each fault in some of the seeds.

use crate::faults::Fault;
use crate::{SEEDS, run};

#[test]
fn each_fault_is_found() {
    for fault in Fault::ALL {
        let found = (0..SEEDS).find_map(|seed| {
            let (_, findings) = run(seed, Some(fault));
            findings.into_iter().next().map(|finding| (seed, finding))
        });
        let (seed, finding) = found.unwrap_or_else(|| panic!("{fault:?} is not found"));
        println!("{fault:?}: seed {seed}: {finding}");
    }
}
