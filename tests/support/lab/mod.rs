//! A configuration, a spool, a fake remote host and an outbox in a temporary directory: what tests of deliveries and of
//! the queue work with.

use bstr::{BString, ByteSlice};
use oxim::config::{self, ConfigError, Instance, MacroOverrides, Written};
use oxim::deliver::{self, Delivery, Env, Here, How};
use oxim::dns::{Answer, Mx, Resolver, Tlsa};
use oxim::expand::context::Globals;
use oxim::hints::Hints;
use oxim::load::tables::tables;
use oxim::log::{Log, Selector, Selectors, Which};
use oxim::mail::MessageId;
use oxim::route::Chain;
use oxim::spool::Layout;
use oxim::transport::{Delivered, Host, HostReport, Job, Outcome, Problem, Registry, Remote, Report};
use oxim::upward::{NewMessage, Submit};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CONFIG: &str = "
primary_hostname = lab.example
qualify_domain = lab.example
domainlist local_domains = lab.example : other.example
never_users =
begin routers
copy:
  driver = accept
  local_parts = copied
  transport = maildir
  unseen
later:
  driver = redirect
  local_parts = copied
  data = :defer: not yet
  allow_defer
list:
  driver = redirect
  domains = +local_domains
  local_parts = list
  data = a1, a2, fail1, defer1
alias:
  driver = redirect
  domains = +local_domains
  data = ${lookup{$local_part}lsearch{ALIASES}}
  allow_fail
  allow_defer
  file_transport = address_file
  errors_to = ${if eq{$local_part}{ignored}{}fail}
remote:
  driver = manualroute
  domains = ! +local_domains
  route_list = rem.example 127.0.0.1::2525 ; nx.example nonexist.invalid
  transport = smtp
  self = send
  host_find_failed = defer
local:
  driver = accept
  domains = +local_domains
  local_parts = a1 : a2 : a3 : bob : sender
  local_part_suffix = +*
  local_part_suffix_optional
  transport = maildir
bad:
  driver = accept
  domains = +local_domains
  local_parts = baddir
  transport = badmaildir
mbox:
  driver = accept
  domains = +local_domains
  local_parts = mbox
  transport = mboxt
last:
  driver = accept
  domains = +local_domains
  local_parts = never
  transport = maildir
  cannot_route_message = Unknown: $local_part
  no_more
begin transports
maildir:
  driver = appendfile
  directory = ROOT/mail/$local_part_data
  maildir_format
  delivery_date_add
  envelope_to_add
  return_path_add
badmaildir:
  driver = appendfile
  directory = /nonexistent/x
  maildir_format
  no_create_directory
mboxt:
  driver = appendfile
  file = ROOT/mail/mbox
  return_path_add
address_file:
  driver = appendfile
smtp:
  driver = smtp
begin retry
* * RULE
";

const ALIASES: &str = "\
fail1: :fail: this user is gone
defer1: :defer: try again later
hole: :blackhole:
two: a1, a2
dup: a1, a1, a2
deep: two, hole
self: self, a1
file: ROOT/mail/thefile
ignored: nobody
bob: bob, defer1, ROOT/mail/thefile, two
chain1: chain2, defer1
chain2: a3
";

/// Answers for every recipient what its local part says.
struct FakeRemote;

impl Remote for FakeRemote {
    fn deliver(&self, job: Job) -> Report {
        let host = job.hosts.first().cloned().expect("a host");
        let refused = Problem {
            errno: libc::ECONNREFUSED,
            more_errno: i32::from(b'A'),
            host: Some(host.clone()),
            host_problem: true,
            ..Problem::default()
        };
        let mut problem = None;
        let outcomes = job
            .addresses
            .iter()
            .map(|address| match address.address.local_part().as_bytes() {
                b"down" => {
                    problem = Some(refused.clone());
                    Outcome::Deferred(refused.clone())
                }
                b"no" => Outcome::Failed(rcpt(&host, "no", "550-no such\\n550 user here", 0)),
                b"later" => Outcome::Deferred(rcpt(&host, "later", "451 try later", -44)),
                _ => Outcome::Delivered(Delivered {
                    host: Some(host.clone()),
                    confirmation: "250 taken id=7".into(),
                    ..Delivered::default()
                }),
            })
            .collect();
        Report { outcomes, hosts: vec![HostReport { host, problem }] }
    }
}

fn rcpt(host: &Host, local: &str, response: &str, errno: i32) -> Problem {
    let text = format!("SMTP error from remote mail server after RCPT TO:<{local}@rem.example>: {response}");
    Problem { text: text.into(), errno, more_errno: 51 << 8, host: Some(host.clone()), ..Problem::default() }
}

struct NoDns;

impl Resolver for NoDns {
    fn addresses(&self, _: &[u8]) -> Answer<IpAddr> {
        Answer::NoName
    }
    fn names(&self, _: IpAddr) -> Answer<BString> {
        Answer::NoName
    }
    fn mx(&self, _: &[u8]) -> Answer<Mx> {
        Answer::NoName
    }
    fn txt(&self, _: &[u8]) -> Answer<BString> {
        Answer::NoName
    }
    fn tlsa(&self, _: &[u8]) -> Answer<Tlsa> {
        Answer::NoName
    }
}

#[derive(Default)]
pub struct Outbox(pub Mutex<Vec<NewMessage>>);

impl Submit for Outbox {
    fn submit(&self, new: NewMessage) -> io::Result<MessageId> {
        self.0.lock().unwrap().push(new);
        Ok(MessageId::parse(b"1xVUu5-000ZZZ-1P").unwrap())
    }
}

pub struct Lab {
    pub root: tempfile::TempDir,
    pub env: Env,
    pub outbox: Arc<Outbox>,
    pub log: Arc<Log>,
}

fn read_config(text: &str) -> Written {
    let mut opener = |path: &Path| std::fs::read(path).map(Some);
    let (written, errors) = config::read(
        Path::new("lab.conf"),
        text.as_bytes(),
        &MacroOverrides::default(),
        &tables(),
        &mut opener,
    );
    assert!(errors.is_empty(), "{errors:?}");
    written.expect("a configuration")
}

fn remote(_: &Instance) -> Result<Arc<dyn Remote>, Vec<ConfigError>> {
    Ok(Arc::new(FakeRemote))
}

pub fn lab() -> Lab {
    lab_with("F,2h,15m; G,16h,1h,1.5; F,4d,6h", "")
}

pub fn lab_with(rule: &str, extra: &str) -> Lab {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    std::fs::create_dir_all(root.path().join("spool/input")).unwrap();
    std::fs::create_dir_all(root.path().join("mail")).unwrap();
    std::fs::write(root.path().join("aliases"), ALIASES.replace("ROOT", path)).unwrap();
    let text = format!("{extra}{CONFIG}")
        .replace("ALIASES", &format!("{path}/aliases"))
        .replace("ROOT", path)
        .replace("RULE", rule);
    let written = read_config(&text);
    let mut selectors = Selectors::default();
    selectors.add(Selector::AllParents);
    let log = Arc::new(Log::memory_with(selectors));
    let spool = root.path().join("spool");
    let globals = Arc::new(Globals {
        main: written.main.clone(),
        lists: written.lists.clone(),
        primary_hostname: "lab.example".into(),
        qualify_domain: "lab.example".into(),
        qualify_recipient: "lab.example".into(),
        spool_directory: spool.clone(),
        config_file: "lab.conf".into(),
        oxim_uid: nix::unistd::getuid().as_raw(),
        oxim_gid: nix::unistd::getgid().as_raw(),
        local_addresses: vec![],
        dns: Arc::new(NoDns),
        log: Arc::clone(&log),
        counters: Arc::default(),
        status: None,
        users: Arc::new(oxim::as_user::SystemUsers),
    });
    let transports = Registry::compile(&written.transports, &remote).unwrap_or_else(|e| panic!("{e:?}"));
    let chain = Chain::compile(&written.routers, transports.names(), Some(Arc::new(Here)))
        .unwrap_or_else(|e| panic!("{e:?}"));
    let outbox = Arc::new(Outbox::default());
    let env = Env {
        globals,
        chain: Arc::new(chain),
        transports: Arc::new(transports),
        retry: Arc::new(deliver::retry::Rules::compile(&written.retry).unwrap_or_else(|e| panic!("{e:?}"))),
        layout: Layout::new(&spool, false),
        hints: Arc::new(Hints::new(&spool)),
        submit: outbox.clone(),
        as_user: Arc::new(Here),
    };
    Lab { root, env, outbox, log }
}

impl Lab {
    /// Puts a message into the spool as exim4 4.96 would have.
    pub fn spool(&self, id: &str, sender: &str, recipients: &[&str], age: Duration) -> MessageId {
        let received = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap().as_secs();
        let names = recipients.join("\n");
        let count = recipients.len();
        let text = format!(
            "{id}-H\nroot 0 0\n<{sender}>\n{received} 0\n-received_protocol local\n-body_linecount 3\n\
             -deliver_firsttime\nXX\n{count}\n{names}\n\n014  Subject: test\n025F From: sender@lab.example\n\
             044I Message-Id: <E1xVUu5-00034b-1P@lab.example>\n038  Date: Mon, 23 Nov 2026 14:20:21 +0000\n"
        );
        let input = self.root.path().join("spool/input");
        std::fs::write(input.join(format!("{id}-D")), format!("{id}-D\nbody line\n.dot\nFrom x\n")).unwrap();
        std::fs::write(input.join(format!("{id}-H")), text).unwrap();
        MessageId::parse(id.as_bytes()).unwrap()
    }

    pub fn deliver(&self, recipients: &[&str]) -> (Delivery, Vec<String>) {
        let id = self.spool("1xVUu5-00034b-1P", "sender@lab.example", recipients, Duration::ZERO);
        let delivery = deliver::deliver(&self.env, &id, How::default());
        (delivery, self.lines())
    }

    /// Main log lines so far, without the id.
    pub fn lines(&self) -> Vec<String> {
        self.log
            .lines()
            .into_iter()
            .filter(|(which, _)| *which == Which::Main)
            .map(|(_, text)| text.splitn_str(2, " ").nth(1).unwrap_or_default().to_str_lossy().into_owned())
            .collect()
    }

    pub fn files(&self, directory: &str) -> Vec<BString> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.root.path().join(directory)).into_iter().flatten() {
            files.push(std::fs::read(entry.unwrap().path()).unwrap().into());
        }
        files
    }

    pub fn spool_is_empty(&self) -> bool {
        std::fs::read_dir(self.root.path().join("spool/input")).unwrap().next().is_none()
    }
}
