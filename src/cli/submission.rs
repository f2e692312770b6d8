//! A call without rights: handed to the daemon over the submission socket, and served there.
//!
//! The daemon parses the arguments itself and believes nothing but the uid that the kernel tells. Messages
//! (`-bm`, `-t`), SMTP (`-bs`), listings (`-bp`) and what is done to messages (`-Mrm` ...) come this way.
//! The process that serves submissions delivers nothing itself: what is to be delivered while the caller waits (`-odi`,
//! `-q...`, `-M`, `-Mc`, `-Mg`) is asked of the delivery worker. A caller that goes away stops none of it.
//!
//! Where no daemon runs a message is left in `drop/` (`process::drop_box`), and taken in from there the same way.

use super::args::{self, Action, CalledAs, ErrorMode, Invocation, MessageCommand};
use super::caller;
use super::delivery::{Ready, When};
use super::standard_input::TimedInput;
use super::submit::{self, Intake};
use super::trust::{self, Standing};
use super::{Asked, Program, certificates, queue_commands, start};
use crate::as_user::{Answer, AsUser, Identity, Order};
use crate::deliver::Env;
use crate::expand::context::Globals;
use crate::load::Configuration;
use crate::log::Echo;
use crate::mail::MessageId;
use crate::process::drop_box::{self, Dropped, Fate};
use crate::process::openmetrics::Numbers;
use crate::process::submit_socket::{self, Call, Caller, Calls, Input};
use crate::process::trigger::{Logged, Request, Trigger};
use crate::process::{services, spool_directory};
use crate::queue::{self, Act};
use crate::receive::{OwnMessages, Station};
use crate::smtp_in::stream::Transport;
use crate::smtp_in::{self, Server};
use crate::sys::listen;
use anyhow::{anyhow, bail};
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
    check_possible(&program.invocation)?;
    if program.invocation.action == Action::Smtp && listen::is_tcp(std::io::stdin()) {
        // The daemon would take the peer for a local caller.
        bail!("oxim: -bs with a TCP connection on standard input needs the rights of the spool's owner");
    }
    match submit_socket::call(spool, &call)? {
        Some(code) => Ok(code),
        None if leave_for_daemon(program, &call)? => Ok(0),
        None => Err(anyhow!(
            "oxim: the spool {} belongs to another user, and no daemon of this build takes submissions there",
            spool.display()
        )),
    }
}

/// Where no daemon runs a message is left in `drop/`, if this program was given the right to do so: not one of another
/// configuration, and nothing that somebody waits for but a message.
fn leave_for_daemon(program: &Program, call: &Call) -> anyhow::Result<bool> {
    if program.invocation.action != Action::Receive || program.invocation.config.is_some() {
        return Ok(false);
    }
    // What is wrong with the call itself is told while somebody hears it.
    let asked = program.asked();
    caller::sender(&asked, &caller::caller(&asked)?.login)?;
    let most = submit::longest_message(&program.globals);
    let spool = &program.globals.spool_directory;
    let mut input = std::io::stdin().lock();
    let left = drop_box::leave(spool, program.drop_group.as_ref(), call, &mut input, most)
        .map_err(|error| anyhow!("oxim: no daemon runs, and the message cannot be left for it: {error}"))?;
    if left && program.invocation.verbose {
        eprintln!("no daemon runs: the message is left for it in {}", drop_box::path(spool).display());
    }
    Ok(left)
}

/// The daemon's side.
pub fn server(
    configuration: &Configuration,
    station: &Station,
    trigger: &Arc<Trigger>,
    numbers: &Arc<Numbers>,
) -> io::Result<Arc<dyn Calls>> {
    let submitter = Arc::new(services::submitter(station)?);
    let stop = Arc::new(AtomicBool::new(false));
    let smtp = services::server(configuration, station.announce.clone(), stop, None)?;
    // One generator of message ids for the process.
    let smtp = Server { station: station.clone(), ..smtp };
    Ok(Arc::new(SubmissionServer {
        configuration: configuration.clone(),
        env: services::environment(configuration, station, submitter.clone(), Arc::new(NoOrders)),
        station: station.clone(),
        submitter,
        smtp,
        trigger: trigger.clone(),
        numbers: numbers.clone(),
    }))
}

#[derive(Clone)]
struct SubmissionServer {
    configuration: Configuration,
    station: Station,
    submitter: Arc<OwnMessages>,
    smtp: Server,
    trigger: Arc<Trigger>,
    /// Of the sessions of this process.
    numbers: Arc<Numbers>,
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
    fn take_dropped(&self, dropped: Dropped) -> Fate {
        self.take_in_dropped(dropped).unwrap_or_else(|error| Fate::Later(format!("{error:#}")))
    }
    fn longest_message(&self) -> u64 {
        submit::longest_message(&self.configuration.globals)
    }
    fn log_bad(&self, text: &str) {
        self.station.log.panic(text.as_bytes().as_bstr());
    }
    fn log_panic(&self, text: &str) {
        let line = format!("internal error in a submission: {text}");
        self.station.log.panic(line.as_bytes().as_bstr());
    }
}

impl SubmissionServer {
    fn act(&self, caller: &Arc<Caller>) -> anyhow::Result<i32> {
        let invocation = args::parse(&caller.call.name, &caller.call.arguments)?;
        super::check_built(&invocation)?;
        check_possible(&invocation)?;
        check_configuration(caller.call.configuration.as_ref(), &self.configuration.globals)?;
        if invocation.verbose || invocation.message.smtp_timeout.is_some() {
            return self.for_call(caller, &invocation)?.serve_call(caller, &invocation);
        }
        self.serve_call(caller, &invocation)
    }

    /// The same services as this call wants them: what is logged is shown to the caller, other time-outs hold.
    fn for_call(&self, caller: &Arc<Caller>, invocation: &Invocation) -> io::Result<Self> {
        let mut globals = (*self.configuration.globals).clone();
        if invocation.verbose {
            let hears = caller.clone();
            // A caller that is gone sees nothing; its message goes its way.
            let echo = Echo::new(move |text| drop(hears.error(text)));
            globals.log = Arc::new(globals.log.shown_by(echo));
        }
        if let Some(time) = invocation.message.smtp_timeout {
            globals.main.overrule("smtp_receive_timeout", &format!("{}s", time.as_secs()));
        }
        let globals = Arc::new(globals);
        let station = Station { globals: globals.clone(), log: globals.log.clone(), ..self.station.clone() };
        let submitter = Arc::new(services::submitter(&station)?);
        Ok(Self {
            configuration: Configuration { globals: globals.clone(), ..self.configuration.clone() },
            env: Env { globals, submit: submitter.clone(), ..self.env.clone() },
            smtp: Server { station: station.clone(), ..self.smtp.clone() },
            station,
            submitter,
            trigger: self.trigger.clone(),
            numbers: self.numbers.clone(),
        })
    }

    fn serve_call(&self, caller: &Arc<Caller>, invocation: &Invocation) -> anyhow::Result<i32> {
        let globals = &self.configuration.globals;
        let standing = start::standing_of(caller.uid, caller.gid, globals)?;
        trust::check_action(invocation, &standing, start::relaxed(&globals.main))
            .map_err(|text| anyhow!(text))?;
        let asked = Asked { invocation, globals, standing: &standing };
        match invocation.action {
            Action::Receive => self.receive(caller, asked),
            Action::Smtp => self.smtp(caller, asked),
            Action::ListQueue(listing) => {
                let mut out = BufWriter::new(Output(caller));
                queue::list(&self.env.layout, listing, SystemTime::now(), &mut out)?;
                out.flush()?;
                Ok(0)
            }
            Action::Certificates { json } => {
                let all = self.numbers.standings(SystemTime::now());
                let mut out = BufWriter::new(Output(caller));
                match json {
                    true => certificates::write_json(&all, &mut out)?,
                    false => certificates::write_table(&all, &mut out)?,
                }
                out.flush()?;
                Ok(0)
            }
            Action::QueueRun(ref run) => self.request(&asked, caller, &Request::Run(run.clone())),
            Action::Messages(ref command) => self.act_on_messages(caller, &asked, command),
            _ => Err(anyhow!(
                "oxim: {} is known but not supported yet over the submission socket",
                words(invocation, &caller.call)
            )),
        }
    }

    /// A message that was left while no daemon ran. Nobody hears what is wrong with it: that goes by mail.
    fn take_in_dropped(&self, dropped: Dropped) -> anyhow::Result<Fate> {
        let globals = &self.configuration.globals;
        let mut invocation = match args::parse(&dropped.call.name, &dropped.call.arguments) {
            Ok(invocation) => invocation,
            Err(error) => return Ok(Fate::Bad(error.to_string())),
        };
        let possible = super::check_built(&invocation).and_then(|()| check_possible(&invocation));
        if let Err(error) = possible {
            return Ok(Fate::Bad(error.to_string()));
        }
        if invocation.action != Action::Receive || invocation.config.is_some() {
            return Ok(Fate::Bad("it is no message".into()));
        }
        let Some(owner) = globals.users.by_uid(dropped.uid)? else {
            return Ok(Fate::Bad(format!("there is no user of uid {}", dropped.uid)));
        };
        // Not the group of the file, which is oxim's: it would make anybody an administrator.
        let standing = Standing { admin: false, ..start::standing_of(dropped.uid, owner.gid, globals)? };
        invocation.verbose = false;
        if invocation.message.errors == ErrorMode::Print {
            invocation.message.errors = ErrorMode::Mail;
        }
        let asked = Asked { invocation: &invocation, globals, standing: &standing };
        let allowed = trust::check_action(&invocation, &standing, start::relaxed(&globals.main));
        let allowed = allowed
            .and_then(|()| caller::sender(&asked, &owner.name).map(drop).map_err(|error| error.to_string()));
        if let Err(why) = allowed {
            return Ok(Fate::Bad(why));
        }
        let intake = Intake {
            asked,
            configuration: &self.configuration,
            station: &self.station,
            submitter: &self.submitter,
        };
        let mut input = TimedInput::new(dropped.input, |_| Ok(()));
        let mut words = Vec::new();
        let taken = submit::take_in(&intake, &mut input, &mut words)?;
        Ok(match taken.is_to_be_tried_again {
            true => Fate::Later(words.trim().as_bstr().to_string()),
            false => Fate::Done,
        })
    }

    /// Has the delivery worker do it, waits for its end, and gives the exit code.
    fn request(&self, asked: &Asked, caller: &Caller, request: &Request) -> anyhow::Result<i32> {
        let logged = |text: &[u8]| caller.error(text);
        let logged: Option<&Logged> = if asked.invocation.verbose { Some(&logged) } else { None };
        let done = self.trigger.request(request, &mut |words| caller.output(words), logged);
        done.map(|done| i32::from(!done)).map_err(|error| anyhow!("oxim: {error}"))
    }

    fn act_on_messages(
        &self,
        caller: &Caller,
        asked: &Asked,
        command: &MessageCommand,
    ) -> anyhow::Result<i32> {
        let request: Box<dyn Fn(&MessageId) -> Request> = match command.what {
            Act::Deliver => Box::new(|id| Request::Force(id.clone())),
            Act::DeliverIfDue => Box::new(|id| Request::DeliverIfDue(id.clone())),
            Act::GiveUp => {
                let by = caller::caller(asked)?.login;
                Box::new(move |id| Request::GiveUp((id.clone(), by.clone())))
            }
            _ => {
                let mut out = BufWriter::new(Output(caller));
                let code = queue_commands::act_on_messages(&self.env, asked, command, &mut out)?;
                out.flush()?;
                return Ok(code);
            }
        };
        let codes = command.ids.iter().map(|id| self.request(asked, caller, &request(id)));
        codes.reduce(|one, other| Ok(one?.max(other?))).unwrap_or(Ok(0))
    }

    /// Where messages of this call are taken in, and what keeps their ids if the call says when they are delivered.
    fn station_for(&self, when: When, verbose: bool) -> (Station, Option<Arc<Ready>>) {
        match when {
            When::Never => (self.station.clone(), None),
            When::Soon if !verbose => (self.station.clone(), None),
            When::Soon | When::Now | When::LocalNow | When::LocalSoon => {
                let ready = Arc::new(Ready::default());
                (Station { announce: ready.clone(), ..self.station.clone() }, Some(ready))
            }
        }
    }

    /// Has what this call took in delivered, and waits if the call does, or wants to see what is logged.
    fn deliver(&self, caller: &Caller, ready: &Ready, when: When, verbose: bool) {
        let logged = |text: &[u8]| caller.error(text);
        let logged: Option<&Logged> = if verbose { Some(&logged) } else { None };
        for id in ready.take() {
            let request = match when {
                When::Now | When::Soon | When::Never => Request::Deliver(id.clone()),
                When::LocalNow | When::LocalSoon => Request::DeliverLocally(id.clone()),
            };
            let given = match when {
                When::LocalSoon if !verbose => self.trigger.hand_over(&request, false).map(drop),
                _ => self.trigger.request(&request, &mut |_| Ok(()), logged).map(drop),
            };
            if given.is_err() {
                // It lies in the spool: whoever delivers now and then takes it.
                self.station.announce.ready(&id);
            }
        }
    }

    fn receive(&self, caller: &Caller, asked: Asked) -> anyhow::Result<i32> {
        let when = submit::when(&asked);
        let verbose = asked.invocation.verbose;
        let (station, ready) = self.station_for(when, verbose);
        let intake = Intake {
            asked,
            configuration: &self.configuration,
            station: &station,
            submitter: &self.submitter,
        };
        let reader = RefCell::new(caller.input()?);
        let wait = |time: Duration| match reader.borrow().wait(time)? {
            true => Ok(()),
            false => Err(io::ErrorKind::TimedOut.into()),
        };
        let mut input = TimedInput::new(Shared(&reader), wait);
        let taken = submit::take_in(&intake, &mut input, &mut Errors(caller))?;
        if let Some(ready) = ready {
            self.deliver(caller, &ready, when, verbose);
        }
        Ok(taken.exit_code)
    }

    fn smtp(&self, caller: &Arc<Caller>, asked: Asked) -> anyhow::Result<i32> {
        let who = caller::caller(&asked)?;
        let when = submit::when(&asked);
        let call = caller::local_call(&asked, who, when == When::Never);
        let conversation = Conversation { caller: caller.clone(), input: caller.input()? };
        let (station, ready) = self.station_for(when, asked.invocation.verbose);
        let server = Server { station, ..self.smtp.clone() };
        let good = smtp_in::serve_stdio(&server, Box::new(conversation), call);
        if let Some(ready) = ready {
            self.deliver(caller, &ready, when, asked.invocation.verbose);
        }
        Ok(if good { 0 } else { 1 })
    }
}

/// What `-C` names must be what this daemon runs with: anything else would do what nobody asked for.
fn check_configuration(named: Option<&BString>, globals: &Globals) -> anyhow::Result<()> {
    let ours = &globals.config_file;
    let same = |named: &BString| {
        let named = named.to_path_lossy();
        *named == **ours
            || std::fs::canonicalize(&named).is_ok_and(|real| Some(real) == ours.canonicalize().ok())
    };
    match named.filter(|named| !same(named)) {
        None => Ok(()),
        Some(other) => Err(anyhow!(
            "oxim: the daemon of this spool runs with {}: without rights of its own, this program cannot use \
             {other} for it (root can)",
            ours.display()
        )),
    }
}

/// What only a process of the caller's own could do.
pub fn check_possible(invocation: &Invocation) -> anyhow::Result<()> {
    let refused = [
        ("-d", invocation.debug.is_some()),
        ("-D", !invocation.macros.is_empty()),
        ("-tls-on-connect", invocation.message.tls_on_connect),
    ];
    match refused.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((option, _)) => {
            Err(anyhow!("oxim: {option} is known but not supported yet over the submission socket"))
        }
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
