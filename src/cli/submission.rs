//! A call without rights: handed to the daemon over the submission socket, and served there.
//!
//! The daemon parses the arguments itself and believes nothing but the uid that the kernel tells. Messages
//! (`-bm`, `-t`), SMTP (`-bs`), listings (`-bp`) and what is done to messages (`-Mrm` ...) come this way.
//! The process that serves submissions delivers nothing itself: `-q`, `-qf`, `-qff`, `-M` and `-Mc` are passed on to the
//! delivery worker, and the caller does not wait for them. What cannot be passed on (`-qq`, `-R`, `-Mg` ...) is refused.

use super::args::{self, Action, CalledAs, Invocation, MessageAction, QueueRun};
use super::caller;
use super::delivery::When;
use super::standard_input::TimedInput;
use super::submit::{self, Intake};
use super::trust;
use super::{Asked, Program, queue_commands, start};
use crate::as_user::{Answer, AsUser, Identity, Order};
use crate::deliver::Env;
use crate::load::Configuration;
use crate::process::submit_socket::{self, Call, Caller, Calls, Input};
use crate::process::{services, spool_directory};
use crate::queue;
use crate::receive::{OwnMessages, Station};
use crate::smtp_in::stream::Transport;
use crate::smtp_in::{self, LocalCall, Server};
use anyhow::anyhow;
use bstr::{BString, ByteSlice};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

/// Whether this process cannot do it itself: it is not root, and the spool is another's.
pub fn is_needed(program: &Program) -> bool {
    let needs_spool = matches!(
        program.invocation.action,
        Action::Receive
            | Action::Smtp
            | Action::BatchSmtp
            | Action::QueueRun(_)
            | Action::ListQueue(_)
            | Action::Messages(_)
    );
    needs_spool && !spool_directory::is_ours(&program.globals)
}

/// Hands the call over; gives the daemon's exit code.
pub fn hand_over(program: &Program, call: Call) -> anyhow::Result<i32> {
    let spool = &program.globals.spool_directory;
    // With other macros the daemon would do something else than was asked for.
    let same = program.invocation.macros.is_empty();
    match if same { submit_socket::call(spool, &call)? } else { None } {
        Some(code) => Ok(code),
        None => Err(anyhow!(
            "oxim: the spool {} belongs to another user, and no daemon of this build takes submissions there",
            spool.display()
        )),
    }
}

/// The daemon's side.
pub fn server(configuration: &Configuration, station: &Station) -> io::Result<Arc<dyn Calls>> {
    let submitter = Arc::new(services::submitter(station)?);
    let stop = Arc::new(AtomicBool::new(false));
    let smtp = services::server(configuration, station.announce.clone(), stop)?;
    Ok(Arc::new(SubmissionServer {
        configuration: configuration.clone(),
        env: services::environment(configuration, station, submitter.clone(), Arc::new(NoOrders)),
        station: station.clone(),
        submitter,
        smtp,
    }))
}

struct SubmissionServer {
    configuration: Configuration,
    station: Station,
    submitter: Arc<OwnMessages>,
    smtp: Server,
    /// For what is done to messages of the queue; nothing is delivered with it.
    env: Env,
}

impl Calls for SubmissionServer {
    fn serve(&self, caller: Arc<Caller>) {
        let code = match self.act(&caller) {
            Ok(code) => code,
            Err(error) => {
                let _ = caller.error(format!("{error:#}\n").as_bytes()); // it may be gone
                1
            }
        };
        let _ = caller.exit(code); // it may be gone
    }
    fn log_panic(&self, text: &str) {
        let line = format!("internal error in a submission: {text}");
        self.station.log.panic(line.as_bytes().as_bstr());
    }
}

impl SubmissionServer {
    fn act(&self, caller: &Arc<Caller>) -> anyhow::Result<i32> {
        let invocation = args::parse(&caller.call.name, &caller.call.arguments)?;
        let globals = &self.configuration.globals;
        let standing = start::standing_of(caller.uid, caller.gid, globals)?;
        trust::check_action(&invocation, &standing, start::relaxed(&globals.main))
            .map_err(|text| anyhow!(text))?;
        let asked = Asked { invocation: &invocation, globals, standing: &standing };
        match invocation.action {
            Action::Receive => self.receive(caller, asked),
            Action::Smtp => self.smtp(caller, asked),
            Action::ListQueue(listing) => {
                let mut out = BufWriter::new(Output(caller));
                let listing = queue_commands::meant_listing(listing);
                queue::list(&self.env.layout, listing, SystemTime::now(), &mut out)?;
                out.flush()?;
                Ok(0)
            }
            Action::QueueRun(ref run) if is_plain(run) => {
                self.told(self.station.announce.run_queue(run.force, run.force_frozen))
            }
            Action::Messages(ref command) if command.what == MessageAction::Deliver => {
                self.told(command.ids.iter().all(|id| self.station.announce.force(id)))
            }
            Action::Messages(ref command) if command.what == MessageAction::DeliverIfDue => {
                command.ids.iter().for_each(|id| self.station.announce.ready(id));
                Ok(0)
            }
            Action::Messages(ref command) if !delivers(command.what) => {
                let mut out = BufWriter::new(Output(caller));
                let code = queue_commands::act_on_messages(&self.env, &asked, command, &mut out)?;
                out.flush()?;
                Ok(code)
            }
            _ => Err(anyhow!(
                "oxim: {} is known but not supported yet over the submission socket",
                words(&invocation, &caller.call)
            )),
        }
    }

    /// The delivery worker was asked; the caller does not wait for what comes of it.
    fn told(&self, told: bool) -> anyhow::Result<i32> {
        if told { Ok(0) } else { Err(anyhow!("oxim: the delivery worker is busy: try again")) }
    }

    fn receive(&self, caller: &Caller, asked: Asked) -> anyhow::Result<i32> {
        let intake = Intake {
            asked,
            configuration: &self.configuration,
            station: &self.station,
            submitter: &self.submitter,
        };
        let reader = RefCell::new(caller.input()?);
        let wait = |time: Duration| match reader.borrow().wait(time)? {
            true => Ok(()),
            false => Err(io::ErrorKind::TimedOut.into()),
        };
        let mut input = TimedInput::new(Shared(&reader), wait);
        let taken = submit::take_in(&intake, &mut input, &mut Errors(caller))?;
        Ok(taken.exit_code)
    }

    fn smtp(&self, caller: &Arc<Caller>, asked: Asked) -> anyhow::Result<i32> {
        let who = caller::caller(&asked)?;
        let origin = caller::origin(&asked, &who.login);
        let call = LocalCall {
            ident: origin.ident.clone().unwrap_or_else(|| who.login.clone()),
            caller: who,
            origin: (asked.standing.trusted && origin.host.is_some()).then_some(origin),
            queue_only: submit::when(&asked) == When::Never,
        };
        let conversation = Conversation { caller: caller.clone(), input: caller.input()? };
        let good = smtp_in::serve_stdio(&self.smtp, Box::new(conversation), call);
        Ok(if good { 0 } else { 1 })
    }
}

/// SMTP with a caller.
struct Conversation {
    caller: Arc<Caller>,
    input: Input,
}

impl Transport for Conversation {
    fn read(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<usize> {
        if !self.input.wait(time)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.input.read(buffer)
    }
    fn write_all(&mut self, bytes: &[u8], _: Duration) -> io::Result<()> {
        // A caller that reads nothing blocks its own thread; it has put no message in.
        self.caller.output(bytes)
    }
    fn wait_input(&mut self, time: Duration) -> io::Result<bool> {
        self.input.wait(time)
    }
}

/// The option that asked for it.
fn words(invocation: &Invocation, call: &Call) -> BString {
    match invocation.called_as {
        CalledAs::Sendmail => call.arguments.first().cloned().unwrap_or_default(),
        _ => call.name.clone(),
    }
}

/// `-Mg` sends a bounce: that is a delivery.
fn delivers(what: MessageAction) -> bool {
    what == MessageAction::GiveUp
}

/// A run over the whole queue: what the trigger of the delivery worker can say.
fn is_plain(run: &QueueRun) -> bool {
    let plain = QueueRun { force: run.force, force_frozen: run.force_frozen, ..QueueRun::default() };
    *run == plain
}

/// No order is given from here.
struct NoOrders;

impl AsUser for NoOrders {
    fn carry_out(&self, _: &Identity, _: &Order, _: &[&File]) -> io::Result<Answer> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// The caller's standard output.
struct Output<'c>(&'c Caller);

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.output(bytes).map(|()| bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The caller's standard error.
struct Errors<'c>(&'c Caller);

impl Write for Errors<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.error(bytes).map(|()| bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The caller's standard input, read and waited for in turn.
struct Shared<'c>(&'c RefCell<Input>);

impl Read for Shared<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}
