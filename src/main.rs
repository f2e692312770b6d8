//! Entry of the program `oxim` (also `sendmail`, `mailq`, `exim` and the other names).
fn main() -> std::process::ExitCode {
    oxim::cli::main()
}
