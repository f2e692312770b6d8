//! One address on its way through the routers, and what became of it.

use crate::expand::context::AddressVars;
use crate::mail::Address;
use crate::syntax::Template;
use crate::text::Value;
use crate::transport::Host;
use bstr::{BStr, BString, ByteSlice};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An address that was redirected (or copied by `unseen`): what its children remember of it.
#[derive(Clone, Debug)]
pub struct Ancestor {
    /// The address as it was routed.
    pub address: Address,
    /// `$local_part` and `$domain` as the router saw them: `$parent_local_part` of its children.
    pub seen: Address,
    /// Index of the router that redirected it.
    pub router: usize,
    /// Key of this address in the list of finished ones.
    pub unique: BString,
    /// Whose child it is itself; none for a recipient of the envelope.
    pub parent: Option<Arc<Ancestor>>,
    /// `hide_child_in_errmsg`: bounces do not name its children.
    pub hide_children: bool,
    /// `one_time`: children that are not delivered become recipients in its place.
    pub one_time: bool,
}

/// Why a file or pipe of a redirection is not delivered to, though it can be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Barred {
    /// `forbid_file`, `forbid_pipe`
    pub forbidden: bool,
    /// There is no transport for it; why.
    pub no_transport: Option<BString>,
}

/// What a redirection gave other than an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Special {
    /// A file name.
    File(Value),
    /// A directory, with its last `/`.
    Directory(Value),
    /// A command, without its `|`.
    Pipe(Value),
}

/// An address on its way.
#[derive(Clone, Debug)]
pub struct Item {
    /// The address; the local part as it was written.
    pub address: Address,
    /// A file, directory or pipe instead of an address (then `address` is its parent's).
    pub special: Option<Special>,
    /// It must not, or cannot, be delivered to.
    pub barred: Option<Box<Barred>>,
    /// Ancestors, nearest first.
    pub parent: Option<Arc<Ancestor>>,
    /// The recipient that a `one_time` redirection made this one of, in an earlier attempt.
    pub one_time_parent: Option<Address>,
    /// What is said of it if no router takes it, in place of `Unrouteable address`.
    pub unrouteable: Option<BString>,
    /// Index of the recipient in the envelope that it stems from.
    pub recipient: usize,
    /// Index of the router to begin with.
    pub start: usize,
    /// Where its errors go; none: to the sender; empty: errors are ignored.
    pub errors_to: Option<BString>,
    /// Header lines to add (`name: text\n`).
    pub headers_add: Vec<BString>,
    /// Header names to remove, still to be expanded when the transport runs.
    pub headers_remove: Vec<BString>,
    /// `$address_data`.
    pub address_data: Option<Value>,
    /// `$r_...`.
    pub variables: BTreeMap<BString, Value>,
    /// `$self_hostname`.
    pub self_hostname: Option<BString>,
    /// DSN ORCPT (RFC 3461).
    pub orcpt: Option<BString>,
    /// DSN NOTIFY flags as the spool has them.
    pub dsn_flags: u32,
    /// How it is to be delivered, once a router took it.
    pub route: Option<Box<Route>>,
}

/// How an address is to be delivered.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Name of the router.
    pub router: BString,
    /// Name of the transport; empty when only verifying.
    pub transport: BString,
    /// Hosts to try in order, for remote transports.
    pub hosts: Vec<Host>,
    /// Variables for the transport's expansions.
    pub vars: AddressVars,
    /// `$domain_data` and `$local_part_data` of the preconditions.
    pub domain_data: Option<Value>,
    /// See above.
    pub local_part_data: Option<Value>,
    /// uid and gid that the router asks for.
    pub user: Option<(u32, u32)>,
    /// `initgroups` of the router.
    pub initgroups: bool,
    /// `transport_home_directory`, still to be expanded.
    pub home: Option<Template>,
    /// The home directory of the password entry or of `router_home_directory`.
    pub default_home: Option<Value>,
    /// `transport_current_directory`, still to be expanded.
    pub current_directory: Option<Template>,
    /// `disable_logging`.
    pub disable_logging: bool,
    /// `log_as_local`: log lines show the local part only.
    pub log_as_local: bool,
    /// Local part as the router saw it, affixes off: log lines of local deliveries show it.
    pub shown_local_part: BString,
}

/// Why an address was not routed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Name of the router, if one is to blame (`R=`).
    pub router: Option<BString>,
    /// Text for log, bounce and peer.
    pub text: BString,
    /// Exim's error number: -1 in general, -52 retry time not reached.
    pub errno: i32,
    /// The message is to be frozen.
    pub freeze: bool,
    /// The text was given on purpose (`:fail:`, `:defer:`, `cannot_route_message`): a peer may see it.
    pub for_peer: bool,
    /// Our own machinery failed: nothing is known of the address, and no retry rule gives it up.
    pub our_fault: bool,
    /// The sender of a message is not told the text.
    pub only_for_log: bool,
    /// The retry key uses the local part.
    pub retry_use_local_part: bool,
    /// Nothing of this is logged (`disable_logging`).
    pub disable_logging: bool,
    /// Lines for the main log and the panic log that go with it, without the message id.
    pub log_lines: Vec<BString>,
    /// What the main log is told besides.
    pub remark: Option<Remark>,
}

/// What routing found out about a host; the line depends on why the address was routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// The first host of this domain is this host.
    LocalHost(BString),
    /// This host has no address.
    NoAddress(BString),
}

impl Remark {
    /// The line, without a message id.
    pub fn text(&self) -> BString {
        match self {
            Self::LocalHost(domain) => line(&[b"remote host address is the local host: ", domain]),
            Self::NoAddress(host) => line(&[b"no IP address found for host ", host]),
        }
    }

    /// The line without a message: `address` was verified for a peer, or tested.
    pub fn without_message(&self, address: &BStr, peer: &BStr) -> Option<BString> {
        let text = self.text();
        Some(match (self, peer.is_empty()) {
            (Self::LocalHost(_), true) => line(&[&text, b" (while routing <", address, b">)"]),
            (Self::LocalHost(_), false) => {
                line(&[&text, b" (while verifying <", address, b"> from host ", peer, b")"])
            }
            (Self::NoAddress(_), true) => return None,
            (Self::NoAddress(_), false) => line(&[&text, b" (during SMTP connection from ", peer, b")"]),
        })
    }
}

fn line(parts: &[&[u8]]) -> BString {
    parts.concat().into()
}

/// What became of an address in the routers.
#[derive(Clone, Debug)]
pub enum Routed {
    /// It has a [`Route`].
    Assigned(Item),
    /// It is replaced by others, which are to be routed.
    Children {
        /// The parent.
        ancestor: Arc<Ancestor>,
        /// The replaced item.
        item: Item,
        /// Its children; at least one.
        children: Vec<Item>,
    },
    /// It is thrown away (`:blackhole:`); the router's name.
    Discarded(Item, BString),
    /// Not now.
    Deferred(Item, Trouble),
    /// Never.
    Failed(Item, Trouble),
}

impl Item {
    /// A recipient of an envelope, to be routed from the first router on.
    pub fn new(address: Address, recipient: usize) -> Self {
        Self {
            address,
            special: None,
            barred: None,
            parent: None,
            one_time_parent: None,
            unrouteable: None,
            recipient,
            start: 0,
            errors_to: None,
            headers_add: Vec::new(),
            headers_remove: Vec::new(),
            address_data: None,
            variables: BTreeMap::new(),
            self_hostname: None,
            orcpt: None,
            dsn_flags: 0,
            route: None,
        }
    }

    /// Text of the address, file or pipe (`|command`) as the log shows it.
    pub fn text(&self) -> BString {
        match &self.special {
            None => self.address.to_bytes(),
            Some(Special::File(path) | Special::Directory(path)) => path.bytes().into(),
            Some(Special::Pipe(command)) => [&b"|"[..], command.bytes()].concat().into(),
        }
    }

    /// The recipient of the envelope it stems from, if that is another address; of an item that is itself a recipient,
    /// the one it took the place of.
    pub fn top(&self) -> Option<&Address> {
        let Some(mut ancestor) = self.parent.as_ref() else { return self.one_time_parent.as_ref() };
        while let Some(next) = &ancestor.parent {
            ancestor = next;
        }
        Some(&ancestor.address)
    }

    /// Where it came from in the end: recipients that a `one_time` redirection made are not the end.
    pub fn origin(&self) -> Option<&Address> {
        self.one_time_parent.as_ref().or_else(|| self.top())
    }

    /// The key under which this address is remembered as finished: the address; for files and pipes with
    /// the parent's key; for a child that is the same as its parent with the transport's name.
    pub fn unique(&self) -> BString {
        let text = self.text();
        match (&self.special, &self.parent) {
            (Some(_), Some(parent)) => [&text[..], b":", &parent.unique].concat().into(),
            (None, Some(parent)) if same_address(&parent.address, &self.address) => {
                let transport = self.route.as_ref().map_or(b"".as_bstr(), |route| route.transport.as_bstr());
                [&text[..], b"/", transport].concat().into()
            }
            _ => text,
        }
    }

    /// What its children remember of it.
    pub fn as_ancestor(&self, router: usize, seen: &Address) -> Ancestor {
        Ancestor {
            address: self.address.clone(),
            seen: seen.clone(),
            router,
            unique: self.unique(),
            parent: self.parent.clone(),
            hide_children: false,
            one_time: false,
        }
    }

    /// A child of `ancestor`, to be routed; it keeps what is said to propagate.
    pub fn child(&self, ancestor: &Arc<Ancestor>, address: Address) -> Item {
        Item {
            address,
            special: None,
            barred: None,
            parent: Some(Arc::clone(ancestor)),
            one_time_parent: self.one_time_parent.clone(),
            unrouteable: None,
            recipient: self.recipient,
            start: 0,
            errors_to: self.errors_to.clone(),
            headers_add: self.headers_add.clone(),
            headers_remove: self.headers_remove.clone(),
            address_data: self.address_data.clone(),
            variables: self.variables.clone(),
            self_hostname: self.self_hostname.clone(),
            orcpt: None,
            dsn_flags: self.dsn_flags,
            route: None,
        }
    }
}

/// Ancestors of an item, nearest first.
pub fn ancestors(item: &Item) -> impl Iterator<Item = &Arc<Ancestor>> {
    std::iter::successors(item.parent.as_ref(), |ancestor| ancestor.parent.as_ref())
}

/// Are two addresses the same in routing: local parts without case (they may differ in what the
/// peer wrote), domains as they are?
pub fn same_address(one: &Address, other: &Address) -> bool {
    eq_ignore_case(one.local_part(), other.local_part()) && eq_ignore_case(one.domain(), other.domain())
}

fn eq_ignore_case(one: &BStr, other: &BStr) -> bool {
    one.eq_ignore_ascii_case(other)
}

impl Trouble {
    /// A temporary problem of a router with Exim's general number.
    pub fn defer(router: &BStr, text: impl Into<BString>) -> Self {
        Self { router: Some(router.into()), text: text.into(), errno: -1, ..Self::default() }
    }
}
