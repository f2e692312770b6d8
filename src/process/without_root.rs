//! Work of a process that has root's rights which root must not do: reading what lies in another's directory, writing
//! the log, looking up users. A child with other rights does it, and is given up when it takes too long: whoever shares
//! those rights could stop it, or put a FIFO where a log should be.

use super::orders::wait_readable;
use crate::sys::identity::{Rights, become_user};
use crate::sys::secure;
use crate::sys::spawn::{self, Forked};
use nix::sys::signal::Signal;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long a child may take for work that nobody waits for: a line in a log.
const WORK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a child may take to answer a question about the configuration: users are looked up, and NSS may go to
/// the network.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer that is read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Has `work` done by a child with these rights, and waits for it. What root has open stays as it is.
pub fn as_other(rights: &Rights, work: impl FnOnce()) {
    as_other_within(WORK_PATIENCE, rights, work);
}

fn as_other_within(patience: Duration, rights: &Rights, work: impl FnOnce()) {
    // The child's end of the pipe closes with its life, which can be waited for with a time-out.
    let Ok((life, held)) = io::pipe() else { return };
    match spawn::fork() {
        Ok(Forked::Child) => {
            drop(life);
            if take(rights) {
                let _ = catch_unwind(AssertUnwindSafe(work)); // the child ends either way
            }
            spawn::exit_now(0)
        }
        Ok(Forked::Parent(child)) => {
            drop(held);
            end(child, wait_readable(&life, patience).is_ok());
        }
        Err(_) => {} // without a process it is not done
    }
}

/// Such a child holds a copy of what root had in memory: those who share its new uid must not look into it.
fn take(rights: &Rights) -> bool {
    become_user(rights).and_then(|()| secure::forbid_inspection()).is_ok()
}

/// One that is killed may be stuck in the kernel: it is not waited for (the master reaps whatever ends).
fn end(child: i32, has_ended: bool) {
    if has_ended {
        let _ = spawn::wait_for(child); // what it did is what counts
    } else {
        let _ = spawn::signal(child, Signal::SIGKILL); // gone already is as good
    }
}

/// Has a question answered by a child with these rights (without `rights`: ours): the master itself neither compiles
/// a configuration nor looks up users. What is wrong comes back as text.
pub fn ask_other(
    rights: Option<&Rights>,
    question: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let (mut ours, theirs) = io::pipe().map_err(|error| error.to_string())?;
    match spawn::fork().map_err(|error| error.to_string())? {
        Forked::Child => {
            drop(ours);
            answer(theirs, rights, question)
        }
        Forked::Parent(child) => {
            drop(theirs);
            let heard = read_answer(&mut ours);
            end(child, heard.is_ok());
            match heard.as_deref() {
                Ok("+") => Ok(()),
                Ok("") | Err(_) => Err("the configuration could not be checked".into()),
                Ok(text) => Err(text.to_owned()),
            }
        }
    }
}

/// All until the child's end.
fn read_answer(from: &mut PipeReader) -> io::Result<String> {
    let end = Instant::now() + ANSWER_PATIENCE;
    let mut text = Vec::new();
    loop {
        wait_readable(&*from, end.saturating_duration_since(Instant::now()))?;
        let mut buffer = [0; 4096];
        match from.read(&mut buffer)? {
            0 => break,
            read => text.extend_from_slice(&buffer[..read]),
        }
        if text.len() > LONGEST_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn answer(mut to: PipeWriter, rights: Option<&Rights>, question: impl FnOnce() -> Result<(), String>) -> ! {
    if rights.is_none_or(take) {
        let text = match catch_unwind(AssertUnwindSafe(question)) {
            Ok(Ok(())) => "+".to_owned(),
            Ok(Err(text)) => text,
            Err(_) => "internal error while the configuration was checked".to_owned(),
        };
        let _ = to.write_all(text.as_bytes()); // nobody else to tell
    }
    spawn::exit_now(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_never_ends_is_given_up() {
        let rights = Rights::of_caller().unwrap();
        let started = Instant::now();
        as_other_within(Duration::from_millis(100), &rights, || std::thread::sleep(Duration::from_secs(60)));
        assert!(started.elapsed() < Duration::from_secs(30));
        let (mut ours, theirs) = io::pipe().unwrap();
        as_other(&rights, || (&theirs).write_all(b"done").unwrap());
        drop(theirs);
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "done");
    }

    #[test]
    fn an_answer_comes_whole() {
        assert_eq!(ask_other(None, || Ok(())), Ok(()));
        let long = "x".repeat(10_000);
        assert_eq!(ask_other(None, || Err(long.clone())), Err(long.clone()));
    }
}
