//! What is asked of the queue: `-q`, `-M...`, `-bp`.

use super::args::MessageCommand;
use super::caller;
use super::delivery::{When, Worker};
use super::{Asked, Program};
use crate::deliver::Env;
use crate::process::services;
use crate::queue::{self, Listing, Run, Who};
use bstr::ByteSlice;
use std::io::Write;
use std::time::SystemTime;

/// One queue run, here and now.
pub fn run_queue(program: Program, run: &Run) -> anyhow::Result<i32> {
    let worker = Worker::start(program)?;
    queue::run(worker.env(), run);
    worker.deliver(When::Now)
}

/// `-bp` and its family.
pub fn list(program: &Program, listing: Listing) -> anyhow::Result<i32> {
    program.become_oxim()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    queue::list(&services::layout(&program.globals), listing, SystemTime::now(), &mut out)?;
    out.flush()?;
    Ok(0)
}

/// `-M...`: each message in turn; the exit code is 1 if any could not be treated.
pub fn messages(program: Program, command: &MessageCommand) -> anyhow::Result<i32> {
    let worker = Worker::start(program)?;
    let mut out = std::io::stdout().lock();
    let code = act_on_messages(worker.env(), &worker.program.asked(), command, &mut out)?;
    out.flush()?;
    drop(out);
    worker.deliver(When::Now)?;
    Ok(code)
}

/// The same for a call of this process and for one over the submission socket.
pub fn act_on_messages(
    env: &Env,
    asked: &Asked,
    command: &MessageCommand,
    out: &mut dyn Write,
) -> anyhow::Result<i32> {
    let by = caller::caller(asked)?.login;
    let who = Who { login: by.as_bstr(), uid: asked.standing.uid, admin: asked.standing.admin };
    let mut code = 0;
    for id in &command.ids {
        if !queue::act(env, command.what, id, &command.addresses, who, out)? {
            code = 1;
        }
    }
    Ok(code)
}
