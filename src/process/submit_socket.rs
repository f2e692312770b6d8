//! The submission socket: how a program without rights hands its call to the daemon.
//!
//! The kernel tells who calls (SO_PEERCRED); arguments and standard input come in packets, output and exit code
//! go back the same way. Nothing that comes in is trusted, and every wait has an end.

use super::drop_box::{Dropped, Fate};
use super::ipc;
use super::orders::wait_readable;
use super::parcel;
use super::submit_line::{Entry, Line, Shares, Turn};
use super::thread_pool;
use crate::as_user::Wire;
use crate::sys::{fd_passing, limits, listen};
use crate::{wire_enum, wire_struct};
use bstr::BString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls at once: each has a thread. A third of them may be one user's, a tenth is kept for root and oxim.
pub const MOST_CALLS: usize = 200;
/// Calls that wait for their turn (or a quarter of the files that may be open): each is an open connection.
const MOST_WAITING: usize = 2000;
/// The exit code of a call that found no room (EX_TEMPFAIL of sysexits.h).
const TRY_LATER: i32 = 75;
/// Bytes of all arguments of a call: what the kernel lets a program be started with, by default.
const MOST_ARGUMENTS: usize = 2 * 1024 * 1024;
/// Bytes of standard input in one packet.
const CHUNK: usize = 2048;
/// A caller that says nothing for so long is given up (`receive_timeout` may end it earlier).
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Answers that nobody reads hold a thread no longer than this.
const SEND_PATIENCE: Duration = Duration::from_secs(60);
/// A caller that has heard its exit code closes at once, whatever of its input is still on the way.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// The build id and the arguments come at once.
const BUILD_PATIENCE: Duration = Duration::from_secs(10);

wire_struct! {
    /// What was called.
    pub struct Call {
        /// `argv[0]`
        pub name: BString,
        /// The arguments.
        pub arguments: Vec<BString>,
        /// The configuration file, if the call names one (`-C`): the daemon has read another one or this.
        pub configuration: Option<BString>,
    }
}

wire_enum! {
    /// Caller to daemon, after the build id and the [`Call`].
    pub enum FromCaller {
        /// Some of standard input.
        Input(BString) = 1,
        /// Its end.
        End(()) = 2,
    }
}

wire_enum! {
    /// Daemon to caller.
    pub enum ToCaller {
        /// For standard output.
        Output(BString) = 1,
        /// For standard error.
        Error(BString) = 2,
        /// The end: the exit code.
        Exit(i32) = 3,
    }
}

/// Where the socket of a spool is.
pub fn path(spool_directory: &Path) -> PathBuf {
    spool_directory.join("submit")
}

/// One call as the daemon has it.
#[derive(Debug)]
pub struct Caller {
    socket: OwnedFd,
    /// The caller's uid and gid, as the kernel tells them.
    pub uid: u32,
    /// See above.
    pub gid: u32,
    /// What was called.
    pub call: Call,
}

impl Caller {
    /// Its standard input.
    pub fn input(&self) -> io::Result<Input> {
        Ok(Input { socket: self.socket.try_clone()?, rest: Vec::new(), at: 0, ended: false })
    }
    /// For its standard output. A caller that is gone hears nothing.
    pub fn output(&self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(CHUNK).try_for_each(|chunk| ipc::say(&self.socket, &ToCaller::Output(chunk.into()), &[]))
    }
    /// For its standard error.
    pub fn error(&self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(CHUNK).try_for_each(|chunk| ipc::say(&self.socket, &ToCaller::Error(chunk.into()), &[]))
    }
    /// The end.
    pub fn exit(&self, code: i32) -> io::Result<()> {
        ipc::say(&self.socket, &ToCaller::Exit(code), &[])
    }
}

/// Standard input of a caller.
#[derive(Debug)]
pub struct Input {
    socket: OwnedFd,
    rest: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Input {
    /// True if there is input, or its end, within this time.
    pub fn wait(&self, time: Duration) -> io::Result<bool> {
        if self.ended || self.at < self.rest.len() {
            return Ok(true);
        }
        match wait_readable(&self.socket, time) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() && !self.ended {
            if !self.wait(PATIENCE)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match ipc::hear::<FromCaller>(&self.socket)? {
                Some((FromCaller::Input(bytes), _)) => (self.rest, self.at) = (bytes.into(), 0),
                Some((FromCaller::End(()), _)) => self.ended = true,
                // Killed before it said everything: half a message is none.
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let taken = buffer.len().min(self.rest.len() - self.at);
        buffer[..taken].copy_from_slice(&self.rest[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

/// Who serves calls: parses the arguments and does what they say, with the rights of an ordinary caller.
pub trait Calls: Send + Sync {
    /// One call, in a thread of its own.
    fn serve(&self, caller: Arc<Caller>);
    /// A call that was left in `drop/` while no daemon ran.
    fn take_dropped(&self, dropped: Dropped) -> Fate;
    /// The longest message that is taken in, in bytes.
    fn longest_message(&self) -> u64;
    /// Something in `drop/` is not as it is to be: for the main and the panic log.
    fn log_bad(&self, text: &str);
    /// A thread panicked with this text: for the panic log.
    fn log_panic(&self, text: &str);
}

/// Listens at the socket in a thread of its own, for the life of the process.
pub fn serve(spool_directory: &Path, calls: Arc<dyn Calls>) -> io::Result<()> {
    let path = path(spool_directory);
    let socket = listen::unix_packets(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let waiting = usize::try_from(limits::open_files()? / 4).unwrap_or(usize::MAX).min(MOST_WAITING);
    let shares = Shares {
        all: MOST_CALLS,
        kept: MOST_CALLS / 10,
        of_uid: MOST_CALLS / 3,
        waiting_of_uid: waiting / 2,
        waiting,
    };
    let line = Line::new(shares, nix::unistd::geteuid().as_raw());
    let witness = calls.clone();
    let door = Arc::new(Door { line, calls });
    let accept = move || {
        loop {
            match listen::accept(&socket) {
                Ok(connection) => door.enter(connection),
                // Out of descriptors: not to spin.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    };
    thread_pool::start_vital("submit", accept, move |text| witness.log_panic(text))
}

/// Lets calls in, each at its turn.
struct Door {
    line: Arc<Line<OwnedFd>>,
    calls: Arc<dyn Calls>,
}

impl Door {
    /// Waits for nobody: a connection that cannot even be greeted is dropped.
    fn enter(self: &Arc<Self>, connection: OwnedFd) {
        let (Ok((_, uid, _)), Ok(greeted)) = (fd_passing::peer(&connection), connection.try_clone()) else {
            return;
        };
        // A caller that is gone already hears nothing; its turn comes and ends at once.
        let _ = match self.line.enter(uid, connection) {
            Entry::Now(turn, connection) => {
                self.start(turn, connection);
                greet(&greeted)
            }
            Entry::Waits => greet(&greeted),
            Entry::Refused(connection) => refuse(&connection, uid),
        };
        while let Some((turn, connection)) = self.line.next() {
            self.start(turn, connection);
        }
    }

    fn start(self: &Arc<Self>, turn: Turn<OwnedFd>, connection: OwnedFd) {
        let door = self.clone();
        let work = move || {
            let mut next = Some((turn, connection));
            // A thread goes on with whoever is next: none needs to be made.
            while let Some((turn, connection)) = next {
                door.serve(connection);
                drop(turn);
                next = door.line.next();
            }
        };
        if let Err(error) = std::thread::Builder::new().name("call".into()).spawn(work) {
            self.calls.log_panic(&format!("cannot start a thread for a submission: {error}"));
        }
    }

    fn serve(&self, connection: OwnedFd) {
        let work = || {
            let closing = connection.try_clone();
            if let Ok(caller) = hear_call(connection) {
                self.calls.serve(Arc::new(caller));
            }
            if let Ok(closing) = closing {
                drain(&closing);
            }
        };
        if let Err(cause) = catch_unwind(AssertUnwindSafe(work)) {
            self.calls.log_panic(&crate::log::panic_text(&*cause));
        }
    }
}

/// The first word, which tells the caller that it will be served.
fn greet(socket: &OwnedFd) -> io::Result<()> {
    fd_passing::try_send(socket, &ipc::build_id().to_wire(), &[])
}

/// Says why and ends. Nothing is heard any more, so that nothing unread takes our words away.
fn refuse(socket: &OwnedFd, uid: u32) -> io::Result<()> {
    use nix::sys::socket::{Shutdown, shutdown};
    use std::os::fd::AsRawFd;
    shutdown(socket.as_raw_fd(), Shutdown::Read)?;
    greet(socket)?;
    let words = format!("oxim: too many submissions of uid {uid} at once: try again later\n");
    fd_passing::try_send(socket, &ToCaller::Error(words.into()).to_wire(), &[])?;
    fd_passing::try_send(socket, &ToCaller::Exit(TRY_LATER).to_wire(), &[])
}

/// Reads what the caller still says until it closes: a close with input unread would take our last words away.
fn drain(socket: &OwnedFd) {
    let end = Instant::now() + CLOSE_PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let heard = wait_readable(socket, left).and_then(|()| ipc::hear::<FromCaller>(socket));
        if left.is_zero() || !matches!(heard, Ok(Some(_))) {
            return;
        }
    }
}

fn hear_call(socket: OwnedFd) -> io::Result<Caller> {
    let (_, uid, gid) = fd_passing::peer(&socket)?;
    listen::limit_sending(&socket, SEND_PATIENCE)?;
    wait_readable(&socket, BUILD_PATIENCE)?;
    ipc::check_build_id(&socket)?;
    let Some((call, _)) = parcel::receive::<Call>(&socket, MOST_ARGUMENTS, BUILD_PATIENCE)? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    Ok(Caller { socket, uid, gid, call })
}

/// The caller's side: hands the call over and copies input and output. `None`: there is no daemon of this build.
pub fn call(spool_directory: &Path, call: &Call) -> io::Result<Option<i32>> {
    let Ok(socket) = listen::connect_packets(&path(spool_directory)) else { return Ok(None) };
    wait_readable(&socket, BUILD_PATIENCE)?;
    if ipc::check_build_id(&socket).is_err() {
        return Ok(None);
    }
    // A daemon that cannot take the call hears nothing, and says why.
    let said = ipc::say_build_id(&socket).and_then(|()| parcel::send(&socket, call, &[]));
    if said.is_ok() {
        let sending = socket.try_clone()?;
        std::thread::Builder::new().name("input".into()).spawn(move || send_input(&sending))?;
    }
    loop {
        match ipc::hear::<ToCaller>(&socket)? {
            Some((ToCaller::Output(bytes), _)) => {
                let mut out = io::stdout().lock();
                io::Write::write_all(&mut out, &bytes)?;
                io::Write::flush(&mut out)?;
            }
            Some((ToCaller::Error(bytes), _)) => io::Write::write_all(&mut io::stderr().lock(), &bytes)?,
            Some((ToCaller::Exit(code), _)) => return Ok(Some(code)),
            None => {
                return Err(said.err().unwrap_or_else(|| {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon has ended")
                }));
            }
        }
    }
}

fn send_input(socket: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0; CHUNK];
    loop {
        match io::stdin().lock().read(&mut buffer) {
            Ok(0) => return ipc::say(socket, &FromCaller::End(()), &[]),
            Ok(read) => ipc::say(socket, &FromCaller::Input(buffer[..read].into()), &[])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Not the end: the daemon sees that it was cut off.
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;
    impl Calls for Echo {
        fn serve(&self, caller: Arc<Caller>) {
            let mut text = Vec::new();
            let whole = caller.input().unwrap().read_to_end(&mut text).is_ok();
            let words = format!("{} {:?} {whole} {}", caller.uid, caller.call.arguments, text.len());
            caller.output(words.as_bytes()).unwrap();
            caller.exit(7).unwrap();
        }
        fn take_dropped(&self, _: Dropped) -> Fate {
            Fate::Done
        }
        fn longest_message(&self) -> u64 {
            0
        }
        fn log_bad(&self, _: &str) {}
        fn log_panic(&self, text: &str) {
            panic!("{text}");
        }
    }

    fn connect(directory: &Path) -> OwnedFd {
        let socket = listen::connect_packets(&path(directory)).unwrap();
        ipc::check_build_id(&socket).unwrap();
        socket
    }

    #[test]
    fn who_finds_no_room_hears_so_and_who_waits_is_served_when_another_ends() {
        let directory = tempfile::tempdir().unwrap();
        let shares = Shares { all: 1, kept: 0, of_uid: 1, waiting_of_uid: 1, waiting: 1 };
        let door = Arc::new(Door { line: Line::new(shares, 0), calls: Arc::new(Echo) });
        let socket = listen::unix_packets(&path(directory.path())).unwrap();
        std::thread::spawn(move || {
            while let Ok(connection) = listen::accept(&socket) {
                door.enter(connection);
            }
        });
        let (first, second, third) =
            (connect(directory.path()), connect(directory.path()), connect(directory.path()));
        assert!(ipc::say_build_id(&third).is_err());
        let (answer, _) = ipc::hear::<ToCaller>(&third).unwrap().unwrap();
        assert!(matches!(answer, ToCaller::Error(words) if words.starts_with(b"oxim: too many submissions")));
        let (answer, _) = ipc::hear::<ToCaller>(&third).unwrap().unwrap();
        assert_eq!(answer, ToCaller::Exit(TRY_LATER));

        drop(first);
        ipc::say_build_id(&second).unwrap();
        let call = Call { name: "oxim".into(), ..Call::default() };
        parcel::send(&second, &call, &[]).unwrap();
        ipc::say(&second, &FromCaller::End(()), &[]).unwrap();
        assert!(matches!(ipc::hear::<ToCaller>(&second).unwrap(), Some((ToCaller::Output(_), _))));
    }

    #[test]
    fn a_call_is_known_by_its_uid_and_its_input_arrives_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        serve(directory.path(), Arc::new(Echo)).unwrap();
        let uid = nix::unistd::getuid();
        for (end, length) in [(true, 5000), (false, 10)] {
            let socket = connect(directory.path());
            ipc::say_build_id(&socket).unwrap();
            let call = Call { name: "oxim".into(), arguments: vec!["a@b".into()], configuration: None };
            parcel::send(&socket, &call, &[]).unwrap();
            for chunk in vec![b'x'; length].chunks(CHUNK) {
                ipc::say(&socket, &FromCaller::Input(chunk.into()), &[]).unwrap();
            }
            if !end {
                continue; // the connection closes in the middle
            }
            ipc::say(&socket, &FromCaller::End(()), &[]).unwrap();
            let (answer, _) = ipc::hear::<ToCaller>(&socket).unwrap().unwrap();
            assert_eq!(answer, ToCaller::Output(format!("{uid} [\"a@b\"] true 5000").into()));
            let (answer, _) = ipc::hear::<ToCaller>(&socket).unwrap().unwrap();
            assert_eq!(answer, ToCaller::Exit(7));
        }
    }
}
