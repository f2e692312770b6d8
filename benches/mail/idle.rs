//! Memory of an idle connection: private memory of the server's processes with and without them.

use super::load::expect;
use super::server::{Program, Server};
use std::fs;
use std::io::BufReader;
use std::net::TcpStream;
use std::time::Duration;

/// Connections held open.
const CONNECTIONS: usize = 100;

/// KiB for each of them.
pub fn run(program: &Program) -> anyhow::Result<f64> {
    let server = Server::start(program, "smtp_accept_max_per_host = 200\n")?;
    let group = server.pid().as_raw();
    let before = private_kib(group)?;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let socket = TcpStream::connect(("127.0.0.1", server.port))?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        expect(&mut BufReader::new(socket.try_clone()?), "220")?;
        held.push(socket);
    }
    let after = private_kib(group)?;
    drop(held);
    server.stop()?;
    Ok((after.saturating_sub(before)) as f64 / CONNECTIONS as f64)
}

/// Private memory of all processes of a process group, in KiB.
fn private_kib(group: i32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let path = entry.path();
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        // After the name in brackets: state, parent, process group.
        let fields =
            stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>()).unwrap_or_default();
        if fields.get(2).and_then(|field| field.parse::<i32>().ok()) != Some(group) {
            continue;
        }
        let Ok(rollup) = fs::read_to_string(path.join("smaps_rollup")) else { continue };
        sum += rollup
            .lines()
            .filter(|line| line.starts_with("Private_"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(sum)
}
