//! Messages of the event queue's streams, which other versions and other programs may have written.
//!
//! What is read can be written and read again as the same. The payload arrives as it is, whatever it contains.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pilotlight_events::jetstream::record::{self, StoredProgress};

fuzz_target!(|text: &[u8]| {
    // The last line is a stored progress, for the event in the lines before it.
    let end = text.iter().rposition(|byte| *byte == b'\n');
    let (message, progress) = match end {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, text),
    };
    for message in [message, text] {
        let Ok(event) = record::decode(&Bytes::copy_from_slice(message)) else {
            continue;
        };
        assert!(message.ends_with(&event.payload));
        assert_eq!(record::decode(&record::encode(&event)), Ok(event.clone()));
        let head = &event.head;
        let stored = StoredProgress::decode(progress, &head.request_id);
        if let Some(stored) = &stored {
            let read = StoredProgress::decode(&stored.encode(), &head.request_id);
            assert_eq!(read.as_ref(), Some(stored));
        }
        for deliveries in [0, 1, u64::from(message.len() as u32), u64::MAX] {
            let now = record::progress_now(&head.progress, stored.as_ref(), deliveries);
            assert_eq!(now.accepted, head.progress.accepted);
            let known = stored
                .as_ref()
                .map_or(head.progress, |stored| stored.progress);
            assert_eq!(now.failures, known.failures);
            assert!(now.refusals >= known.refusals);
        }
    }
});
