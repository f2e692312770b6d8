//! The helper of a start with root's rights that is no daemon: one thread that keeps root for orders while the rest
//! of the program becomes oxim at once.
//!
//! Privileges: as the master's part that forks user children, and nothing else. It ends when the last
//! process that could give it an order has ended.

use super::children::MOST_USER_CHILDREN;
use super::ipc::{self, ToMaster};
use super::orders::Orders;
use super::user_child::{self, OrderCheck};
use crate::sys::identity::{Rights, become_root_wholly, become_user, is_root};
use crate::sys::spawn::{self, Forked};
use crate::sys::{descriptors, fd_passing, signals};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Forks the helper; this process then takes `rights` (none: it keeps those it has) and gives orders through
/// what is returned. The caller has one thread.
pub fn start(check: &dyn OrderCheck, rights: Option<&Rights>) -> io::Result<Orders> {
    let (ours, theirs) = fd_passing::packet_pair()?;
    match spawn::fork()? {
        Forked::Parent(_) => {
            drop(theirs);
            if let Some(rights) = rights {
                become_user(rights)?;
            }
            Ok(Orders::new(ours))
        }
        Forked::Child => {
            drop(ours);
            let serve =
                std::panic::AssertUnwindSafe(|| prepare(&theirs).and_then(|()| serve(&theirs, check)));
            // A panic must not unwind into what the parent goes on with.
            let code = if matches!(std::panic::catch_unwind(serve), Ok(Ok(()))) { 0 } else { 1 };
            spawn::exit_now(code)
        }
    }
}

/// Not the caller's terminal, not its descriptors, no signal of its keyboard.
fn prepare(control: &OwnedFd) -> io::Result<()> {
    crate::sys::secure::set_process_name("oxim-helper");
    // The caller may signal what has his real uid.
    if is_root() {
        become_root_wholly()?;
    }
    nix::unistd::setsid()?;
    signals::reset()?;
    signals::ignore(nix::sys::signal::Signal::SIGPIPE)?;
    descriptors::standard_to_null(&[0, 1, 2])?;
    descriptors::close_all_but(control.as_raw_fd())?;
    // The working directory is the caller's; nothing is opened by a relative path here.
    Ok(())
}

/// Forks a user child for each order until nobody is left to give one.
fn serve(control: &OwnedFd, check: &dyn OrderCheck) -> io::Result<()> {
    let mut children: Vec<i32> = Vec::new();
    loop {
        children.retain(|child| !matches!(spawn::has_ended(*child), Ok(true)));
        if children.len() >= MOST_USER_CHILDREN {
            let oldest = children.remove(0);
            spawn::wait_for(oldest)?;
        }
        let Some((message, mut handed)) = ipc::hear::<ToMaster>(control)? else { break };
        if message != ToMaster::Order(()) || handed.len() != 1 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let order = handed.remove(0);
        match spawn::fork()? {
            Forked::Parent(child) => children.push(child),
            Forked::Child => user_child::run(&order, check),
        }
    }
    children.into_iter().try_for_each(|child| spawn::wait_for(child).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::as_user::{Answer, AsUser, CheckFiles, Identity, Order};
    use crate::process::{orders, parcel};

    struct All;
    impl OrderCheck for All {
        fn check(&self, _: &Identity, _: &Order) -> Result<(), String> {
            Ok(())
        }
    }

    /// Gives a child an order by hand, as whoever broke into a worker could.
    fn ask(child: &OwnedFd, uid: u32) -> io::Result<Option<Answer>> {
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
        let who = Identity { uid, gid: uid, ..Identity::default() };
        let order = Order::CheckFiles(CheckFiles { paths: vec!["/".into()] });
        parcel::send(child, &(who, order), &[])?;
        Ok(parcel::receive::<Answer>(child, parcel::MAX_PARCEL, PATIENCE)?.map(|(answer, _)| answer))
    }

    #[test]
    fn a_child_serves_one_identity_and_ends_when_no_more_orders_come() {
        let root = is_root();
        let own = nix::unistd::getuid().as_raw();
        let (control, theirs) = fd_passing::packet_pair().unwrap();
        let Forked::Parent(keeper) = spawn::fork().unwrap() else {
            drop(control);
            let code = serve(&theirs, &All).is_err();
            spawn::exit_now(code.into());
        };
        drop(theirs);
        let new_child = || {
            let (ours, theirs) = fd_passing::packet_pair().unwrap();
            ipc::say(&control, &ToMaster::Order(()), &[std::os::fd::AsFd::as_fd(&theirs)]).unwrap();
            ours
        };
        let (child, uid) = (new_child(), if root { 65534 } else { own });
        for _ in 0..2 {
            assert_eq!(ask(&child, uid).unwrap(), Some(Answer::Checked(vec![0])));
        }
        let Some(Answer::Trouble(refusal)) = ask(&child, uid + 1).unwrap() else { panic!("no refusal") };
        assert_eq!(refusal.text, "order for another identity");
        assert_eq!(ask(&child, uid).unwrap(), Some(Answer::Checked(vec![0])));
        // it ends by itself: its end of the socket closes
        let end = orders::wait_readable(&child, std::time::Duration::from_secs(20));
        assert!(end.is_ok() && ask(&child, uid).ok().flatten().is_none());
        // ... and at once when whoever gives orders is gone
        let gone = new_child();
        drop((gone, control));
        assert_eq!(spawn::wait_for(keeper).unwrap(), spawn::Ended::Exit(0), "keeper and children have ended");
    }

    #[test]
    fn orders_are_carried_out_for_the_own_uid_without_root_and_for_any_with_it() {
        let root = crate::sys::identity::is_root();
        let uid = if root { 65534 } else { nix::unistd::getuid().as_raw() };
        let orders = start(&All, None).unwrap();
        let who = Identity { uid, gid: 65534, ..Identity::default() };
        let order = Order::CheckFiles(CheckFiles { paths: vec!["/root/.x".into(), "/".into()] });
        let answer = orders.carry_out(&who, &order, &[]).unwrap();
        let Answer::Checked(numbers) = answer else { panic!("{answer:?}") };
        assert_eq!(numbers[1], 0);
        if root {
            assert_eq!(numbers[0], nix::libc::EACCES);
        }
    }
}
