//! Remote deliveries: addresses that go together, host after host.
//!
//! The transport gets one host at a time, so that retry records, log lines and the choice of the next host
//! are all here: a host's problem sends the address to the next host, an address's problem ends it.

use super::grouping::{Group, take_group};
use super::local::{header_changes, job_address, return_path, set_variables};
use super::message::{Attempt, RetryKey, Setback};
use super::report;
use super::retry::{self, errno};
use super::routing::{defer, fail, sender_key, setback};
use crate::route::Item;
use crate::transport::{Driver, Host, Job, Outcome, Problem, Remote, Transport};
use bstr::{BString, ByteSlice};
use std::sync::Arc;
use std::time::SystemTime;

/// Delivers all addresses of remote transports.
pub fn deliver_all(attempt: &mut Attempt) {
    // The last is first, as with local deliveries.
    let mut items: Vec<Item> = std::mem::take(&mut attempt.remote);
    items.reverse();
    drop_duplicates(attempt, &mut items);
    while let Some(first) = items.first() {
        let name = first.route.as_ref().map_or_else(BString::default, |route| route.transport.clone());
        let Some(transport) = attempt.env.transports.get(name.as_bstr()).cloned() else { break };
        let Driver::Remote(driver) = &transport.driver else { break };
        let group = take_group(attempt, &mut items, driver.max_rcpt(), driver.multi_domain());
        let Some(group) = group else { break };
        deliver_group(attempt, group, &transport, driver);
        if !items.is_empty() {
            attempt.write_journal();
        }
    }
}

/// `-ql`: remote addresses wait.
pub fn postpone_all(attempt: &mut Attempt) {
    for item in std::mem::take(&mut attempt.remote) {
        let quiet = Setback { quiet: true, ..setback(item, Problem::default()) };
        attempt.deferred.push(quiet);
    }
}

fn drop_duplicates(attempt: &mut Attempt, items: &mut Vec<Item>) {
    let mut kept = Vec::new();
    for item in items.drain(..) {
        let unique = item.unique();
        if attempt.seen.contains_key(&unique) {
            attempt.unjournaled.push(unique);
        } else {
            attempt.seen.insert(unique, false);
            kept.push(item);
        }
    }
    *items = kept;
}

fn deliver_group(attempt: &mut Attempt, group: Group, transport: &Arc<Transport>, driver: &Arc<dyn Remote>) {
    let Some(first) = group.items.first() else { return };
    set_variables(&mut attempt.context, first, transport.name.as_bstr());
    let hosts = first.route.as_ref().map_or_else(Vec::new, |route| route.hosts.clone());
    if hosts.is_empty() || driver.has_own_hosts() {
        let done = one_call(attempt, transport, driver, &group.items, Vec::new());
        settle_all(attempt, group.items, done, transport);
        return;
    }
    let mut run = Run { waiting: group.items, last: None, expired: true, tried: false, skipped_expired: false };
    for host in &hosts {
        if run.waiting.is_empty() {
            return;
        }
        try_host(attempt, &mut run, host, transport, driver);
    }
    give_up(attempt, run, transport);
}

/// What is left of a group while its hosts are tried.
struct Run {
    waiting: Vec<Item>,
    /// The problem of the host tried last.
    last: Option<Problem>,
    /// All hosts so far have failed for longer than their rules allow.
    expired: bool,
    tried: bool,
    skipped_expired: bool,
}

fn try_host(
    attempt: &mut Attempt,
    run: &mut Run,
    host: &Host,
    transport: &Arc<Transport>,
    driver: &Arc<dyn Remote>,
) {
    let key = host_key(host);
    let message_key = BString::from(format!("{key}:{}", attempt.message.id));
    let known = retry::record(attempt, key.as_bstr());
    if !attempt.how.force {
        if let Some(record) = &known {
            let early = Attempt::seconds(attempt.now) < record.next_try;
            if early && (record.expired || !retry::is_overdue(attempt, key.as_bstr(), record)) {
                run.skipped_expired |= record.expired;
                run.expired &= record.expired;
                return;
            }
        }
        let not_first = !attempt.message.envelope.first_time;
        if not_first && retry::is_waiting(attempt, message_key.as_bstr()) {
            run.expired = false;
            return;
        }
    }
    run.tried = true;
    let items = std::mem::take(&mut run.waiting);
    let outcomes = one_call(attempt, transport, driver, &items, vec![host.clone()]);
    let mut host_told = false;
    let mut first = true;
    for (item, outcome) in items.into_iter().zip(outcomes.1) {
        match outcome {
            Outcome::Deferred(problem) if goes_to_next_host(&problem) => {
                if !host_told {
                    host_told = true;
                    report::host_problem(attempt, host, &problem);
                    run.expired &= note_host(attempt, host, &item, &problem, &key, &message_key);
                }
                run.last = Some(problem);
                run.waiting.push(item);
            }
            other => {
                settle(attempt, item, other, &mut first, outcomes.0, transport);
            }
        }
    }
    if !host_told && known.is_some() {
        attempt.env.hints.remove_retry(key.as_bstr());
    }
}

/// The host's or the message's problem: another host may do better.
fn goes_to_next_host(problem: &Problem) -> bool {
    problem.host_problem || matches!(problem.errno, errno::MAIL_4XX | errno::DATA_4XX)
}

/// Writes the retry record of a host, or of this message at this host; true: its rule has run out.
fn note_host(
    attempt: &Attempt,
    host: &Host,
    item: &Item,
    problem: &Problem,
    key: &BString,
    message_key: &BString,
) -> bool {
    let by_message = matches!(problem.errno, errno::MAIL_4XX | errno::DATA_4XX);
    let record = RetryKey {
        key: if by_message { message_key.clone() } else { key.clone() },
        subject: [b"*@", host.name.as_slice()].concat().into(),
        other: Some([b"*@", &item.address.domain()[..]].concat().into()),
        by_message,
        host: true,
    };
    let transport = item.route.as_ref().map_or_else(BString::default, |route| route.transport.clone());
    attempt.env.hints.put_waiting(transport.as_bstr(), host.name.as_bstr(), &attempt.message.id);
    retry::update_one(attempt, &record, problem)
}

/// Addresses that no host took.
fn give_up(attempt: &mut Attempt, run: Run, transport: &Arc<Transport>) {
    for item in run.waiting {
        let domain = BString::from(item.address.domain());
        let base = |item: Item, problem: Problem| Setback {
            router: item.route.as_ref().map_or_else(BString::default, |route| route.router.clone()),
            transport: transport.name.clone(),
            ..setback(item, problem)
        };
        match &run.last {
            Some(problem) => {
                let setback = Setback { expired: run.expired, ..base(item, problem.clone()) };
                defer(attempt, setback);
            }
            None if run.expired && run.skipped_expired => {
                let text =
                    format!("all hosts for '{domain}' have been failing for a long time (and retry time not reached)");
                let problem = Problem { text: text.into(), errno: errno::HOST_RETRY, ..Problem::default() };
                fail(attempt, base(item, problem));
            }
            None => {
                let text = format!("retry time not reached for any host for '{domain}'");
                let problem = Problem { text: text.into(), errno: errno::HOST_RETRY, ..Problem::default() };
                let quiet = !attempt.env.log().selectors().has(crate::log::Selector::RetryDefer);
                defer(attempt, Setback { quiet, ..base(item, problem) });
            }
        }
    }
}

/// One call of the transport; the time it took and one outcome for each address.
fn one_call(
    attempt: &mut Attempt,
    transport: &Arc<Transport>,
    driver: &Arc<dyn Remote>,
    items: &[Item],
    hosts: Vec<Host>,
) -> (std::time::Duration, Vec<Outcome>) {
    let start = SystemTime::now();
    let outcomes = match job_of(attempt, transport, items, hosts) {
        Ok(job) => driver.deliver(job),
        Err(problem) => items.iter().map(|_| Outcome::Deferred(problem.clone())).collect(),
    };
    let mut outcomes = outcomes;
    let missing = Problem { text: "transport gave no answer".into(), errno: -1, ..Problem::default() };
    outcomes.resize(items.len(), Outcome::Deferred(missing));
    (start.elapsed().unwrap_or_default(), outcomes)
}

fn job_of<'a>(
    attempt: &'a mut Attempt,
    transport: &Transport,
    items: &[Item],
    hosts: Vec<Host>,
) -> Result<Job<'a>, Problem> {
    let Some(first) = items.first() else { return Err(Problem::default()) };
    if let Some(host) = hosts.first() {
        let vars = &mut attempt.context.address;
        vars.host = Some(crate::text::Value::clean(host.name.clone()));
        vars.host_address = host.address.map(|address| crate::text::Value::clean(address.to_string()));
        vars.host_port = host.port;
    }
    let path = return_path(attempt, first, &transport.generic, &attempt.context)?;
    attempt.context.message.return_path = Some(path.clone());
    let (headers_add, headers_remove) = header_changes(first, &transport.generic, &attempt.context)?;
    Ok(Job {
        message: &attempt.message,
        addresses: items.iter().map(|item| job_address(item, &transport.generic)).collect(),
        return_path: path,
        headers_add,
        headers_remove,
        hosts,
        context: &attempt.context,
        user: None,
    })
}

fn settle_all(
    attempt: &mut Attempt,
    items: Vec<Item>,
    (took, outcomes): (std::time::Duration, Vec<Outcome>),
    transport: &Arc<Transport>,
) {
    let mut first = true;
    for (item, outcome) in items.into_iter().zip(outcomes) {
        settle(attempt, item, outcome, &mut first, took, transport);
    }
}

/// What became of one address for good, or for now by its own fault.
fn settle(
    attempt: &mut Attempt,
    item: Item,
    outcome: Outcome,
    first: &mut bool,
    took: std::time::Duration,
    transport: &Arc<Transport>,
) {
    let base = |item: Item, problem: Problem| Setback {
        router: item.route.as_ref().map_or_else(BString::default, |route| route.router.clone()),
        transport: transport.name.clone(),
        ..setback(item, problem)
    };
    match outcome {
        Outcome::Delivered(done) => {
            report::delivered(attempt, &item, &done, *first, took);
            *first = false;
            if !attempt.message.envelope.first_time {
                let key = sender_key(attempt, &item);
                attempt.env.hints.remove_retry(key.as_bstr());
            }
            attempt.seen.insert(item.unique(), true);
            attempt.finish(item);
        }
        Outcome::Failed(problem) => {
            attempt.seen.insert(item.unique(), true);
            fail(attempt, base(item, problem));
        }
        Outcome::Deferred(problem) => {
            let key = RetryKey {
                key: sender_key(attempt, &item),
                subject: item.address.to_bytes(),
                other: None,
                by_message: false,
                host: false,
            };
            if problem.freeze {
                attempt.freeze = Some("Frozen".into());
            }
            defer(attempt, Setback { retry: vec![key], ..base(item, problem) });
        }
    }
}

/// `T:name:address`, with the port if it is not SMTP's own.
fn host_key(host: &Host) -> BString {
    let address = host.address.map_or_else(String::new, |address| address.to_string());
    let port = host.port.filter(|port| *port != 25).map_or_else(String::new, |port| format!(":{port}"));
    format!("T:{}:{address}{port}", host.name).into()
}
