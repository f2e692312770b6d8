//! What is on the disk before what: a power cut loses all that was not flushed, and no kill can show that. The order
//! of the system calls can.

use super::client::Client;
use super::trace::{Trace, poll};
use super::tree::worker_id;
use super::{Workshop, spool_files, world_with};

const CONFIGURATION: &str = "@PRELUDE@\nacl_smtp_rcpt = accept\nbegin routers\n\
    mailbox:\n  driver = accept\n  local_parts = carl\n  transport = mbox\n@ROUTER_LOCAL@\n\
    begin transports\n@TRANSPORT_MAILDIR@\n\
    mbox:\n  driver = appendfile\n  file = @DIR@/mail/boxes/$local_part_data\n  user = @USER@\n";

/// Pairs of steps: the first has ended when the second begins. A step is its system call and what it is about.
type Step = (&'static str, &'static str);
const ORDER: &[(Step, Step)] = &[
    // reception
    (("fdatasync", "-D>"), ("rename", "/hdr.")),
    (("fdatasync", "/hdr."), ("rename", "/hdr.")),
    (("rename", "/hdr."), ("fsync", "/spool/input>")),
    (("fsync", "/spool/input>"), ("sendto", "250 OK id=")),
    // a Maildir that was not there, and a message in it
    (("mkdir", "/mail/ann/new"), ("fsync", "/mail/ann>")),
    (("fsync", "/mail/ann>"), ("unlink", "-H")),
    (("fsync", "/mail/ann/tmp/"), ("renameat2", "/mail/ann/new/")),
    (("renameat2", "/mail/ann/new/"), ("fsync", "/mail/ann/new>")),
    (("fsync", "/mail/ann/new>"), ("unlink", "-H")),
    // a mailbox file that was not there
    (("fsync", "/mail/boxes/carl>"), ("unlink", "-H")),
    (("fsync", "/mail/boxes>"), ("unlink", "-H")),
    // the first of two deliveries is noted before the second begins; then the message goes
    (("fdatasync", "-J>"), ("unlink", "-H")),
    (("unlink", "-H"), ("unlink", "-J")),
    (("unlink", "-J"), ("unlink", "-D")),
];

/// One message to a Maildir and a mailbox file, traced from its reception to its end.
pub fn order_of_flushes(workshop: &Workshop, _long: bool) -> Result<String, String> {
    let mut world = world_with(workshop, "order", CONFIGURATION)?;
    world.start_daemon(&[])?;
    let master = world.daemon_id().unwrap_or(0);
    let processes = [master, worker_id(Some(master), "smtp")?, worker_id(Some(master), "delivery")?];
    let calls = "trace=fsync,fdatasync,rename,renameat2,link,mkdir,unlink,sendto,openat";
    let trace =
        Trace::attach(&world.directory.join("run/trace"), &processes, &["-y", "-s", "300", "-e", calls])?;
    let reply = Client::connect(world.port)?.send(&["ann", "carl"], "token-order-end", 30)?;
    if !reply.starts_with("250") {
        return Err(format!("the answer is {reply:?}"));
    }
    poll(20, "the delivery", || spool_files(&world).is_empty())?;
    let text = trace.text();
    drop(trace);
    world.stop_daemon()?;
    let lines: Vec<&str> = text.lines().collect();
    for (first, second) in ORDER {
        let found = span(&lines, first).zip(span(&lines, second));
        let ((_, ended), (began, _)) =
            found.ok_or_else(|| format!("{first:?} or {second:?} is not there:\n{text}"))?;
        if ended > began {
            return Err(format!("{first:?} has not ended when {second:?} begins:\n{text}"));
        }
    }
    check_journal(&lines).map(|()| format!("  {} pairs of steps are in order\n", ORDER.len() + 1))
}

/// The journal is on the disk after one mailbox and before the other is opened.
fn check_journal(lines: &[&str]) -> Result<(), String> {
    let noted = span(lines, &("fdatasync", "-J>")).ok_or("no journal")?;
    let maildir = (span(lines, &("openat", "/mail/ann/tmp/")), span(lines, &("fsync", "/mail/ann/new>")));
    let mbox = (span(lines, &("openat", "/mail/boxes/carl\"")), span(lines, &("fsync", "/mail/boxes/carl>")));
    let is_between = |first: &(Option<Span>, Option<Span>), second: &(Option<Span>, Option<Span>)| {
        first.1.is_some_and(|(_, end)| end < noted.0) && second.0.is_some_and(|(begin, _)| noted.1 < begin)
    };
    if is_between(&maildir, &mbox) || is_between(&mbox, &maildir) {
        return Ok(());
    }
    Err(format!("the journal is not between the deliveries:\n{}", lines.join("\n")))
}

/// The lines on which a call begins and ends.
type Span = (usize, usize);

/// The last successful call of this name about this.
fn span(lines: &[&str], (call, about): &Step) -> Option<Span> {
    let name = format!(" {call}(");
    let begin = lines.iter().rposition(|line| {
        line.contains(&name) && line.contains(about) && (!line.contains(" = -1 ") || *call == "unlink")
    })?;
    if !lines[begin].contains("<unfinished ...>") {
        return Some((begin, begin));
    }
    let process = lines[begin].split(' ').next()?;
    let resumed = format!("<... {call} resumed>");
    let end = lines[begin..].iter().position(|line| line.starts_with(process) && line.contains(&resumed))?;
    Some((begin, begin + end))
}
