//! A process for one identity: it hears an order, checks it against the configuration, becomes that user for
//! good, works, answers, and waits a moment for the next order of the same identity.
//!
//! Privileges at the top: forked by the master (or the helper of a set-uid start) with root's rights and one
//! thread. It parses an order that an unprivileged worker wrote, so everything before [`become_user`] is
//! bounded decoding and comparing. Nothing of the work itself runs before the rights are given up.

use super::orders::{CHILD_PATIENCE, Commission, PARCEL_PATIENCE, wait_readable};
use super::parcel;
use crate::as_user::{Answer, Identity, Order, Trouble};
use crate::sys::identity::{Rights, become_user, is_root};
use crate::sys::{descriptors, secure, signals, spawn};
use crate::transport::appendfile::perform_order;
use bstr::BString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// What the child holds an order against: the master's own copy of the configuration.
pub trait OrderCheck {
    /// Refuses what no router or transport of the configuration could have meant, with a text for the log.
    fn check(&self, who: &Identity, order: &Order) -> Result<(), String>;
}

/// In the forked child: nothing stays open but the standard descriptors and the order socket.
pub fn run(control: &OwnedFd, check: &dyn OrderCheck) -> ! {
    secure::set_process_name("oxim-user");
    secure::clear_umask();
    let kept = control.as_raw_fd();
    let prepared = signals::reset().and_then(|()| descriptors::close_all_but(kept));
    let serve = || prepared.and_then(|()| serve(control, check));
    // A panic must not unwind into what was the master's stack.
    let code = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(serve)) {
        Ok(Ok(())) => 0,
        Ok(Err(_)) | Err(_) => 1,
    };
    // Destructors of what the parent owns must not run here.
    spawn::exit_now(code)
}

/// The whole life of a child; `control` is where its orders come from.
pub fn serve(control: &OwnedFd, check: &dyn OrderCheck) -> io::Result<()> {
    let mut became: Option<Identity> = None;
    loop {
        if became.is_some() && wait_readable(control, CHILD_PATIENCE).is_err() {
            return Ok(());
        }
        let heard = parcel::receive::<Commission>(control, parcel::MAX_PARCEL, PARCEL_PATIENCE)?;
        let Some((commission, descriptors)) = heard else { return Ok(()) };
        let files: Vec<File> = descriptors.into_iter().map(File::from).collect();
        let answer = carry_out(&commission, &mut became, check, &files);
        parcel::send(control, &answer, &[])?;
        if became.is_none() {
            return Ok(());
        }
    }
}

/// Checks first, then rights, then work.
fn carry_out(
    (who, order): &Commission,
    became: &mut Option<Identity>,
    check: &dyn OrderCheck,
    files: &[File],
) -> Answer {
    if let Err(text) = check.check(who, order) {
        return refuse(text);
    }
    match became {
        Some(before) if before != who => return refuse("order for another identity"),
        Some(_) => {}
        None => match take_identity(who) {
            Ok(()) => *became = Some(who.clone()),
            Err(trouble) => return Answer::Trouble(trouble),
        },
    }
    let files: Vec<&File> = files.iter().collect();
    perform_order(order, &files)
}

/// An order that is refused is tried again: the configuration may be put right, or was read anew by the master while
/// the worker still has the old one.
fn refuse(text: impl Into<BString>) -> Answer {
    Answer::Trouble(Trouble::ours(text))
}

/// Looks up the groups and becomes the user. Without root's rights, orders are for the own uid only.
fn take_identity(who: &Identity) -> Result<(), Trouble> {
    if !is_root() {
        let own = Rights::of_caller().map_err(|error| Trouble::ours(error.to_string()))?;
        if own.uid == who.uid {
            return Ok(());
        }
        let text = format!("unable to set gid={} or uid={} (euid={})", who.gid, who.uid, own.uid);
        return Err(Trouble { text: text.into(), ..Trouble::default() });
    }
    let rights = match &who.initgroups {
        Some(login) => Rights::with_groups_of(who.uid, who.gid, login),
        None => Ok(Rights::new(who.uid, who.gid)),
    };
    // It has a copy of what the master knows: not for the user's eyes.
    let become_it = |rights: Rights| become_user(&rights).and_then(|()| secure::forbid_inspection());
    rights.and_then(become_it).map_err(|error| {
        // Rights may be half changed: the caller answers and ends this process.
        Trouble::ours(format!("unable to set gid={} or uid={}: {error}", who.gid, who.uid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::as_user::{AsUser, CheckFiles, ReadFile};
    use crate::process::ipc::{self, ToMaster};
    use crate::process::orders::Orders;
    use crate::sys::fd_passing;

    struct All;
    impl OrderCheck for All {
        fn check(&self, who: &Identity, _: &Order) -> Result<(), String> {
            if who.uid == 0 { Err("never".into()) } else { Ok(()) }
        }
    }

    /// A master that serves each order in a thread: enough for identities that change nothing.
    fn start_master() -> Orders {
        let (ours, theirs) = fd_passing::packet_pair().unwrap();
        std::thread::spawn(move || {
            while let Ok(Some((ToMaster::Order(()), mut descriptors))) = ipc::hear::<ToMaster>(&theirs) {
                let control = descriptors.remove(0);
                std::thread::spawn(move || serve(&control, &All));
            }
        });
        Orders::new(ours)
    }

    #[test]
    fn an_order_that_the_check_refuses_is_not_carried_out() {
        let orders = start_master();
        let order = Order::ReadFile(ReadFile { path: "/etc/passwd".into(), limit: 1 << 20 });
        let answer = orders.carry_out(&Identity::default(), &order, &[]).unwrap();
        assert_eq!(answer, refuse("never"));
    }

    #[test]
    fn a_child_serves_several_orders_of_one_identity() {
        if is_root() {
            eprintln!("skipped: as root the orders would take the test's own rights away");
            return;
        }
        let orders = start_master();
        let who = Identity { uid: nix::unistd::getuid().as_raw(), ..Identity::default() };
        for _ in 0..3 {
            let order =
                Order::CheckFiles(CheckFiles { paths: vec!["/etc/passwd".into(), "/no/such".into()] });
            let answer = orders.carry_out(&who, &order, &[]).unwrap();
            assert_eq!(answer, Answer::Checked(vec![0, nix::libc::ENOENT]));
        }
    }
}
