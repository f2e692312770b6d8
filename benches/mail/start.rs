//! The start of the program: time and system calls of `-bV`.

use super::server::Program;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Milliseconds of one `-bV`, the median of 21.
pub fn time_ms(program: &Program) -> anyhow::Result<f64> {
    let mut times: Vec<f64> = Vec::new();
    let configuration = configuration()?;
    for _ in 0..21 {
        let began = Instant::now();
        Command::new(&program.path)
            .args(["-C"])
            .arg(configuration.path())
            .arg("-bV")
            .stdout(Stdio::null())
            .status()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// System calls of one `-bV`, counted by strace.
pub fn system_calls(program: &Program) -> anyhow::Result<Option<f64>> {
    let counts = tempfile::NamedTempFile::new()?;
    let configuration = configuration()?;
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(counts.path())
        .arg(&program.path)
        .arg("-C")
        .arg(configuration.path())
        .arg("-bV")
        .stdout(Stdio::null())
        .status();
    if status.is_err() {
        return Ok(None);
    }
    Ok(Some(std::fs::read_to_string(counts.path())?.lines().count() as f64))
}

fn configuration() -> anyhow::Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "primary_hostname = bench.example\nkeep_environment =\n")?;
    Ok(file)
}
