//! How many times longer than usual all may take here: under valgrind (`tests/valgrind/run` sets `OXIM_SLOWER`).

/// The factor for every time that a test allows.
pub fn slower() -> u32 {
    std::env::var("OXIM_SLOWER").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}
