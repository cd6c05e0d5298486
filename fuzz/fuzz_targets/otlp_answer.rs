//! What a receiver of OTLP answers: whatever its bytes are, as an answer and as the partial success in one, they are read to
//! an end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight_otlp::rejected;

fuzz_target!(|data: &[u8]| {
    let _ = rejected(data);
    let length = data.len().min(0x7f);
    let mut answer = vec![0x0a, length as u8];
    answer.extend(&data[..length]);
    let first = rejected(&answer);
    // Fields that nobody asks for change nothing.
    answer.extend([0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0x7a, 0, 0x78, 0xff, 0x01]);
    assert_eq!(rejected(&answer), first);
});
