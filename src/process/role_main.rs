//! The start of an executed role (`--role`): who may start one, what it hears from the master, and its life until it
//! is told to end.

use super::confinement;
use super::delivery_worker::{DeliveryWorker, Settings};
use super::drop_box;
use super::ipc::{self, ToMaster, ToRole};
use super::openmetrics::{self, Door, Ending, Endpoint, Numbers};
use super::reading::{self, Reading};
use super::role::{Right, Role};
use super::services;
use super::smtp_worker::SmtpWorker;
use super::snapshot::Snapshot;
use super::spool_directory;
use super::staple_keeper;
use super::submit_socket::{self, Calls};
use super::trigger::{Receiver, Trigger};
use crate::expand::context::Globals;
use crate::load::{self, Configuration};
use crate::log::debug::Selection;
use crate::metrics::Counters;
use crate::receive::Station;
use crate::sys::identity::{self, Rights};
use crate::sys::spawn::CONTROL_FD;
use crate::sys::{descriptors, fd_passing, limits, secure};
use bstr::{BString, ByteSlice};
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Descriptors that a role with many connections may need.
const OPEN_FILES: u64 = 65_536;
/// How long sessions and deliveries may go on after a stop: the next command or message finds the flag set.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How long those of an old configuration may go on: a session has its own time-outs, well below.
const RETIRE_PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Makes the server of submissions, which knows the command line and so stands above this folder.
pub type MakeCalls = fn(&Configuration, &Station, &Arc<Trigger>, &Arc<Numbers>) -> io::Result<Arc<dyn Calls>>;

/// Everything the master hands over.
struct Handed {
    control: OwnedFd,
    snapshot: Snapshot,
    /// What all roles count together; not the staple keeper's.
    counters: Arc<Counters>,
    /// To tell that a message is ready; not the staple keeper's.
    announce: Option<Trigger>,
    /// To hear it; the delivery worker's alone.
    trigger: Option<Receiver>,
    /// With the staple keeper, or its with those that it serves.
    links: Vec<OwnedFd>,
    listeners: Vec<TcpListener>,
    /// It shows the numbers, where the configuration wants it.
    shows: bool,
    after_death: bool,
}

/// The whole life of a role; gives the exit code. `rights` are those that it is to have, if it has root's now.
pub fn run(name: &[u8], rights: Option<&[u8]>, calls: MakeCalls) -> i32 {
    let Some(role) = Role::executed_by_name(name) else {
        eprintln!("oxim: there is no role of this name");
        return 1;
    };
    let control = match check_starter().and_then(|control| give_up_rights(rights).map(|()| control)) {
        Ok(control) => control,
        Err(error) => {
            eprintln!("oxim: --role is for oxim's master only: {error}");
            return 1;
        }
    };
    secure::set_process_name(&format!("oxim-{}", role.name()));
    let teller = control.try_clone();
    match live(role, control, calls) {
        Ok(()) => 0,
        Err(error) => {
            if let Ok(teller) = teller {
                let mut text = BString::from(error.to_string());
                text.truncate(ipc::MAX_PACKET / 2);
                let _ = ipc::say(&teller, &ToMaster::Failed(text), &[]); // it sees the death anyway
            }
            1
        }
    }
}

/// Started without foreign rights, by a process of the same uid or of root, over a socket.
fn check_starter() -> io::Result<OwnedFd> {
    if secure::started_with_foreign_rights() {
        return Err(io::Error::other("started with foreign rights"));
    }
    let control = descriptors::inherited(CONTROL_FD)?;
    let (_, uid, _) = fd_passing::peer(&control)?;
    let own = nix::unistd::geteuid().as_raw();
    if uid != own && uid != 0 {
        return Err(io::Error::other("the control socket is another user's"));
    }
    Ok(control)
}

/// Before anything is heard: root's rights go, and others of the new uid (who may have broken into another role) can
/// neither look into this process nor change it. The kernel sees to that from the change on.
fn give_up_rights(rights: Option<&[u8]>) -> io::Result<()> {
    if let Some(word) = rights {
        let rights = Rights::of_word(word).ok_or_else(|| io::Error::other("these are no rights"))?;
        identity::become_user(&rights)?;
    }
    secure::forbid_inspection()?;
    if identity::is_root() { Err(io::Error::other("no role runs as root")) } else { Ok(()) }
}

fn live(role: Role, control: OwnedFd, calls: MakeCalls) -> io::Result<()> {
    limits::raise_open_files(OPEN_FILES)?;
    ipc::check_build_id(&control)?;
    let mut handed = hear_start(role, control)?;
    if role == Role::StapleKeeper {
        // It sees nothing of the configuration, which may hold passwords.
        start_debug(&handed.snapshot)?;
        return staple_keeper::live(&handed.control, &handed.snapshot, handed.counters, handed.links);
    }
    let reading = reading::read_snapshot(std::mem::take(&mut handed.snapshot)).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(reading::error_text).collect();
        io::Error::other(texts.join("\n"))
    })?;
    start_debug(&reading.snapshot)?;
    match role {
        Role::SmtpWorker => live_smtp(&reading, handed, calls),
        Role::DeliveryWorker => live_delivery(&reading, handed),
        Role::Master | Role::UserChild | Role::StapleKeeper => {
            Err(io::Error::other("this role is not executed"))
        }
    }
}

fn start_debug(snapshot: &Snapshot) -> io::Result<()> {
    if let Some(debug) = snapshot.setting("debug") {
        Selection::parse(&debug.to_str_lossy()).map_err(io::Error::other)?.start(true);
    }
    Ok(())
}

fn hear_start(role: Role, control: OwnedFd) -> io::Result<Handed> {
    let Some((ToRole::Start(start), descriptors)) = ipc::hear::<ToRole>(&control)? else {
        return Err(io::Error::other("the master did not say what to do"));
    };
    let too_little = || io::Error::other("the master handed over too little");
    let mut descriptors = VecDeque::from(descriptors);
    let snapshot = Snapshot::from_memfd(descriptors.pop_front().ok_or_else(too_little)?)?;
    let counters = Arc::new(Counters::shared(descriptors.pop_front().ok_or_else(too_little)?)?);
    let mut two = || Some([descriptors.pop_front()?, descriptors.pop_front()?]);
    let announce = match role {
        Role::StapleKeeper => None,
        _ => Some(Trigger::from_fds(two().ok_or_else(too_little)?)),
    };
    let trigger = match role {
        Role::DeliveryWorker => Some(Receiver::from_fds(two().ok_or_else(too_little)?)),
        _ => None,
    };
    if descriptors.len() < start.links as usize {
        return Err(too_little());
    }
    let links = descriptors.drain(..start.links as usize).collect();
    if descriptors.len() != start.listeners as usize {
        return Err(io::Error::other("the master handed over another number of sockets than it said"));
    }
    let listeners = descriptors.into_iter().map(TcpListener::from).collect();
    Ok(Handed {
        control,
        snapshot,
        counters,
        announce,
        trigger,
        links,
        listeners,
        shows: start.shows,
        after_death: start.after_death,
    })
}

fn live_smtp(reading: &Reading, handed: Handed, calls: MakeCalls) -> io::Result<()> {
    debug_assert!(!Role::SmtpWorker.may(Right::OrderUserChild));
    let (control, mut sockets) = (handed.control, handed.listeners);
    let announce = handed.announce.ok_or_else(|| io::Error::other("no trigger was handed over"))?;
    let mut service = services::Smtp::new(reading, announce, handed.counters)?;
    let numbers = Arc::new(service.numbers());
    // Before this process may make nothing there any more.
    let door = open_door(service.globals(), &mut sockets)?;
    // While there is one thread: those that come inherit it.
    confinement::confine(service.globals(), &reading.snapshot);
    let status = service.start_status(handed.links, control.try_clone()?)?;
    if reading.snapshot.setting("no_submission").is_none() {
        let place = service.globals().spool_directory.clone();
        let calls = calls(service.configuration(), service.station(), service.trigger(), &numbers)?;
        submit_socket::serve(&place, calls.clone())?;
        if let Err(error) = spool_directory::make_drop(service.globals()) {
            calls.log_bad(&format!("{}/drop cannot be made: {error}", place.display()));
        }
        drop_box::serve(&place, calls)?;
    }
    if handed.after_death {
        service.sweep_spool();
        // It may have died between a commit and its announcement.
        service.trigger().look();
    }
    if !sockets.is_empty() {
        service.preload_tls(status.as_ref());
    }
    let endpoint = show_numbers(door, &numbers, service.globals())?;
    let limits = service.accept_limits();
    let stop = service.stop_flag();
    let mut worker = SmtpWorker::new(sockets, limits, Arc::new(service));
    ipc::say(&control, &ToMaster::Ready(()), &[])?;
    loop {
        worker.accept_until(&control)?;
        let patience = match ipc::hear::<ToRole>(&control)? {
            Some((ToRole::Retire(()), _)) => RETIRE_PATIENCE,
            // Stopped, or the master is gone.
            Some((ToRole::Stop(()), _)) | None => {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                STOP_PATIENCE
            }
            Some((ToRole::Link(()), links)) => {
                if let Some(status) = &status {
                    status.link(links);
                }
                continue;
            }
            Some((ToRole::Start(_) | ToRole::Go(()), _)) => continue,
        };
        worker.close_listeners();
        let ending = endpoint.map(Endpoint::close); // its successor shows the numbers
        worker.pool().wait_idle(patience);
        wait_for_answers(ending, patience);
        return Ok(());
    }
}

/// Where the numbers are shown (`openmetrics_listen`), if they are.
fn open_door(globals: &Globals, sockets: &mut Vec<TcpListener>) -> io::Result<Option<Door>> {
    match load::openmetrics_place(&globals.main) {
        Ok(Some(place)) => Door::open(&place, sockets).map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(io::Error::other(reading::error_text(&error))),
    }
}

fn show_numbers(
    door: Option<Door>,
    numbers: &Arc<Numbers>,
    globals: &Globals,
) -> io::Result<Option<Endpoint>> {
    let Some(door) = door else { return Ok(None) };
    let (numbers, log) = (numbers.clone(), globals.log.clone());
    let on_panic = move |text: &str| {
        log.panic(format!("internal error while numbers were shown: {text}").as_bytes().as_bstr());
    };
    openmetrics::serve(door, Arc::new(move || numbers.text()), Arc::new(on_panic)).map(Some)
}

/// Who asked for the numbers at the last moment has an answer; but nobody who does not read it holds up a stop.
fn wait_for_answers(ending: Option<Ending>, patience: Duration) {
    const AT_A_STOP: Duration = Duration::from_secs(1);
    if let Some(ending) = ending {
        ending.wait(if patience == STOP_PATIENCE { AT_A_STOP } else { patience });
    }
}

fn live_delivery(reading: &Reading, handed: Handed) -> io::Result<()> {
    debug_assert!(Role::DeliveryWorker.may(Right::OrderUserChild));
    let Handed { control, counters, announce, trigger, after_death, links, mut listeners, shows, .. } =
        handed;
    let (Some(announce), Some(trigger)) = (announce, trigger) else {
        return Err(io::Error::other("no trigger was handed over"));
    };
    let mut service = services::Delivery::new(reading, control.try_clone()?, announce, counters)?;
    let lists = service.start_lists(links, control.try_clone()?)?;
    let link = |links| {
        if let Some(lists) = &lists {
            lists.link(links);
        }
    };
    let settings = Settings { after_death, ..service.settings(&reading.snapshot) };
    let door = if shows { open_door(service.globals(), &mut listeners)? } else { None };
    let endpoint = show_numbers(door, &Arc::new(service.numbers()), service.globals())?;
    ipc::say(&control, &ToMaster::Ready(()), &[])?;
    loop {
        match ipc::hear::<ToRole>(&control)? {
            Some((ToRole::Go(()), _)) => break,
            Some((ToRole::Link(()), links)) => link(links),
            _ => return Ok(()),
        }
    }
    service.sweep_spool();
    let mut worker = DeliveryWorker::new(Arc::new(service), settings)?;
    loop {
        worker.work_until(&control, &trigger)?;
        let patience = match ipc::hear::<ToRole>(&control)? {
            Some((ToRole::Retire(()), _)) => RETIRE_PATIENCE,
            Some((ToRole::Stop(()), _)) | None => STOP_PATIENCE,
            Some((ToRole::Link(()), links)) => {
                link(links);
                continue;
            }
            Some((ToRole::Start(_) | ToRole::Go(()), _)) => continue,
        };
        let ending = endpoint.map(Endpoint::close); // its successor shows the numbers
        worker.finish(patience);
        wait_for_answers(ending, patience);
        return Ok(());
    }
}
