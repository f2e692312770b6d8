//! Names to answers: a blocking stub resolver that tells every kind of failure apart.
pub mod resolv_conf;
pub mod stub;

use bstr::BString;
use std::net::IpAddr;

/// A reply to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// Records of the type that was asked for; `secure` if the resolver vouched for them (AD).
    Found {
        /// The records.
        records: Vec<T>,
        /// The AD bit.
        secure: bool,
    },
    /// The name exists, records of this type do not (NODATA).
    NoData,
    /// The name does not exist (NXDOMAIN).
    NoName,
    /// Time-out, SERVFAIL, unreachable: try later.
    TryLater(String),
}

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// Host name, lower case, without the last dot; empty is the null MX (RFC 7505).
    pub exchange: BString,
}

/// The questions a mail server asks; a fake stands here in tests.
pub trait Resolver: Send + Sync {
    /// A and AAAA (in this order unless the configuration says otherwise), /etc/hosts first.
    fn addresses(&self, name: &[u8]) -> Answer<IpAddr>;
    /// A and AAAA from DNS alone: what proves that a name leads back to an address.
    fn addresses_in_dns(&self, name: &[u8]) -> Answer<IpAddr> {
        self.addresses(name)
    }
    /// PTR.
    fn names(&self, address: IpAddr) -> Answer<BString>;
    /// MX.
    fn mx(&self, domain: &[u8]) -> Answer<Mx>;
    /// TXT, joined strings of each record.
    fn txt(&self, name: &[u8]) -> Answer<BString>;
}
