//! The command line.

/// The whole program: reads the command line, acts, and tells how it went.
pub fn main() -> std::process::ExitCode {
    eprintln!("oxim: nothing is built yet");
    std::process::ExitCode::FAILURE
}
