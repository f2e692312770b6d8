//! What a server has to do within a second.

use std::thread;
use std::time::{Duration, Instant};

/// Waits until it is seen, a second at most. Under valgrind (`tests/valgrind/run` sets `OXIM_SLOWER`) everything takes
/// many times longer, and so does a second.
pub fn within_a_second(mut seen: impl FnMut() -> bool) {
    let slower = std::env::var("OXIM_SLOWER").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(1) * slower;
    while !seen() {
        assert!(Instant::now() < end, "not within a second");
        thread::sleep(Duration::from_millis(20));
    }
}
