//! What a server has to do within a second.

#[path = "slower.rs"]
mod slower;

use slower::slower;
use std::thread;
use std::time::{Duration, Instant};

/// Waits until it is seen, a second at most. Under valgrind everything takes many times longer, and so
/// does a second.
pub fn within_a_second(mut seen: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(1) * slower();
    while !seen() {
        assert!(Instant::now() < end, "not within a second");
        thread::sleep(Duration::from_millis(20));
    }
}
