//! "Message is ready": one datagram from whoever committed it to the delivery worker. Where the queue is full a counter
//! that always has room takes its place, and the worker looks at the whole spool: a lost one costs time, never mail.
//! The master holds both for as long as it runs, so that what is told while no worker listens is heard by the next.
//!
//! Requests (deliver this now, run the queue) come the same way, with a socket for the answer; they are not lost: who
//! gives one waits, and hears if it was not done.

use super::ipc;
use crate::as_user::Wire;
use crate::log::Echo;
use crate::mail::MessageId;
use crate::queue::Run;
use crate::sys::fd_passing;
use crate::upward::Announce;
use crate::wire_enum;
use bstr::BString;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a session waits for room in a full queue before it goes on without telling.
const PATIENCE_MS: u16 = 100;
/// Before an [`Request`] in its wire form; a socket for the answer comes with it.
const REQUEST: u8 = b'o';
/// The same, of somebody who wants to see what is logged meanwhile (`-v`).
const WATCHED: u8 = b'v';
/// Longest request: a queue run with two patterns from a command line.
const MAX_REQUEST: usize = 64 * 1024;
/// How long somebody who waits for an answer anyway waits for room in a full queue.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);

wire_enum! {
    /// What the delivery worker is asked to do while somebody waits for it.
    pub enum Request {
        /// `-odi`, `-odf`: deliver this message, and what bounces of it, before the caller goes on.
        Deliver(MessageId) = 1,
        /// `-odqs`: the same for local addresses only.
        DeliverLocally(MessageId) = 2,
        /// `-M`: deliver it whatever its retry times, frozen or not.
        Force(MessageId) = 3,
        /// `-Mg`: give it up, in this user's name.
        GiveUp((MessageId, BString)) = 4,
        /// `-q...`, `-R`, `-S`: run the queue.
        Run(Run) = 5,
        /// `-Mc`: deliver this message if its retry times allow.
        DeliverIfDue(MessageId) = 6,
        /// `--certificates`, and numbers: what is known of revocation lists there.
        Standings(()) = 7,
    }
}

wire_enum! {
    /// What whoever waits hears.
    pub enum Told {
        /// Words for its standard output.
        Words(BString) = 1,
        /// It is done; true: as was asked.
        Done(bool) = 2,
        /// What is logged, for its standard error (`-v`).
        Logged(BString) = 3,
    }
}

/// Where lines go that are logged while somebody waits.
pub type Logged<'a> = dyn Fn(&[u8]) -> io::Result<()> + 'a;

/// The sending end.
#[derive(Debug)]
pub struct Trigger {
    socket: OwnedFd,
    missed: OwnedFd,
}

/// The receiving end.
#[derive(Debug)]
pub struct Receiver {
    socket: OwnedFd,
    missed: OwnedFd,
}

/// Both ends.
pub fn pair() -> io::Result<(Trigger, Receiver)> {
    let (send, receive) = fd_passing::datagram_pair()?;
    let missed = OwnedFd::from(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let known = missed.try_clone()?;
    Ok((Trigger { socket: send, missed }, Receiver { socket: receive, missed: known }))
}

impl Trigger {
    /// From what [`Self::fds`] gave in another process.
    pub fn from_fds([socket, missed]: [OwnedFd; 2]) -> Self {
        Self { socket, missed }
    }
    /// To be handed to another process.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.socket.as_fd(), self.missed.as_fd()]
    }
    /// Asks for a look at the whole spool: some message could not be told of.
    pub fn look(&self) {
        // Fails only at 2^64 - 2, which stands for "look" as well.
        let _ = nix::unistd::write(&self.missed, &1u64.to_ne_bytes());
    }
    fn send(&self, bytes: &[u8]) -> bool {
        if fd_passing::try_send(&self.socket, bytes, &[]).is_ok() {
            return true;
        }
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        let _ = poll(&mut fds, PollTimeout::from(PATIENCE_MS)); // then it is tried, whatever came
        fd_passing::try_send(&self.socket, bytes, &[]).is_ok()
    }
}

impl Announce for Trigger {
    fn ready(&self, id: &MessageId) {
        if !self.send(id.as_bstr()) {
            self.look();
        }
    }
}

impl Receiver {
    /// From what [`Self::fds`] gave in another process.
    pub fn from_fds([socket, missed]: [OwnedFd; 2]) -> Self {
        Self { socket, missed }
    }
    /// To be waited for (something can be read), or handed to another process.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.socket.as_fd(), self.missed.as_fd()]
    }
    /// Whether some message could not be told of since this was last asked.
    pub fn was_missed(&self) -> bool {
        nix::unistd::read(&self.missed, &mut [0; 8]).is_ok()
    }
    /// Receives one; none for what is neither.
    pub fn hear(&self) -> io::Result<Option<Heard>> {
        let mut buffer = vec![0; MAX_REQUEST];
        let (length, descriptors) = match fd_passing::receive(&self.socket, &mut buffer) {
            Ok(received) => received,
            // Too long, or too many descriptors: no end of the worker.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(match &buffer[..length] {
            [kind @ (REQUEST | WATCHED), request @ ..] => {
                let watches = *kind == WATCHED;
                let asker = descriptors.into_iter().next().map(|socket| Asker { socket, watches });
                Request::from_wire(request)
                    .ok()
                    .zip(asker)
                    .map(|(request, asker)| Heard::Request(request, asker))
            }
            id => MessageId::parse(id).map(Heard::Ready),
        })
    }
}

impl Trigger {
    /// Hands a request to the delivery worker, and waits until it is carried out; false: not as it was asked. What it has
    /// to say goes to `words`, what is logged meanwhile to `logged` if that is wanted; a failure there ends the waiting,
    /// never the work.
    pub fn request(
        &self,
        request: &Request,
        words: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        logged: Option<&Logged>,
    ) -> io::Result<bool> {
        let socket = self.hand_over(request, logged.is_some())?;
        loop {
            match ipc::hear::<Told>(&socket)? {
                Some((Told::Words(text), _)) => words(&text)?,
                Some((Told::Logged(text), _)) => logged.map_or(Ok(()), |logged| logged(&text))?,
                Some((Told::Done(done), _)) => return Ok(done),
                None => return Err(io::Error::other("the delivery worker has ended before it was done")),
            }
        }
    }

    /// Asks something that is answered at once, in `most` bytes, or not at all.
    pub fn ask(&self, request: &Request, patience: Duration, most: usize) -> io::Result<Vec<u8>> {
        let end = Instant::now() + patience;
        let socket = self.hand_over_within(patience, request, false)?;
        let mut answer = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            super::orders::wait_readable(&socket, left)?;
            match ipc::hear::<Told>(&socket)? {
                Some((Told::Words(text), _)) if answer.len() + text.len() <= most => answer.extend(&*text),
                Some((Told::Words(_), _)) => return Err(io::Error::other("its answer is too long")),
                Some((Told::Logged(_), _)) => {}
                Some((Told::Done(true), _)) => return Ok(answer),
                Some((Told::Done(false), _)) | None => {
                    return Err(io::Error::other("it has ended, or is busy"));
                }
            }
        }
    }

    /// Hands a request over without waiting for its end.
    pub fn hand_over(&self, request: &Request, watched: bool) -> io::Result<OwnedFd> {
        self.hand_over_within(REQUEST_PATIENCE, request, watched)
    }

    fn hand_over_within(&self, patience: Duration, request: &Request, watched: bool) -> io::Result<OwnedFd> {
        let kind = if watched { WATCHED } else { REQUEST };
        let bytes = [&[kind][..], &request.to_wire()].concat();
        if bytes.len() > MAX_REQUEST {
            return Err(io::Error::other("the pattern for the queue run is too long"));
        }
        let (ours, theirs) = fd_passing::packet_pair()?;
        let end = Instant::now() + patience;
        loop {
            match fd_passing::try_send(&self.socket, &bytes, &[theirs.as_fd()]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                    let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut fds, PollTimeout::from(PATIENCE_MS)); // then it is tried, whatever came
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::other("the delivery worker is busy: try again"));
                }
                sent => return sent.map(|()| ours),
            }
        }
    }
}

/// The end that answers a request; dropped without an answer, the asker hears that it was not done.
#[derive(Debug)]
pub struct Asker {
    socket: OwnedFd,
    watches: bool,
}

impl Asker {
    /// It is done. An asker that is gone hears nothing.
    pub fn done(self, as_asked: bool) {
        let _ = ipc::say(&self.socket, &Told::Done(as_asked), &[]);
    }

    /// Shows log lines to an asker that wants to see them.
    pub fn echo(&self) -> Option<Echo> {
        let socket = self.socket.try_clone().ok().filter(|_| self.watches)?;
        Some(Echo::new(move |text| {
            for piece in text.chunks(ipc::MAX_PACKET / 2) {
                let _ = ipc::say(&socket, &Told::Logged(piece.into()), &[]); // it may be gone
            }
        }))
    }
}

impl io::Write for &Asker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = &bytes[..bytes.len().min(ipc::MAX_PACKET / 2)];
        ipc::say(&self.socket, &Told::Words(taken.into()), &[]).map(|()| taken.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the receiving end hears.
#[derive(Debug)]
pub enum Heard {
    /// This message is ready.
    Ready(MessageId),
    /// Some were not told: look at the spool.
    Scan,
    /// Somebody waits for this.
    Request(Request, Asker),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_the_queue_full_is_told_of_all_the_same() {
        let (trigger, receiver) = pair().unwrap();
        let id = MessageId::parse(b"1xVUuV-0003NN-2S").unwrap();
        assert!(!receiver.was_missed());
        while fd_passing::try_send(&trigger.socket, b"filler", &[]).is_ok() {}
        for _ in 0..3 {
            trigger.ready(&id);
        }
        assert!(receiver.was_missed());
        assert!(!receiver.was_missed());
        assert!(receiver.hear().unwrap().is_none(), "filler is no message");
        trigger.ready(&id);
        assert!(!receiver.was_missed());
    }

    #[test]
    fn what_is_no_trigger_is_passed_over() {
        let (trigger, receiver) = pair().unwrap();
        for nonsense in [vec![b'x'; MAX_REQUEST + 1], vec![REQUEST, 99], b"1xVUuV".to_vec()] {
            fd_passing::send(&trigger.socket, &nonsense, &[]).unwrap();
            assert!(receiver.hear().unwrap().is_none());
        }
    }

    #[test]
    fn who_makes_a_request_hears_its_words_and_its_end_or_that_it_was_not_done() {
        let (trigger, theirs) = pair().unwrap();
        let long = Run { from: Some(BString::from(vec![b'x'; MAX_REQUEST])), ..Run::default() };
        assert!(trigger.hand_over(&Request::Run(long), false).is_err());
        let run = Request::Run(Run { force: true, ..Run::default() });
        let given = run.clone();
        let logged = std::sync::Mutex::new(Vec::new());
        let log = |text: &[u8]| {
            logged.lock().unwrap().extend_from_slice(text);
            Ok(())
        };
        let worker = std::thread::spawn(move || {
            for answers in [true, false] {
                let Some(Heard::Request(request, asker)) = theirs.hear().unwrap() else {
                    panic!("no request")
                };
                assert_eq!(request, given);
                assert_eq!(asker.echo().is_some(), answers);
                if answers {
                    let shown = crate::log::Log::memory().shown_by(asker.echo().unwrap());
                    shown.write(crate::log::Which::Main, "line".into());
                    io::Write::write_all(&mut &asker, b"words").unwrap();
                    asker.done(true);
                }
            }
        });
        let mut said = Vec::new();
        let mut words = |text: &[u8]| {
            said.extend_from_slice(text);
            Ok(())
        };
        assert!(trigger.request(&run, &mut words, Some(&log)).unwrap());
        assert!(trigger.request(&run, &mut words, None).is_err());
        assert_eq!(logged.lock().unwrap().as_slice(), b"LOG: MAIN\n  line\n");
        assert_eq!(said, b"words");
        worker.join().unwrap();
    }
}
