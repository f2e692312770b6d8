//! What the transport's options say for one host: expanded and matched once, before the connection.
//! Two deliveries may share a connection only if their policies are equal.

use super::dane::{Demand, Wish};
use super::trouble::{Failure, Scope};
use crate::config::Options;
use crate::expand::{Context, ExpandError, expand};
use crate::matching::{self, HostSubject, Match};
use crate::syntax::Template;
use crate::tls::gnutls::hash::{Digest, digest};
use crate::tls::{ClientSettings, ClientTerms, Verify, protocol_names};
use crate::transport::Host;
use bstr::{BString, ByteSlice};
use std::net::IpAddr;
use std::time::Duration;

/// No fewer bits of a Diffie-Hellman prime are ever accepted, whatever `tls_dh_min_bits` says.
const LEAST_DH_BITS: u32 = 512;

/// How the connection to one host is made and what must hold for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// TCP port.
    pub port: u16,
    /// TLS from the first byte (`protocol = smtps`).
    pub tls_on_connect: bool,
    /// Argument of EHLO.
    pub helo: BString,
    /// Our address, if one is fixed.
    pub interface: Option<IpAddr>,
    /// HELO is said, not EHLO (`hosts_avoid_esmtp`).
    pub avoid_esmtp: bool,
    /// Commands are not pipelined (`hosts_avoid_pipelining`).
    pub avoid_pipelining: bool,
    /// DANE is in use: the DNS demands TLS, or more.
    pub dane: bool,
    /// TLS is not used (`hosts_avoid_tls`).
    pub avoid_tls: bool,
    /// Nothing goes in clear (`hosts_require_tls`, a status is required, or the DNS demands it).
    pub require_tls: bool,
    /// After a temporary refusal of STARTTLS, or a handshake that failed, clear text may be used (`tls_tempfail_tryclear`).
    pub clear_after_tempfail: bool,
    /// TCP keep-alive probes are sent (`keepalive`).
    pub keepalive: bool,
    /// TLS settings.
    pub tls: TlsPolicy,
    /// Deadlines of the steps.
    pub limits: Limits,
}

/// What is asked of the TLS session and what must come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// A certificate status is asked for (`hosts_request_ocsp`).
    pub request_ocsp: bool,
    /// A good, verified status is required (`hosts_require_ocsp`).
    pub require_ocsp: bool,
    /// A good proof or list is required (`hosts_require_status`).
    pub require_status: bool,
    /// A former session may be gone on with (`tls_resumption_hosts`).
    pub resume: bool,
    /// How the chain is verified (`tls_verify_hosts`, `tls_try_verify_hosts`).
    pub verify: Verify,
    /// The certificate's names are compared (`tls_verify_cert_hostnames`).
    pub verify_names: bool,
    /// Files: trust anchors, CRL, our certificate and key.
    pub files: ClientSettings,
    /// GnuTLS priority string (`tls_require_ciphers`).
    pub ciphers: Option<BString>,
    /// Server name to ask for (`tls_sni`).
    pub sni: Option<BString>,
    /// Protocol names, least bits of a prime, compatibility.
    pub terms: ClientTerms,
    /// A session that has TLS is not used for another message (`hosts_nopass_tls`, `hosts_noproxy_tls`).
    pub one_message: bool,
    /// What could not be expanded, for the log: there is no TLS to be had.
    pub broken: Option<BString>,
    /// A word for what is required of a session where a status or DANE is: which kinds, and eight digits that change with
    /// whatever else decides whether a certificate and its status are good. Short enough to be read in a list of records.
    /// It does not change with what the DNS says.
    pub requirement: Option<BString>,
}

impl TlsPolicy {
    /// See the field; before anything the DNS demands is put in place of the options.
    fn requirement(&self, dane: bool) -> Option<BString> {
        let kinds = [(self.require_ocsp, "ocsp"), (self.require_status, "status"), (dane, "dane")];
        let kinds: Vec<&str> = kinds.iter().filter(|(on, _)| *on).map(|(_, kind)| *kind).collect();
        if kinds.is_empty() {
            return None;
        }
        let text = format!(
            "{:?} {} {:?} {:?} {:?}",
            self.verify, self.verify_names, self.files, self.ciphers, self.sni
        );
        let hash = digest(Digest::Sha256, text.as_bytes()).unwrap_or_default();
        let digits: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Some(format!("{}-{digits}", kinds.join("+")).into())
    }

    /// What the DNS demands takes the place of what the options say (spec section "Client configuration" of DANE).
    fn obey(&mut self, demand: &Demand, ciphers: Option<BString>) {
        let host = match demand {
            Demand::Nothing => return,
            Demand::Encryption(host) => host.clone(),
            Demand::Certificate(dane) => {
                self.verify = Verify::No;
                self.verify_names = false;
                self.files.verify_certificates = None;
                self.files.crl = None;
                self.terms.dane = Some(dane.clone());
                dane.host().clone()
            }
        };
        self.sni = Some(host);
        self.ciphers = ciphers.or(self.ciphers.take());
    }
}

/// Deadlines, each for one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP connect.
    pub connect: Duration,
    /// Each command's reply, the greeting, the TLS handshake.
    pub command: Duration,
    /// Each piece of data.
    pub data: Duration,
    /// The reply to the end of data.
    pub last: Duration,
}

impl Policy {
    /// After a handshake that failed the message may go in clear, over another connection.
    pub fn may_go_clear(&self) -> bool {
        !self.require_tls && !self.tls_on_connect && self.clear_after_tempfail
    }

    /// Expands and matches all that depends on the host; `context` has `$host`, `$host_address` and
    /// `$tls_out_tlsa_usage` set.
    pub fn of(options: &Options, host: &Host, context: &Context, demand: &Demand) -> Result<Self, Failure> {
        let reader = Reader { options, context, host };
        let require_ocsp = crate::tls::OCSP && reader.matches("hosts_require_ocsp")?;
        let require_status = reader.matches("hosts_require_status")?;
        let tls = reader.tls_policy(require_ocsp, require_status, demand)?;
        Ok(Self {
            port: reader.port()?,
            tls_on_connect: reader.tls_on_connect(),
            helo: reader.text("helo_data")?.unwrap_or_else(|| context.globals.primary_hostname.clone()),
            interface: reader.interface()?,
            avoid_esmtp: reader.matches("hosts_avoid_esmtp")?,
            avoid_pipelining: reader.matches("hosts_avoid_pipelining")?,
            dane: demand.is_made(),
            avoid_tls: reader.matches("hosts_avoid_tls")?,
            require_tls: demand.is_made()
                || require_ocsp
                || require_status
                || reader.matches("hosts_require_tls")?,
            clear_after_tempfail: options.bool("tls_tempfail_tryclear"),
            keepalive: options.bool("keepalive"),
            tls,
            limits: Limits {
                connect: options.time("connect_timeout"),
                command: options.time("command_timeout"),
                data: options.time("data_timeout"),
                last: options.time("final_timeout"),
            },
        })
    }
}

/// Reads the options of one transport for one host.
pub struct Reader<'a> {
    /// The transport's.
    pub options: &'a Options,
    /// With `$host` and its kin.
    pub context: &'a Context<'a>,
    /// The host.
    pub host: &'a Host,
}

impl Reader<'_> {
    fn tls_on_connect(&self) -> bool {
        self.options.plain("protocol").unwrap_or_default() == "smtps"
    }

    fn tls_policy(
        &self,
        require_ocsp: bool,
        require_status: bool,
        demand: &Demand,
    ) -> Result<TlsPolicy, Failure> {
        // What DANE takes the place of may be broken: nobody asks for it then.
        let (mut broken, mut replaced) = (None, None);
        let certificate = self.tls_text("tls_certificate", &mut broken);
        let private_key = self.tls_text("tls_privatekey", &mut broken);
        let protocols = protocol_names(&self.tls_text("tls_alpn", &mut broken).unwrap_or_default());
        let dane_ciphers = match demand.is_made() {
            true => self.tls_text("dane_require_tls_ciphers", &mut broken),
            false => None,
        };
        let others = if dane_ciphers.is_some() { &mut replaced } else { &mut broken };
        let ciphers = self.tls_text("tls_require_ciphers", others);
        let files = ClientSettings {
            certificate,
            private_key,
            verify_certificates: self.tls_text("tls_verify_certificates", &mut replaced),
            crl: self.tls_text("tls_crl", &mut replaced),
        };
        let sni = self.tls_text("tls_sni", &mut replaced);
        if !matches!(demand, Demand::Certificate(_)) {
            broken = broken.or(replaced);
        }
        let mut policy = TlsPolicy {
            terms: ClientTerms {
                protocols,
                require_protocol: self.matches("hosts_require_alpn")?,
                dh_min_bits: dh_min_bits(self.options.int("tls_dh_min_bits")),
                compatible: self.options.bool("gnutls_compat_mode"),
                dane: None,
            },
            one_message: self.matches("hosts_nopass_tls")? || self.matches("hosts_noproxy_tls")?,
            broken,
            request_ocsp: crate::tls::OCSP && (require_ocsp || self.requests_ocsp(demand)?),
            require_ocsp,
            require_status,
            resume: self.matches("tls_resumption_hosts")?,
            verify: self.verification()?,
            verify_names: self.matches("tls_verify_cert_hostnames")?,
            files,
            ciphers,
            sni,
            requirement: None,
        };
        policy.requirement = policy.requirement(Wish::of(self)?.may_decide(self.host));
        policy.obey(demand, dane_ciphers);
        Ok(policy)
    }

    fn verification(&self) -> Result<Verify, Failure> {
        Ok(match (self.matches("tls_verify_hosts")?, self.matches("tls_try_verify_hosts")?) {
            (true, _) => Verify::Require,
            (false, true) => Verify::Try,
            // Where neither option says anything, what is to be checked has to be good.
            (false, false) if self.says_nothing_of_verification() => Verify::Require,
            (false, false) => Verify::No,
        })
    }

    /// The default of `hosts_request_ocsp` leaves out a host whose own certificate is all that is in DNS (row C1).
    fn requests_ocsp(&self, demand: &Demand) -> Result<bool, Failure> {
        const NAME: &str = "hosts_request_ocsp";
        let is_default = self.options.text(NAME).is_some_and(|list| list.text() == "*");
        match demand {
            Demand::Certificate(dane) if is_default => Ok(dane.has_trust_anchors()),
            _ => self.matches(NAME),
        }
    }

    /// `tls_verify_certificates` is set, and neither of the options that say for which hosts (a list without items does).
    fn says_nothing_of_verification(&self) -> bool {
        let is_set =
            |name: &'static str| self.options.text(name).is_some_and(|template| !template.text().is_empty());
        is_set("tls_verify_certificates") && !is_set("tls_verify_hosts") && !is_set("tls_try_verify_hosts")
    }

    /// An option of TLS. What cannot be expanded is kept for when TLS is wanted.
    fn tls_text(&self, name: &'static str, broken: &mut Option<BString>) -> Option<BString> {
        let template = self.options.text(name)?;
        match expand(template, self.context) {
            Ok(value) => Some(value.into_bytes()).filter(|value| !value.is_empty()),
            Err(ExpandError::Forced(_)) => None,
            Err(ExpandError::Defer(text) | ExpandError::Failed(text)) => {
                broken.get_or_insert_with(|| format!("expansion of {name} failed: {text}").into());
                None
            }
        }
    }

    /// Is the host in this host-list option?
    pub fn matches(&self, name: &'static str) -> Result<bool, Failure> {
        let Some(list) = self.options.text(name) else { return Ok(false) };
        let subject = HostSubject { address: self.host.address, name: Some(self.host.name.clone()) };
        match matching::host(self.context, &subject, list) {
            Ok(Match::Yes(_)) => Ok(true),
            Ok(Match::No) => Ok(false),
            // Exim goes on as if the host were not listed, in clear where TLS was required of it.
            Err(error) => Err(Failure::new(Scope::Message, -1, format!("failed to match {name}: {error}"))),
        }
    }

    /// An expanded option; none if unset, empty or forced to fail.
    fn text(&self, name: &'static str) -> Result<Option<BString>, Failure> {
        match self.options.text(name) {
            None => Ok(None),
            Some(template) => expand_option(name, template, self.context),
        }
    }

    /// `port`, by number or name.
    pub fn port(&self) -> Result<u16, Failure> {
        let tls_on_connect = self.tls_on_connect();
        if let Some(port) = self.host.port {
            return Ok(port);
        }
        let written = self.text("port")?.unwrap_or_default();
        match written.to_str_lossy().trim() {
            "" if tls_on_connect => Ok(465),
            "" | "smtp" => Ok(25),
            "smtps" | "submissions" => Ok(465),
            "submission" => Ok(587),
            text => text.parse().map_err(|_| {
                Failure::new(
                    Scope::Message,
                    -1,
                    format!("TCP port \"{text}\" is not defined for the transport"),
                )
            }),
        }
    }

    fn interface(&self) -> Result<Option<IpAddr>, Failure> {
        let Some(written) = self.text("interface")? else { return Ok(None) };
        let wanted = self.host.address.map(|address| address.is_ipv4());
        for item in written.split_str(":").map(|item| item.trim()) {
            // An IPv6 address in a list has its colons doubled; a list with another separator has none.
            if let Some(address) = item.to_str().ok().and_then(|text| text.parse::<IpAddr>().ok())
                && wanted.is_none_or(|v4| v4 == address.is_ipv4())
            {
                return Ok(Some(address));
            }
        }
        let single = written.trim().replace("::::", "::");
        Ok(single.to_str().ok().and_then(|text| text.parse().ok()))
    }
}

/// `tls_dh_min_bits`: less than 512 bits protect nobody.
fn dh_min_bits(written: i64) -> u32 {
    u32::try_from(written).unwrap_or(0).max(LEAST_DH_BITS)
}

/// Expands one option; a forced failure leaves it unset.
pub fn expand_option(
    name: &'static str,
    template: &Template,
    context: &Context,
) -> Result<Option<BString>, Failure> {
    match expand(template, context) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value.into_bytes())),
        Err(ExpandError::Forced(_)) => Ok(None),
        Err(ExpandError::Defer(text) | ExpandError::Failed(text)) => {
            Err(Failure::new(Scope::Message, -1, format!("failed to expand {name}: {text}")))
        }
    }
}
