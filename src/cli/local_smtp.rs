//! `-bs`: SMTP on standard input and output, for a local caller or (a TCP socket there) for inetd.

use super::Program;
use super::caller;
use super::delivery::{When, Worker};
use super::submit;
use crate::process::services;
use crate::smtp_in::{self, Connected, LocalCall, stream::Pipes};
use crate::sys::{descriptors, listen};
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Serves one session; gives the exit code.
pub fn run(program: Program) -> anyhow::Result<i32> {
    let who = caller::caller(&program.asked())?;
    let when = submit::when(&program.asked());
    let mut origin = caller::origin(&program.asked(), &who.login);
    let named = program.standing.trusted && origin.host.is_some();
    if named {
        // Who calls us has not authenticated for the host that it speaks for.
        let given = &program.invocation.message;
        origin.authenticated_id.clone_from(&given.authenticated_id);
        origin.authenticated_sender.clone_from(&given.authenticated_sender);
    }
    let worker = Worker::start(program)?;
    let stop = Arc::new(AtomicBool::new(false));
    let server = services::server(&worker.configuration, worker.station.announce.clone(), stop)?;
    let input = descriptors::copy(std::io::stdin().as_fd())?;
    let good = if listen::is_tcp(&input) {
        let stream = TcpStream::from(input);
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        let tls_on_connect = worker.program.invocation.message.tls_on_connect;
        let queue_only = when == When::Never;
        smtp_in::serve(&server, stream, Connected { peer, local, count: 1, tls_on_connect, queue_only });
        true
    } else {
        let output = descriptors::copy(std::io::stdout().as_fd())?;
        let call = LocalCall {
            ident: origin.ident.clone().unwrap_or_else(|| who.login.clone()),
            caller: who,
            origin: named.then_some(origin),
            queue_only: when == When::Never,
        };
        smtp_in::serve_stdio(&server, Box::new(Pipes::new(File::from(input), File::from(output))), call)
    };
    worker.deliver(when)?;
    Ok(if good { 0 } else { 1 })
}
