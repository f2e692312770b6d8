//! Of the master: what it makes of what roles say, with processes that do nothing in their place.

use super::*;

struct Nothing;
impl OrderCheck for Nothing {
    fn check(&self, _: &crate::as_user::Identity, _: &crate::as_user::Order) -> Result<(), String> {
        Err("never".into())
    }
}

pub(in super::super) fn plan(listen: Vec<SocketAddr>) -> Plan {
    Plan {
        snapshot: Snapshot::default(),
        listen,
        backlog: 20,
        rights: None,
        roles: Vec::new(),
        keeper: KeeperPlan::default(),
        check: Box::new(Nothing),
        description: String::new(),
        keeper_lacks: None,
        metrics_socket: None,
    }
}

/// Writes the log into a list.
#[derive(Debug, Default)]
struct Desk(Vec<String>);
impl Office for Desk {
    fn read_configuration(&mut self) -> Result<Plan, String> {
        panic!("as asked")
    }
    fn log(&mut self, line: &str, _: bool) {
        self.0.push(line.to_owned());
    }
    fn started(&mut self, _: &Plan) {}
    fn failed(&mut self, _: &str) {}
    fn stopped(&mut self, _: &Plan) {}
}

/// What the master's log says when a role says this, and whether the role was killed for it.
fn said_by(role: Role, messages: &[ToMaster]) -> (Vec<String>, bool) {
    let mut desk = Desk::default();
    let mut master = Master::new(&mut desk, plan(Vec::new()), Vec::new()).unwrap();
    master.told_started = true;
    let (control, theirs) = fd_passing::packet_pair().unwrap();
    let mut process = std::process::Command::new("sleep").arg("30").spawn().unwrap();
    master.running.push(Running::new(role, process.id() as i32, control, 1));
    for message in messages {
        let descriptors = [theirs.as_fd()];
        let with = if *message == ToMaster::Order(()) { &descriptors[..] } else { &[] };
        ipc::say(&theirs, message, with).unwrap();
    }
    master.look_at_roles();
    let condemned = master.running[0].condemned;
    drop(master);
    if !condemned {
        process.kill().unwrap();
    }
    let ended = process.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(libc::SIGKILL));
    (desk.0, condemned)
}

#[test]
fn an_smtp_worker_that_orders_a_user_child_is_killed_and_nothing_it_says_counts_any_more() {
    let order = || ToMaster::Order(());
    let (log, killed) = said_by(Role::SmtpWorker, &[order(), order(), order()]);
    assert_eq!((log, killed), (vec!["the smtp worker asked for a user child: killed".to_owned()], true));
    let (log, killed) = said_by(Role::StapleKeeper, &[order()]);
    assert_eq!((log, killed), (vec!["the staple keeper asked for a user child: killed".to_owned()], true));
}

/// A process that does nothing, in the place of a role.
fn idle(role: Role, generation: u64) -> (Running, OwnedFd, std::process::Child) {
    let (control, theirs) = fd_passing::packet_pair().unwrap();
    let process = std::process::Command::new("sleep").arg("30").spawn().unwrap();
    (Running::new(role, process.id() as i32, control, generation), theirs, process)
}

#[test]
fn a_role_that_begins_is_linked_with_the_keeper_of_its_generation_and_with_nobody_else() {
    let mut desk = Desk::default();
    let mut master = Master::new(&mut desk, plan(Vec::new()), Vec::new()).unwrap();
    let old = idle(Role::StapleKeeper, 0);
    let (keeper, delivery) = (idle(Role::StapleKeeper, 1), idle(Role::DeliveryWorker, 1));
    let mut processes = [old.2, keeper.2, delivery.2];
    master.running.extend([old.0, keeper.0, delivery.0]);
    let peers = |master: &Master, role| -> Vec<usize> {
        master.make_links(role).unwrap().iter().map(|link| link.peer).collect()
    };
    assert_eq!(peers(&master, Role::SmtpWorker), [1]);
    assert_eq!(peers(&master, Role::StapleKeeper), [2]);
    master.running[1].condemned = true;
    assert!(peers(&master, Role::SmtpWorker).is_empty());
    drop(master);
    processes.iter_mut().for_each(|process| {
        process.kill().unwrap();
        process.wait().unwrap();
    });
}

#[test]
fn a_worker_whose_link_was_cut_gets_a_new_one_and_one_that_asks_without_end_is_killed() {
    let mut desk = Desk::default();
    let mut master = Master::new(&mut desk, plan(Vec::new()), Vec::new()).unwrap();
    let (keeper, smtp) = (idle(Role::StapleKeeper, 1), idle(Role::SmtpWorker, 1));
    let mut processes = [keeper.2, smtp.2];
    let (keeper_hears, smtp_hears) = (keeper.1, smtp.1);
    master.running.extend([smtp.0]);
    let ask = || ipc::say(&smtp_hears, &ToMaster::Relink(()), &[]).unwrap();
    let hear = |socket: &OwnedFd| match ipc::is_readable(socket) {
        true => Some(ipc::hear::<ToRole>(socket).unwrap().unwrap()),
        false => None,
    };
    ask();
    master.look_at_roles();
    assert!(hear(&smtp_hears).is_none(), "there is no keeper");
    master.running.push(keeper.0);
    ask();
    master.look_at_roles();
    let ends = [&keeper_hears, &smtp_hears].map(|socket| match hear(socket) {
        Some((ToRole::Link(()), mut ends)) => ends.remove(0),
        other => panic!("{other:?}"),
    });
    fd_passing::send(&ends[0], b"hello", &[]).unwrap();
    assert_eq!(fd_passing::receive(&ends[1], &mut [0; 9]).unwrap().0, 5);
    // The keeper itself asks for nothing.
    (0..50).for_each(|_| ask());
    master.look_at_roles();
    assert!(!master.running[0].condemned, "early, but not a flood");
    let given = std::iter::from_fn(|| hear(&smtp_hears)).count();
    assert!((1..5).contains(&given), "{given} at once");
    (0..100).for_each(|_| ask());
    master.look_at_roles();
    assert!(master.running[0].condemned);
    ipc::say(&keeper_hears, &ToMaster::Relink(()), &[]).unwrap();
    master.look_at_roles();
    assert!(master.running[1].condemned);
    drop(master);
    processes.iter_mut().for_each(|process| {
        let _ = process.wait().unwrap();
    });
}

#[test]
fn a_keeper_that_cannot_begin_stops_nothing_and_a_start_does_not_wait_for_it() {
    let mut desk = Desk::default();
    let mut master = Master::new(&mut desk, plan(Vec::new()), Vec::new()).unwrap();
    let (smtp, keeper) = (idle(Role::SmtpWorker, 1), idle(Role::StapleKeeper, 1));
    let mut process = smtp.2;
    master.running.extend([smtp.0, keeper.0]);
    ipc::say(&keeper.1, &ToMaster::Failed("no store".into()), &[]).unwrap();
    ipc::say(&smtp.1, &ToMaster::Ready(()), &[]).unwrap();
    master.look_at_roles();
    assert!(master.told_started && master.stopping.is_none() && master.failure.is_none());
    assert!(master.running[1].condemned && !master.running[0].condemned);
    drop(master);
    process.kill().unwrap();
    process.wait().unwrap();
    let mut killed = keeper.2;
    killed.wait().unwrap();
    assert_eq!(desk.0, ["the staple keeper cannot begin: no store"]);
}

#[test]
fn a_configuration_that_breaks_its_reader_leaves_the_daemon_as_it_was() {
    let mut desk = Desk::default();
    let mut master = Master::new(&mut desk, plan(Vec::new()), Vec::new()).unwrap();
    master.reload();
    assert_eq!(master.generation, 1);
    drop(master);
    assert!(desk.0[1].ends_with("the daemon goes on with the old one: internal error: as asked"), "{desk:?}");
}

#[test]
fn a_role_that_floods_the_master_is_killed() {
    let ready = || ToMaster::Ready(());
    assert_eq!(said_by(Role::DeliveryWorker, &[ready()]), (vec![], false));
    assert_eq!(said_by(Role::DeliveryWorker, &vec![ready(); 200]), (vec![], true));
    let failed = vec![ToMaster::Failed("x".into()); 200];
    assert_eq!(said_by(Role::SmtpWorker, &failed), (vec!["the smtp worker cannot begin: x".into()], true));
}
