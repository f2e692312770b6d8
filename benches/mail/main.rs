//! `make bench`: what a message, a TLS session, an idle connection and a start cost, beside Exim where it is installed.
//!
//! Every figure is measured for both programs in one run, with the same configuration, on loopback, and given
//! as a ratio. CPU is that of the server and all its descendants (this program is their subreaper), less that
//! of a server that does nothing.
//!
//! `cargo bench --bench mail [-- ROUNDS]`; root, with the user `oxim` and `exim4` installed, for the whole picture.
mod idle;
mod load;
mod report;
mod server;
mod sessions;
mod start;

use server::Program;

/// Messages sent over each connection.
const MESSAGES: usize = 10;
/// Connections at once.
const CONNECTIONS: [usize; 3] = [1, 10, 50];

fn main() -> anyhow::Result<()> {
    let rounds: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3);
    nix::sys::prctl::set_child_subreaper(true)?;
    let programs = Program::installed();
    let mut table = report::Table::new(&programs);
    for connections in CONNECTIONS {
        for _ in 0..rounds {
            for program in &programs {
                eprintln!("{}: {connections} connections", program.name);
                let figures = load::run(program, connections, MESSAGES)?;
                table.add(program, &format!("messages/s, {connections} connections"), figures.per_second);
                table.add(program, &format!("CPU ms a message, {connections} connections"), figures.cpu_ms);
            }
        }
    }
    for (staple, name) in [(false, "without a staple"), (true, "with a staple")] {
        for _ in 0..rounds {
            for program in &programs {
                eprintln!("{}: STARTTLS sessions {name}", program.name);
                let figures = sessions::run(program, staple)?;
                table.add(program, &format!("STARTTLS sessions/s {name}"), figures.per_second);
                table.add(program, &format!("CPU ms a STARTTLS session {name}"), figures.cpu_ms);
            }
        }
    }
    for program in &programs {
        table.add(program, "KiB for each idle connection", idle::run(program)?);
        table.add(program, "ms for -bV", start::time_ms(program)?);
        table.add_count(program, "system calls of -bV", start::system_calls(program)?);
        table.add_count(program, "fsyncs for each 250", load::fsyncs_per_message(program)?);
    }
    table.print();
    Ok(())
}
