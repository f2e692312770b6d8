//! Remote deliveries: addresses that go together, host after host.
//!
//! Hosts whose retry time is not reached are left out before the transport is called; what it reports of each
//! host it tried becomes log lines and retry records here.

use super::grouping::{Group, take_group};
use super::local::{header_changes, job_address, return_path, set_variables};
use super::message::{Attempt, RetryKey, Setback};
use super::report;
use super::retry::{self, errno};
use super::routing::{defer, fail, sender_key, setback};
use crate::route::Item;
use crate::transport::{Driver, Host, Job, Outcome, Problem, Remote, Report, Transport};
use bstr::{BString, ByteSlice};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Delivers all addresses of remote transports.
pub fn deliver_all(attempt: &mut Attempt) {
    // The last is first, as with local deliveries.
    let mut items: Vec<Item> = std::mem::take(&mut attempt.remote);
    items.reverse();
    set_twins_aside(attempt, &mut items);
    while let Some(first) = items.first() {
        let name = first.route.as_ref().map_or_else(BString::default, |route| route.transport.clone());
        let Some(transport) = attempt.env.transports.get(name.as_bstr()).cloned() else { break };
        let Driver::Remote(driver) = &transport.driver else { break };
        set_variables(&mut attempt.context, first, name.as_bstr());
        let multi_domain = driver.multi_domain(&attempt.context);
        let max = driver.max_rcpt();
        let Some(group) = take_group(attempt, &mut items, max, *multi_domain.as_ref().unwrap_or(&true))
        else {
            break;
        };
        match multi_domain {
            Ok(_) => deliver_group(attempt, group, &transport, driver),
            Err(problem) => defer_all(attempt, group.items, &problem, &transport),
        }
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

fn set_twins_aside(attempt: &mut Attempt, items: &mut Vec<Item>) {
    for item in std::mem::take(items) {
        if attempt.seen.insert(item.unique()) { items.push(item) } else { attempt.twins.push(item) }
    }
}

fn deliver_group(attempt: &mut Attempt, group: Group, transport: &Arc<Transport>, driver: &Arc<dyn Remote>) {
    let Some(first) = group.items.first() else { return };
    set_variables(&mut attempt.context, first, transport.name.as_bstr());
    let routed = first.route.as_ref().map_or_else(Vec::new, |route| route.hosts.clone());
    let hosts = match driver.hosts(routed, &attempt.context) {
        Ok(hosts) => hosts,
        Err(problem) => return defer_all(attempt, group.items, &problem, transport),
    };
    let usable = usable_hosts(attempt, driver, &hosts);
    // A transport without hosts says itself what is wrong.
    if usable.hosts.is_empty() && !hosts.is_empty() {
        return give_up(attempt, group.items, &usable, transport);
    }
    let (took, report) = one_call(attempt, transport, driver, &group.items, usable.hosts.clone());
    let mut expired = usable.all_expired;
    for tried in &report.hosts {
        match &tried.problem {
            Some(problem) => {
                report::host_problem(attempt, &tried.host, problem);
                expired &= note_host(attempt, &tried.host, first_of(&group.items), problem);
            }
            None => {
                for key in host_keys(attempt, driver, &tried.host) {
                    if usable.known.contains(&key) {
                        attempt.env.hints.remove_retry(key.as_bstr());
                    }
                }
            }
        }
    }
    let any_failed = report.hosts.iter().any(|tried| tried.problem.is_some());
    let mut first = true;
    for (item, outcome) in group.items.into_iter().zip(report.outcomes) {
        settle(attempt, item, outcome, &mut first, took, transport, expired && any_failed);
    }
}

/// The transport's options could not be read.
fn defer_all(attempt: &mut Attempt, items: Vec<Item>, problem: &Problem, transport: &Arc<Transport>) {
    for item in items {
        let outcome = Outcome::Deferred(problem.clone());
        settle(attempt, item, outcome, &mut true, Duration::ZERO, transport, false);
    }
}

fn first_of(items: &[Item]) -> Option<&Item> {
    items.first()
}

/// The hosts that may be tried now.
struct Usable {
    hosts: Vec<Host>,
    /// Keys of hosts that have a retry record.
    known: Vec<BString>,
    /// All hosts that were left out have failed for longer than their rules allow.
    all_expired: bool,
    /// Such a host was left out.
    skipped_expired: bool,
}

fn usable_hosts(attempt: &Attempt, driver: &Arc<dyn Remote>, hosts: &[Host]) -> Usable {
    let mut usable =
        Usable { hosts: Vec::new(), known: Vec::new(), all_expired: true, skipped_expired: false };
    let now = Attempt::seconds(attempt.now);
    'hosts: for host in hosts {
        for key in host_keys(attempt, driver, host) {
            let Some(record) = retry::record(attempt, key.as_bstr()) else { continue };
            usable.known.push(key.clone());
            let overdue = || retry::is_overdue(attempt, key.as_bstr(), &record);
            if !attempt.how.force && now < record.next_try && (record.expired || !overdue()) {
                usable.skipped_expired |= record.expired;
                usable.all_expired &= record.expired;
                continue 'hosts;
            }
        }
        // Only a message that was tried before can have a record of its own.
        let message_key = message_key(&host_key(host), attempt);
        if !attempt.how.force
            && !attempt.message.envelope.first_time
            && retry::is_waiting(attempt, message_key.as_bstr())
        {
            usable.all_expired = false;
            continue;
        }
        usable.hosts.push(host.clone());
    }
    usable
}

fn message_key(key: &BString, attempt: &Attempt) -> BString {
    format!("{key}:{}", attempt.message.id).into()
}

/// Writes the retry record of a host, or of this message at this host; true: its rule has run out.
fn note_host(attempt: &Attempt, host: &Host, item: Option<&Item>, problem: &Problem) -> bool {
    let Some(item) = item else { return false };
    let key = match &problem.requirement {
        Some(requirement) => with_requirement(&host_key(host), requirement),
        None => host_key(host),
    };
    let by_message = problem.message_problem;
    let record = RetryKey {
        key: if by_message { message_key(&key, attempt) } else { key },
        subject: [&b"*@"[..], &host.name].concat().into(),
        other: Some([&b"*@"[..], item.address.domain()].concat().into()),
        by_message,
        host: true,
    };
    let transport = item.route.as_ref().map_or_else(BString::default, |route| route.transport.clone());
    attempt.env.hints.put_waiting(transport.as_bstr(), host.name.as_bstr(), &attempt.message.id);
    retry::update_one(attempt, &record, problem)
}

/// No host may be tried now.
fn give_up(attempt: &mut Attempt, items: Vec<Item>, usable: &Usable, transport: &Arc<Transport>) {
    for item in items {
        let domain = item.address.domain();
        if usable.all_expired && usable.skipped_expired {
            let text = format!(
                "all hosts for '{domain}' have been failing for a long time (and retry time not reached)"
            );
            let problem = Problem { text: text.into(), errno: errno::HOST_RETRY, ..Problem::default() };
            fail(attempt, base(item, problem, transport));
        } else {
            let text = format!("retry time not reached for any host for '{domain}'");
            let problem = Problem { text: text.into(), errno: errno::HOST_RETRY, ..Problem::default() };
            let quiet = !attempt.env.log().selectors().has(crate::log::Selector::RetryDefer);
            defer(attempt, Setback { quiet, ..base(item, problem, transport) });
        }
    }
}

fn base(item: Item, problem: Problem, transport: &Transport) -> Setback {
    let of_router = item.route.as_ref().is_some_and(|route| route.disable_logging);
    Setback {
        quiet: of_router || transport.generic.disable_logging,
        router: item.route.as_ref().map_or_else(BString::default, |route| route.router.clone()),
        transport: transport.name.clone(),
        ..setback(item, problem)
    }
}

/// One call of the transport; the time it took and one outcome for each address.
fn one_call(
    attempt: &mut Attempt,
    transport: &Arc<Transport>,
    driver: &Arc<dyn Remote>,
    items: &[Item],
    hosts: Vec<Host>,
) -> (Duration, Report) {
    let start = SystemTime::now();
    let mut report = match job_of(attempt, transport, items, hosts) {
        Ok(job) => driver.deliver(job),
        Err(problem) => {
            Report { outcomes: vec![Outcome::Deferred(problem); items.len()], ..Report::default() }
        }
    };
    let missing = Problem { text: "transport gave no answer".into(), errno: -1, ..Problem::default() };
    report.outcomes.resize(items.len(), Outcome::Deferred(missing));
    (start.elapsed().unwrap_or_default(), report)
}

fn job_of<'a>(
    attempt: &'a mut Attempt,
    transport: &'a Transport,
    items: &'a [Item],
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
    Ok(Job {
        message: &attempt.message,
        addresses: items.iter().map(|item| job_address(item, &transport.generic)).collect(),
        return_path: path,
        headers_add: Vec::new(),
        headers_remove: Vec::new(),
        late_headers: Some(Box::new(|context| header_changes(first, &transport.generic, context))),
        hosts,
        context: &attempt.context,
        user: None,
    })
}

/// What became of one address for good, or for now by its own fault.
fn settle(
    attempt: &mut Attempt,
    item: Item,
    outcome: Outcome,
    first: &mut bool,
    took: Duration,
    transport: &Arc<Transport>,
    expired: bool,
) {
    match outcome {
        Outcome::Delivered(done) => {
            report::delivered(attempt, &item, &done, *first, took);
            *first = false;
            if !attempt.message.envelope.first_time {
                let key = sender_key(attempt, &item);
                attempt.env.hints.remove_retry(key.as_bstr());
            }
            attempt.finish(item);
        }
        Outcome::Failed(problem) => {
            fail(attempt, base(item, problem, transport));
        }
        Outcome::Deferred(problem) if problem.host_problem || problem.message_problem => {
            defer(attempt, Setback { expired, ..base(item, problem, transport) });
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
            defer(attempt, Setback { retry: vec![key], ..base(item, problem, transport) });
        }
    }
}

/// The keys of the records that concern deliveries of this transport to a host: the host's own, and the one for what the
/// transport requires of its TLS, if that is more than others do (row C7).
fn host_keys(attempt: &Attempt, driver: &Arc<dyn Remote>, host: &Host) -> Vec<BString> {
    let mut keys = vec![host_key(host)];
    let requirement = driver.requirement(host, &attempt.context);
    keys.extend(requirement.map(|requirement| with_requirement(&host_key(host), &requirement)));
    keys
}

/// `T:name:address/ocsp-0a1b2c3d`
fn with_requirement(key: &BString, requirement: &BString) -> BString {
    format!("{key}/{requirement}").into()
}

/// `T:name:address`, with the port if it is not SMTP's own.
fn host_key(host: &Host) -> BString {
    let address = host.address.map_or_else(String::new, |address| address.to_string());
    let port = host.port.filter(|port| *port != 25).map_or_else(String::new, |port| format!(":{port}"));
    format!("T:{}:{address}{port}", host.name).into()
}
