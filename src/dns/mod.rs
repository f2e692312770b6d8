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
        /// The AD bit, if the name server's word is trusted (`trust-ad` in resolv.conf).
        secure: bool,
        /// The name that the records belong to, if the one asked for is an alias (CNAME): lower case, without the last dot.
        alias_of: Option<BString>,
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

/// One TLSA record (RFC 6698 section 2.1): what the certificate of a server is to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tlsa {
    /// Certificate usage: 0 PKIX-TA, 1 PKIX-EE, 2 DANE-TA, 3 DANE-EE.
    pub usage: u8,
    /// 0: the whole certificate; 1: its public key.
    pub selector: u8,
    /// 0: as it is; 1: SHA-256; 2: SHA-512.
    pub matching: u8,
    /// What the certificate is compared with.
    pub data: Vec<u8>,
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
    /// TLSA.
    fn tlsa(&self, name: &[u8]) -> Answer<Tlsa>;
}
