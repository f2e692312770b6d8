//! One mail transaction in an open session: MAIL, RCPT, DATA, the message, its reply (RFC 5321 section 3.3),
//! pipelined where the peer can (RFC 2920).

use super::connection::Trouble;
use super::policy::Limits;
use super::session::Session;
use super::trouble::{Failure, Scope, exim_errno, with_codes};
use crate::mail::Reply;
use crate::transport::write_message::{BodyPart, LineForm, write_message};
use crate::transport::{Delivered, JobAddress, Outcome};
use bstr::BString;
use std::fs::File;

/// One message in the form it is sent.
pub struct Mail<'a> {
    /// Return path, without angle brackets.
    pub return_path: &'a [u8],
    /// Value of SIZE=; none: the parameter is not sent.
    pub size: Option<u64>,
    /// BODY=8BITMIME was declared when the message came in.
    pub eight_bit: bool,
    /// DSN parameters of MAIL (RFC 3461), ready-made, each with a leading space.
    pub dsn: BString,
    /// Header block with `\n` line ends and the blank line.
    pub head: &'a [u8],
    /// -D.
    pub data: &'a File,
    /// Where the body lies in it.
    pub body: Option<BodyPart>,
}

/// What a transaction came to.
pub struct Done {
    /// One for each address, in order.
    pub outcomes: Vec<Outcome>,
    /// What went wrong with the host or the message as a whole, for the log line and the retry hints.
    pub failure: Option<Failure>,
    /// The session is in step and can take another message.
    pub usable: bool,
    /// The connection is lost: not even QUIT can be said.
    pub lost: bool,
    /// The peer answered something; if not, a session that had been idle was dead already.
    pub answered: bool,
}

/// Sends one message to these addresses.
pub fn send(
    session: &mut Session,
    mail: &Mail,
    addresses: &[JobAddress],
    limits: &Limits,
    pipelining: bool,
) -> Done {
    let pipelining = pipelining && session.features.pipelining;
    let mut run =
        Run { session, mail, limits, pipelining, results: vec![None; addresses.len()], answered: false };
    match run.envelope(addresses) {
        Ok(true) => match run.message() {
            Ok(delivered) => run.finish(&Outcome::Delivered(delivered)),
            Err(stop) => run.stop(stop),
        },
        Ok(false) => run.finish(&Outcome::Deferred(crate::transport::Problem::default())),
        Err(stop) => run.stop(stop),
    }
}

/// The transaction cannot go on.
struct Stop {
    failure: Failure,
    end: End,
}

/// What is left of the session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is in step.
    InStep,
    /// The peer said that it is about to close.
    Closing,
    /// It is gone, or out of step.
    Lost,
}

struct Run<'a> {
    session: &'a mut Session,
    mail: &'a Mail<'a>,
    limits: &'a Limits,
    pipelining: bool,
    results: Vec<Option<Outcome>>,
    answered: bool,
}

impl Run<'_> {
    /// MAIL, RCPT and DATA; true if the message may follow, false if every recipient was refused.
    fn envelope(&mut self, addresses: &[JobAddress]) -> Result<bool, Stop> {
        self.session.connection.set_limit(self.limits.command);
        let mail = self.mail_line();
        let recipients: Vec<Vec<u8>> = addresses.iter().map(|address| self.rcpt_line(address)).collect();
        if self.pipelining {
            self.session.connection.put_line(&mail);
            recipients.iter().for_each(|line| self.session.connection.put_line(line));
            self.session.connection.put_line(b"DATA");
            self.flush(&mail)?;
            self.check_pipelined(&mail, &recipients)
        } else {
            self.session.connection.put_line(&mail);
            self.flush(&mail)?;
            self.check_mail(&mail)?;
            for (index, line) in recipients.iter().enumerate() {
                self.session.connection.put_line(line);
                self.flush(line)?;
                self.check_rcpt(index, line)?;
            }
            if !self.any_accepted() {
                return Ok(false);
            }
            self.session.connection.put_line(b"DATA");
            self.flush(b"DATA")?;
            self.check_data().map(|()| true)
        }
    }

    /// Reads the replies to a whole pipelined envelope, to the last one, so that the session stays in step.
    fn check_pipelined(&mut self, mail: &[u8], recipients: &[Vec<u8>]) -> Result<bool, Stop> {
        let mail_result = self.check_mail(mail);
        if let Err(stop) = &mail_result
            && stop.end != End::InStep
        {
            return mail_result.map(|()| false);
        }
        for (index, line) in recipients.iter().enumerate() {
            let result = self.check_rcpt(index, line);
            if mail_result.is_err() {
                self.results[index] = None; // an echo of the refused MAIL
            } else {
                result?;
            }
        }
        let data_result = self.check_data();
        let accepted = mail_result.is_ok() && self.any_accepted();
        if data_result.is_ok() && !accepted {
            // The peer waits for data that nobody wants: an empty message ends it (RFC 2920 section 3.1).
            self.session.connection.put_line(b".");
            self.flush(b"end of data")?;
            self.reply(Scope::Message, b"end of data")?;
        }
        mail_result?;
        if accepted { data_result.map(|()| true) } else { Ok(false) }
    }

    fn check_mail(&mut self, line: &[u8]) -> Result<(), Stop> {
        let stage = self.stage(line);
        let reply = self.reply_or(Scope::Message, Scope::Host, &stage)?;
        if reply.code / 100 == 2 {
            self.session.needs_reset = true;
            return Ok(());
        }
        Err(refused(Failure::reply(Scope::Message, &stage, &reply, exim_errno::MAIL_4XX), &reply))
    }

    fn check_rcpt(&mut self, index: usize, line: &[u8]) -> Result<(), Stop> {
        let reply = self.reply_or(Scope::Recipient, Scope::Host, line)?;
        if reply.code / 100 != 2 {
            let failure = Failure::reply(Scope::Recipient, line, &reply, exim_errno::RCPT_4XX);
            self.results[index] = Some(failure.outcome());
        }
        Ok(())
    }

    fn check_data(&mut self) -> Result<(), Stop> {
        let stage = self.stage(b"DATA");
        let reply = self.reply_or(Scope::Host, Scope::Host, &stage)?;
        if reply.code / 100 == 3 {
            return Ok(());
        }
        Err(refused(Failure::reply(Scope::Message, &stage, &reply, exim_errno::DATA_4XX), &reply))
    }

    /// The message itself, and the peer's word that it has it.
    fn message(&mut self) -> Result<Delivered, Stop> {
        self.session.connection.set_limit(self.limits.data);
        self.session.connection.count_from_here();
        self.session.connection.remark("  SMTP>> (writing message)");
        let written = write_message(
            &mut self.session.connection,
            self.mail.head,
            self.mail.data,
            self.mail.body,
            &LineForm::smtp(),
        );
        let size = match written {
            Ok(size) => size,
            Err(error) => {
                let failure = Failure::trouble(Scope::Host, b"sending data block", &Trouble::from(error));
                return Err(lost(self.with_count(failure)));
            }
        };
        self.session.connection.put_line(b".");
        let flushed = self.flush(b"sending data block");
        flushed.map_err(|stop| lost(self.with_count(stop.failure)))?;
        self.session.connection.set_limit(self.limits.last);
        let reply = self.reply(Scope::Message, b"end of data");
        let reply = reply.map_err(|stop| lost(self.with_count(stop.failure)))?;
        self.session.messages += 1;
        self.session.needs_reset = false;
        if reply.code / 100 != 2 {
            let failure = Failure::reply(Scope::Message, b"end of data", &reply, exim_errno::DATA_4XX);
            return Err(refused(failure, &reply));
        }
        Ok(Delivered {
            confirmation: with_codes(&reply),
            size,
            pipelined: self.pipelining,
            tls: self.session.tls.clone(),
            interface: self.session.interface,
            continued: self.session.messages > 1,
            ..Delivered::default()
        })
    }

    /// A time-out within the message says how far it came.
    fn with_count(&self, mut failure: Failure) -> Failure {
        if failure.problem.errno == libc::ETIMEDOUT {
            let count = format!(" ({} bytes written)", self.session.connection.written());
            failure.problem.text.extend_from_slice(count.as_bytes());
        }
        failure
    }

    fn mail_line(&self) -> Vec<u8> {
        let mut line = b"MAIL FROM:<".to_vec();
        line.extend_from_slice(self.mail.return_path);
        line.push(b'>');
        if let Some(size) = self.mail.size.filter(|_| self.session.features.size) {
            line.extend_from_slice(format!(" SIZE={size}").as_bytes());
        }
        if self.mail.eight_bit && self.session.features.eight_bit {
            line.extend_from_slice(b" BODY=8BITMIME");
        }
        if self.session.features.dsn {
            line.extend_from_slice(&self.mail.dsn);
        }
        line
    }

    fn rcpt_line(&self, address: &JobAddress) -> Vec<u8> {
        let mut line = b"RCPT TO:<".to_vec();
        line.extend_from_slice(&address.address.to_bytes());
        line.push(b'>');
        if self.session.features.dsn {
            line.extend_from_slice(&notify_parameters(address));
        }
        line
    }

    /// How the log names a command that was sent with others.
    fn stage(&self, line: &[u8]) -> Vec<u8> {
        if self.pipelining { [b"pipelined ", line].concat() } else { line.to_vec() }
    }

    fn flush(&mut self, stage: &[u8]) -> Result<(), Stop> {
        self.session
            .connection
            .flush_out()
            .map_err(|trouble| lost(Failure::trouble(Scope::Host, stage, &trouble)))
    }

    /// A reply; none counts for the same scope, whether late or lost.
    fn reply(&mut self, scope: Scope, stage: &[u8]) -> Result<Reply, Stop> {
        self.reply_or(scope, scope, stage)
    }

    fn reply_or(&mut self, late: Scope, closed: Scope, stage: &[u8]) -> Result<Reply, Stop> {
        let reply = self.session.connection.read_reply().map_err(|trouble| {
            let scope = if matches!(trouble, Trouble::TimedOut) { late } else { closed };
            lost(Failure::trouble(scope, stage, &trouble))
        })?;
        self.answered = true;
        Ok(reply)
    }

    fn any_accepted(&self) -> bool {
        self.results.iter().any(Option::is_none)
    }

    fn stop(self, stop: Stop) -> Done {
        let outcome = stop.failure.outcome();
        let (usable, lost) = (stop.end == End::InStep, stop.end == End::Lost);
        Done { failure: Some(stop.failure), usable, lost, ..self.finish(&outcome) }
    }

    /// Every address without a result of its own gets this one.
    fn finish(self, rest: &Outcome) -> Done {
        let answered = self.answered;
        let outcomes =
            self.results.into_iter().map(|result| result.unwrap_or_else(|| rest.clone())).collect();
        Done { outcomes, failure: None, usable: true, lost: false, answered }
    }
}

/// The connection is gone.
fn lost(failure: Failure) -> Stop {
    Stop { failure, end: End::Lost }
}

/// A refusal in step; 421 means that the peer is about to close (RFC 5321 section 3.8).
fn refused(failure: Failure, reply: &Reply) -> Stop {
    Stop { failure, end: if reply.code == 421 { End::Closing } else { End::InStep } }
}

fn notify_parameters(address: &JobAddress) -> Vec<u8> {
    const NAMES: [(u32, &str); 4] = [(1, "NEVER"), (2, "SUCCESS"), (4, "FAILURE"), (8, "DELAY")];
    let wanted: Vec<&str> =
        NAMES.iter().filter(|(bit, _)| address.dsn_flags & bit != 0).map(|(_, name)| *name).collect();
    let mut text = Vec::new();
    if !wanted.is_empty() {
        text.extend_from_slice(format!(" NOTIFY={}", wanted.join(",")).as_bytes());
    }
    if let Some(orcpt) = &address.orcpt {
        text.extend_from_slice(b" ORCPT=");
        text.extend_from_slice(orcpt);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::connection::{Connection, Stream};
    use super::super::session::Features;
    use super::*;
    use crate::mail::Address;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread::JoinHandle;
    use std::time::Duration;

    /// A server that gives these replies in order, one for each command line, and returns what it heard.
    fn serve(replies: &'static [&'static str]) -> (TcpStream, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
            let (mut heard, mut in_data) = (Vec::new(), false);
            for reply in replies {
                loop {
                    let Some(Ok(line)) = lines.next() else { return heard };
                    heard.push(line.clone());
                    if !in_data || line == "." {
                        break;
                    }
                }
                in_data = reply.starts_with("354");
                if *reply == "CLOSE" {
                    return heard;
                }
                write!(socket, "{reply}\r\n").unwrap();
            }
            heard
        });
        (client, server)
    }

    fn run(replies: &'static [&'static str], recipients: usize, pipelining: bool) -> (Done, Vec<String>) {
        let (client, server) = serve(replies);
        let mut connection = Connection::new(Stream::Clear(client));
        connection.set_limit(Duration::from_secs(2));
        let features = Features { pipelining, size: true, ..Features::default() };
        let mut session =
            Session { connection, features, tls: None, interface: None, messages: 0, needs_reset: false };
        let mut data = tempfile::tempfile().unwrap();
        data.write_all(b"body\n.dot\n").unwrap();
        let mail = Mail {
            return_path: b"s@x",
            size: Some(100),
            eight_bit: false,
            dsn: BString::default(),
            head: b"A: b\n\n",
            data: &data,
            body: Some(BodyPart { offset: 0, size: 10 }),
        };
        let addresses: Vec<JobAddress> = (0..recipients).map(address).collect();
        let limit = Duration::from_secs(2);
        let limits = Limits { connect: limit, command: limit, data: limit, last: limit };
        let done = send(&mut session, &mail, &addresses, &limits, true);
        drop(session);
        (done, server.join().unwrap())
    }

    fn address(index: usize) -> JobAddress {
        JobAddress {
            address: Address::new(format!("r{index}"), "d"),
            variables: Default::default(),
            domain_data: None,
            local_part_data: None,
            redirected: None,
            orcpt: None,
            dsn_flags: 0,
        }
    }

    fn kinds(done: &Done) -> String {
        let letter = |outcome: &Outcome| match outcome {
            Outcome::Delivered(_) => 'd',
            Outcome::Deferred(_) => 'w',
            Outcome::Failed(_) => 'f',
        };
        done.outcomes.iter().map(letter).collect()
    }

    #[test]
    fn each_recipient_has_its_own_result_and_the_rest_is_delivered() {
        for pipelining in [false, true] {
            let replies = &["250 ok", "451 later", "550 no", "250 ok", "354 go", "250 done id=1"];
            let (done, heard) = run(replies, 3, pipelining);
            assert_eq!((kinds(&done).as_str(), done.usable), ("wfd", true));
            assert_eq!(heard[0], "MAIL FROM:<s@x> SIZE=100");
            assert_eq!(&heard[5..], ["A: b", "", "body", "..dot", "."]);
        }
    }

    #[test]
    fn data_that_nobody_wants_is_ended_empty_and_the_session_stays_in_step() {
        let (done, heard) = run(&["250 ok", "550 no", "354 go", "554 no valid recipients"], 1, true);
        assert_eq!((kinds(&done).as_str(), done.usable), ("f", true));
        assert_eq!(heard.last().unwrap(), ".");
    }

    #[test]
    fn without_pipelining_data_is_not_said_when_every_recipient_was_refused() {
        let (done, heard) = run(&["250 ok", "550 no", "451 later"], 2, false);
        assert_eq!(kinds(&done), "fw");
        assert_eq!(heard.len(), 3);
    }

    #[test]
    fn a_refused_mail_fails_all_and_its_echoes_are_read_past() {
        let (done, _) = run(&["550 never", "503 sequence", "503 sequence", "503 sequence"], 2, true);
        assert_eq!((kinds(&done).as_str(), done.usable), ("ff", true));
        let failure = done.failure.unwrap();
        assert_eq!(
            failure.problem.text,
            "SMTP error from remote mail server after pipelined MAIL FROM:<s@x> SIZE=100: 550 never"
        );
    }

    #[test]
    fn a_connection_lost_after_the_last_dot_is_never_counted_as_delivered() {
        let (done, _) = run(&["250 ok", "250 ok", "354 go", "CLOSE"], 1, true);
        assert_eq!((kinds(&done).as_str(), done.usable), ("w", false));
        let failure = done.failure.unwrap();
        assert_eq!(failure.scope, Scope::Message);
        assert_eq!(failure.problem.text, "Remote host closed connection in response to end of data");
    }

    #[test]
    fn a_421_ends_the_session() {
        let (done, _) = run(&["421 closing"], 1, false);
        assert_eq!((kinds(&done).as_str(), done.usable), ("w", false));
    }
}
