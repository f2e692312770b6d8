//! The command line: what was asked for, who asked, and the way to what does it.
pub mod args;
pub mod info;
pub mod trust;

/// The whole program: reads the command line, acts, and tells how it went.
pub fn main() -> std::process::ExitCode {
    eprintln!("oxim: nothing is built yet");
    std::process::ExitCode::FAILURE
}
