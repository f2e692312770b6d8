//! `-bs`: SMTP on standard input and output, for a local caller or (a TCP socket there) for inetd.

use super::Program;
use super::caller;
use super::delivery::{When, Worker};
use super::submit;
use crate::process::services;
use crate::smtp_in::{self, Connected, Server, stream::Pipes};
use crate::sys::{descriptors, listen};
use anyhow::bail;
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Serves one session; gives the exit code.
pub fn run(program: Program) -> anyhow::Result<i32> {
    let who = caller::caller(&program.asked())?;
    let when = submit::when(&program.asked());
    let suppress_fixups = program.invocation.message.suppress_fixups;
    let call = caller::local_call(&program.asked(), who, when == When::Never);
    let worker = Worker::start(program)?;
    let stop = Arc::new(AtomicBool::new(false));
    let server = services::server(&worker.configuration, worker.station.announce.clone(), stop, None)?;
    // One generator of message ids for the process.
    let server = Server { station: worker.station.clone(), ..server };
    let input = descriptors::copy(std::io::stdin().as_fd())?;
    let good = if listen::is_tcp(&input) {
        let stream = TcpStream::from(input);
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        let tls_on_connect = worker.program.invocation.message.tls_on_connect;
        let queue_only = when == When::Never;
        smtp_in::serve(
            &server,
            stream,
            Connected { peer, local, count: 1, tls_on_connect, queue_only, suppress_fixups },
        );
        true
    } else if worker.program.invocation.message.tls_on_connect {
        bail!("exim: option -tls-on-connect with -bs is known but only supported on a TCP connection yet")
    } else {
        let output = descriptors::copy(std::io::stdout().as_fd())?;
        smtp_in::serve_stdio(&server, Box::new(Pipes::new(File::from(input), File::from(output))), call)
    };
    worker.deliver(when)?;
    Ok(if good { 0 } else { 1 })
}
