//! The delivery worker: hears which messages are ready, delivers each in a thread of a bounded pool, and runs the
//! queue at intervals.
//!
//! Privileges: runs as oxim; may ask the master for user children, and delivers nothing locally itself.

use super::submit_socket::MOST_CALLS;
use super::thread_pool::{self, Pool};
use super::trigger::{self, Asker, Heard, Request};
use crate::log::Echo;
use crate::mail::MessageId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Messages that wait for a thread; beyond it they are left to a look at the spool.
const MOST_WAITING: usize = 20_000;
/// Requests that wait for a thread: as many as there are calls of the submission socket that wait for an answer.
const MOST_REQUESTS: usize = 2 * MOST_CALLS;
/// Questions that are answered at once, out of memory, though all threads for deliveries wait for slow hosts.
const MOST_QUESTIONS: usize = 4;
/// Queue runs at once that somebody waits for: `queue_run_max` is for those of the daemon itself.
const MOST_ASKED_RUNS: usize = 50;

/// What the worker hands messages to.
pub trait Deliveries: Send + Sync {
    /// Delivers one message that is ready, if nobody else has it.
    fn deliver(&self, id: &MessageId);
    /// Carries out what somebody waits for; what there is to say goes to `words`, what is logged to `echo`. False: not
    /// as it was asked.
    fn carry_out(&self, request: &Request, words: &mut dyn io::Write, echo: Option<Echo>) -> bool;
    /// Runs the queue once as `-q<time>` says.
    fn run_queue(&self);
    /// What was never tried: some messages may not have been told.
    fn look_at_spool(&self) -> Vec<MessageId>;
    /// The process ends: connections that are kept are closed.
    fn end(&self);
    /// A thread panicked with this text: for the panic log.
    fn log_panic(&self, text: &str);
}

/// How much is done at once, and how often the queue is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Deliveries at once.
    pub threads: usize,
    /// Queue runs at once (`queue_run_max`; 0: no limit).
    pub queue_runs: usize,
    /// The worker before this one died: what it had been told of is looked for in the spool.
    pub after_death: bool,
    /// `-q<time>`
    pub interval: Option<Duration>,
}

/// Why the worker came back to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The control socket has something to say.
    Control,
}

/// What is done next by a thread of the pool.
enum Job {
    Ready(MessageId),
    Scan,
    Request(Request, Asker),
}

/// Messages that were told of and are not yet taken.
#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<MessageId>,
    requests: VecDeque<(Request, Asker)>,
    known: HashSet<MessageId>,
    scan: bool,
    /// A thread looks at the spool: more may come.
    scanning: bool,
    /// One was taken and its thread has not begun.
    handing: bool,
    closed: bool,
}

/// The worker.
pub struct DeliveryWorker {
    deliveries: Arc<dyn Deliveries>,
    settings: Settings,
    pool: Pool,
    runs: Pool,
    asked_runs: Pool,
    questions: Pool,
    waiting: Arc<(Mutex<Waiting>, Condvar)>,
    next_run: Option<Instant>,
}

impl Waiting {
    /// What finds no room is looked for in the spool when there is room again.
    fn add(&mut self, id: MessageId) {
        if self.queue.len() >= MOST_WAITING {
            self.scan = true;
        } else if self.known.insert(id.clone()) {
            self.queue.push_back(id);
        }
    }
}

/// Held by the thread that looks at the spool.
struct Scanning(Arc<(Mutex<Waiting>, Condvar)>);

impl Scanning {
    fn of(job: &Job, waiting: &Arc<(Mutex<Waiting>, Condvar)>) -> Option<Self> {
        matches!(job, Job::Scan).then(|| Self(waiting.clone()))
    }
    fn found(self, ids: Vec<MessageId>) {
        let mut state = lock(&self.0.0);
        ids.into_iter().for_each(|id| state.add(id));
    }
}

impl Drop for Scanning {
    fn drop(&mut self) {
        lock(&self.0.0).scanning = false;
        self.0.1.notify_all();
    }
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    // Each change below is whole before anything could panic.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DeliveryWorker {
    /// A worker; its dispatching thread starts at once.
    pub fn new(deliveries: Arc<dyn Deliveries>, settings: Settings) -> io::Result<Self> {
        let runs = if settings.queue_runs == 0 { usize::MAX } else { settings.queue_runs };
        let after_death = settings.after_death;
        let next_run = settings.interval.map(|_| Instant::now());
        let worker = Self {
            deliveries,
            pool: Pool::new(settings.threads.max(1)),
            runs: Pool::new(runs),
            asked_runs: Pool::new(MOST_ASKED_RUNS),
            questions: Pool::new(MOST_QUESTIONS),
            settings,
            // Whatever a worker that died knew of and did not begin lies in the spool.
            waiting: Arc::new((
                Mutex::new(Waiting { scan: after_death, ..Waiting::default() }),
                Condvar::new(),
            )),
            next_run,
        };
        worker.start_dispatcher()?;
        Ok(worker)
    }

    /// Hears triggers and runs the queue until something can be read from `control`.
    pub fn work_until(&mut self, control: &OwnedFd, trigger: &trigger::Receiver) -> io::Result<Woken> {
        loop {
            self.run_queue_if_due();
            let timeout = match self.next_run {
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
                }
                None => PollTimeout::NONE,
            };
            let [told, missed] = trigger.fds();
            let mut fds = [
                PollFd::new(control.as_fd(), PollFlags::POLLIN),
                PollFd::new(told, PollFlags::POLLIN),
                PollFd::new(missed, PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            let [control_speaks, trigger_speaks, was_missed] = fds.map(|fd| fd.any().unwrap_or(true));
            if trigger_speaks && let Some(heard) = trigger.hear()? {
                self.told(heard);
            }
            if was_missed && trigger.was_missed() {
                self.told(Heard::Scan);
            }
            if control_speaks {
                return Ok(Woken::Control);
            }
        }
    }

    /// Hears nothing more, delivers what it was told of before, and waits until all has ended, at most this long; true
    /// if all has. What is left then lies in the spool for the next queue run.
    pub fn finish(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let left = || end.saturating_duration_since(Instant::now());
        let (waiting, condition) = &*self.waiting;
        let mut state = lock(waiting);
        state.closed = true;
        condition.notify_all();
        while (state.handing || state.scan || state.scanning || !state.queue.is_empty()) && !left().is_zero()
        {
            let woken = condition.wait_timeout(state, left().min(Duration::from_millis(50)));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.queue.clear();
        state.requests.clear();
        state.scan = false;
        drop(state);
        condition.notify_all();
        let idle =
            self.pool.wait_idle(left()) && self.runs.wait_idle(left()) && self.asked_runs.wait_idle(left());
        self.deliveries.end();
        idle
    }

    fn told(&self, heard: Heard) {
        let (waiting, condition) = &*self.waiting;
        let mut state = lock(waiting);
        match heard {
            Heard::Ready(id) => state.add(id),
            Heard::Scan => state.scan = true,
            Heard::Request(request @ Request::Run(_), asker) => {
                drop(state);
                let busy = "too many queue runs at once: try again\n";
                return self.start_asked(&self.asked_runs, "queue-run", busy, request, asker);
            }
            Heard::Request(request @ Request::Standings(()), asker) => {
                drop(state);
                return self.start_asked(&self.questions, "question", "", request, asker);
            }
            // Not all who ask wait for the end, and each asker is an open descriptor: beyond it a look at the spool
            // finds the message, and whoever does wait hears that it was not done.
            Heard::Request(..) if state.requests.len() >= MOST_REQUESTS => state.scan = true,
            Heard::Request(request, asker) => state.requests.push_back((request, asker)),
        }
        drop(state);
        condition.notify_all();
    }

    /// One thread that waits for a message and for a place, so that the one that hears never waits.
    fn start_dispatcher(&self) -> io::Result<()> {
        let (waiting, pool, deliveries) = (self.waiting.clone(), self.pool.clone(), self.deliveries.clone());
        let witness = self.deliveries.clone();
        let dispatch = move || {
            while let Some(job) = next_job(&waiting) {
                let place = pool.place();
                let (worker, witness) = (deliveries.clone(), deliveries.clone());
                let scanning = Scanning::of(&job, &waiting);
                let work = move || match job {
                    Job::Ready(id) => worker.deliver(&id),
                    // One after the other they would all wait for the slowest host.
                    Job::Scan => {
                        let found = worker.look_at_spool();
                        if let Some(scanning) = scanning {
                            scanning.found(found);
                        }
                    }
                    Job::Request(request, asker) => {
                        let done = worker.carry_out(&request, &mut &asker, asker.echo());
                        asker.done(done);
                    }
                };
                let started =
                    thread_pool::start(place, "delivery", work, move |text| witness.log_panic(text));
                if let Err(error) = started {
                    // No thread: the message stays in the spool for a later look.
                    deliveries.log_panic(&format!("cannot start a thread for a delivery: {error}"));
                    lock(&waiting.0).scan = true;
                    std::thread::sleep(Duration::from_secs(1));
                }
                lock(&waiting.0).handing = false;
                waiting.1.notify_all();
            }
        };
        thread_pool::start_vital("dispatch", dispatch, move |text| witness.log_panic(text))
    }

    fn run_queue_if_due(&mut self) {
        let (Some(interval), Some(due)) = (self.settings.interval, self.next_run) else { return };
        if due > Instant::now() {
            return;
        }
        self.next_run = Some(Instant::now() + interval);
        self.start_queue_run();
    }

    /// In a thread of its own, unless `queue_run_max` are busy.
    fn start_queue_run(&self) {
        let Some(place) = self.runs.try_place() else { return };
        let (runner, witness) = (self.deliveries.clone(), self.deliveries.clone());
        let started = thread_pool::start(
            place,
            "queue-run",
            move || runner.run_queue(),
            move |text| witness.log_panic(text),
        );
        if let Err(error) = started {
            self.deliveries.log_panic(&format!("cannot start a thread for a queue run: {error}"));
        }
    }

    /// In a thread of its own; too many at once are refused, and the asker hears it.
    fn start_asked(&self, pool: &Pool, name: &str, busy: &str, request: Request, asker: Asker) {
        let Some(place) = pool.try_place() else {
            let _ = io::Write::write_all(&mut &asker, busy.as_bytes());
            return asker.done(false);
        };
        let (runner, witness) = (self.deliveries.clone(), self.deliveries.clone());
        let work = move || {
            let done = runner.carry_out(&request, &mut &asker, asker.echo());
            asker.done(done);
        };
        let started = thread_pool::start(place, name, work, move |text| witness.log_panic(text));
        if let Err(error) = started {
            self.deliveries.log_panic(&format!("cannot start a thread ({name}): {error}"));
        }
    }
}

/// Waits for what is to be done next; none at the end.
fn next_job(shared: &(Mutex<Waiting>, Condvar)) -> Option<Job> {
    let (waiting, condition) = shared;
    let mut state = lock(waiting);
    loop {
        let job = if let Some((request, asker)) = state.requests.pop_front() {
            Some(Job::Request(request, asker))
        } else if let Some(id) = state.queue.pop_front() {
            state.known.remove(&id);
            Some(Job::Ready(id))
        } else {
            let begins = state.scan && !state.scanning;
            if begins {
                (state.scan, state.scanning) = (false, true);
            }
            begins.then_some(Job::Scan)
        };
        if job.is_some() {
            state.handing = true;
            return job;
        }
        if state.closed && !state.scanning {
            return None;
        }
        state = condition.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ipc;
    use crate::process::trigger::Told;
    use crate::sys::fd_passing;
    use crate::upward::Announce;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Sender, channel};

    struct Recorder(Mutex<Sender<String>>);

    impl Recorder {
        fn say(&self, text: String) {
            let _ = self.0.lock().unwrap().send(text);
        }
    }

    impl Deliveries for Recorder {
        fn deliver(&self, id: &MessageId) {
            assert!(!id.as_str().ends_with("00"), "bad id");
            self.say(id.to_string());
        }
        fn carry_out(&self, request: &Request, _: &mut dyn io::Write, _: Option<Echo>) -> bool {
            self.say(format!("{request:?}"));
            true
        }
        fn run_queue(&self) {
            self.say("run".into());
        }
        fn look_at_spool(&self) -> Vec<MessageId> {
            self.say("scan".into());
            let ids = ["1xVUuV-0003NN-2V", "1xVUuV-0003NN-2W"];
            ids.iter().map(|id| MessageId::parse(id.as_bytes()).unwrap()).collect()
        }
        fn end(&self) {}
        fn log_panic(&self, text: &str) {
            self.say(format!("panic: {text}"));
        }
    }

    #[test]
    fn a_worker_that_ends_delivers_everything_it_was_told_of() {
        struct Slow(AtomicUsize);
        impl Deliveries for Slow {
            fn deliver(&self, _: &MessageId) {
                std::thread::sleep(Duration::from_millis(2));
                self.0.fetch_add(1, Ordering::Relaxed);
            }
            fn carry_out(&self, _: &Request, _: &mut dyn io::Write, _: Option<Echo>) -> bool {
                true
            }
            fn end(&self) {}
            fn run_queue(&self) {}
            fn look_at_spool(&self) -> Vec<MessageId> {
                std::thread::sleep(Duration::from_millis(5));
                self.0.fetch_add(1000, Ordering::Relaxed);
                vec![MessageId::parse(b"1xVUuV-0003NN-zz").unwrap()]
            }
            fn log_panic(&self, _: &str) {}
        }
        for told in 1..=20 {
            let done = Arc::new(Slow(AtomicUsize::new(0)));
            let settings = Settings { after_death: false, threads: 1, queue_runs: 1, interval: None };
            let worker = DeliveryWorker::new(done.clone(), settings).unwrap();
            for number in 0..told {
                let id = MessageId::parse(format!("1xVUuV-0003NN-{number:02}").as_bytes()).unwrap();
                worker.told(Heard::Ready(id));
            }
            worker.told(Heard::Scan);
            assert!(worker.finish(Duration::from_secs(10)));
            assert_eq!(done.0.load(Ordering::Relaxed), 1001 + told);
        }
    }

    #[test]
    fn messages_are_delivered_and_the_queue_is_run_until_the_control_socket_speaks() {
        let (told, heard) = channel();
        let recorder = Arc::new(Recorder(Mutex::new(told)));
        let settings = Settings {
            after_death: false,
            threads: 1,
            queue_runs: 1,
            interval: Some(Duration::from_secs(3600)),
        };
        let mut worker = DeliveryWorker::new(recorder, settings).unwrap();
        let (trigger, receive) = trigger::pair().unwrap();
        let (stop, control) = fd_passing::packet_pair().unwrap();
        for id in ["1xVUuV-0003NN-2S", "1xVUuV-0003NN-00", "1xVUuV-0003NN-2T"] {
            trigger.ready(&MessageId::parse(id.as_bytes()).unwrap());
        }
        let id = MessageId::parse(b"1xVUuV-0003NN-2U").unwrap();
        let answer = trigger.hand_over(&Request::Force(id), false).unwrap();
        let thread = std::thread::spawn(move || {
            worker.work_until(&control, &receive).unwrap();
            worker.finish(Duration::from_secs(5))
        });
        let mut words: Vec<String> = (0..5).map(|_| heard.recv().unwrap()).collect();
        words.sort();
        assert_eq!(
            words,
            ["1xVUuV-0003NN-2S", "1xVUuV-0003NN-2T", "Force(1xVUuV-0003NN-2U)", "panic: bad id", "run"]
        );
        let (answer, _) = ipc::hear::<Told>(&answer).unwrap().unwrap();
        assert_eq!(answer, Told::Done(true));
        fd_passing::send(&stop, b"x", &[]).unwrap();
        assert!(thread.join().unwrap());
    }

    #[test]
    fn what_a_worker_that_died_knew_of_is_looked_for_and_delivered_side_by_side() {
        let (told, heard) = channel();
        let recorder = Arc::new(Recorder(Mutex::new(told)));
        let settings = Settings { after_death: true, threads: 2, queue_runs: 1, interval: None };
        let worker = DeliveryWorker::new(recorder, settings).unwrap();
        // told to end at once, it delivers them all the same
        assert!(worker.finish(Duration::from_secs(5)));
        let mut words: Vec<String> = (0..3).map(|_| heard.recv().unwrap()).collect();
        words.sort();
        assert_eq!(words, ["1xVUuV-0003NN-2V", "1xVUuV-0003NN-2W", "scan"]);
    }
}
