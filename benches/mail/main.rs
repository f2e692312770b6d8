//! `make bench`: what a message, a TLS session, an idle connection and a start cost, beside Exim where it is installed.
//!
//! Every figure is measured for both programs in one run, with the same configuration, on loopback, and given
//! as a ratio. CPU is that of the server and all its descendants (this program is their subreaper), less that
//! of a server that does nothing.
//!
//! Then come the bounds: what a staple, oxim itself and many virtual hosts may cost (`bounds.rs`); one that is missed
//! fails the run.
//!
//! `cargo bench --bench mail [-- [ROUNDS] [bounds]]`; root, with the user `oxim` and `exim4` installed, for the whole picture.
mod bare;
mod bounds;
mod client;
mod cpu;
mod idle;
mod load;
mod report;
mod server;
mod sessions;
mod start;

use server::Program;
use std::path::Path;

/// Messages sent over each connection.
const MESSAGES: usize = 10;
/// Connections at once.
const CONNECTIONS: [usize; 3] = [1, 10, 50];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == bare::ARGUMENT) {
        return bare::main(&arguments[1..]);
    }
    let rounds: usize = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(3);
    let only_bounds = arguments.iter().any(|argument| argument == "bounds");
    anyhow::ensure!(rounds > 0, "at least one round");
    nix::sys::prctl::set_child_subreaper(true)?;
    let programs = Program::installed();
    let keys = sessions::keys()?;
    if !only_bounds {
        compare(&programs, keys.path(), rounds)?;
    }
    bounds::measure(&programs, keys.path(), rounds)
}

/// Every figure for every program, side by side.
fn compare(programs: &[Program], keys: &Path, rounds: usize) -> anyhow::Result<()> {
    let mut table = report::Table::new(programs);
    for connections in CONNECTIONS {
        for _ in 0..rounds {
            for program in programs {
                eprintln!("{}: {connections} connections", program.name);
                let figures = load::run(program, connections, MESSAGES)?;
                table.add(program, &format!("messages/s, {connections} connections"), figures.per_second);
                table.add(program, &format!("CPU ms a message, {connections} connections"), figures.cpu_ms);
            }
        }
    }
    let kinds = [(false, "without a staple"), (true, "with a staple")];
    for (staple, name) in kinds.into_iter().filter(|(staple, _)| oxim::tls::OCSP || !staple) {
        for _ in 0..rounds {
            for program in programs {
                eprintln!("{}: STARTTLS sessions {name}", program.name);
                let figures = sessions::run(program, keys, staple)?;
                table.add(program, &format!("STARTTLS sessions/s {name}"), figures.per_second);
                table.add(program, &format!("CPU ms a STARTTLS session {name}"), figures.cpu_ms);
            }
        }
    }
    for program in programs {
        table.add(program, "KiB for each idle connection", idle::run(program)?);
        table.add(program, "ms for -bV", start::time_ms(program)?);
        table.add_count(program, "system calls of -bV", start::system_calls(program)?);
        table.add_count(program, "fsyncs for each 250", load::fsyncs_per_message(program)?);
    }
    table.print();
    Ok(())
}
