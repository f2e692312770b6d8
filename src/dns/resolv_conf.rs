//! resolv.conf(5) and hosts(5): who to ask, and what is known without asking. Pure, but for the one
//! function that reads the system's: bytes in, values out.

use bstr::{BString, ByteSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Name servers beyond this are not asked, as in the C library (`MAXNS`).
const MAX_SERVERS: usize = 3;

/// Whom to ask and how patiently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers in the order of asking; never empty.
    pub servers: Vec<SocketAddr>,
    /// How long one server has for one answer.
    pub timeout: Duration,
    /// Rounds through all servers.
    pub attempts: u32,
    /// `trust-ad`: the servers, and the way to them, are trusted, so that their word for an answer (AD) counts. Without it
    /// the C library hides that word from programs, and nothing is secure.
    pub trust_ad: bool,
}

impl ResolvConf {
    /// As the system is configured now: `/etc/resolv.conf`.
    pub fn system() -> Self {
        Self::parse(&std::fs::read("/etc/resolv.conf").unwrap_or_default())
    }

    /// Reads resolv.conf's text; without a usable `nameserver` line it is the one on this host.
    pub fn parse(text: &[u8]) -> Self {
        let timeout = Duration::from_secs(5);
        let mut conf = Self { servers: Vec::new(), timeout, attempts: 2, trust_ad: false };
        for line in text.lines() {
            let mut words = line.fields();
            match words.next() {
                Some(b"nameserver") => conf.add_server(words.next()),
                Some(b"options") => words.for_each(|word| conf.apply_option(word)),
                _ => {}
            }
        }
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
        }
        conf
    }

    fn add_server(&mut self, word: Option<&[u8]>) {
        let address = word.and_then(|word| word.to_str().ok()).and_then(|word| word.parse::<IpAddr>().ok());
        if let Some(address) = address.filter(|_| self.servers.len() < MAX_SERVERS) {
            self.servers.push(SocketAddr::new(address, 53));
        }
    }

    fn apply_option(&mut self, word: &[u8]) {
        let number = |prefix: &[u8]| {
            word.strip_prefix(prefix).and_then(|rest| rest.to_str().ok()).and_then(|n| n.parse::<u32>().ok())
        };
        // The limits are resolv.conf(5)'s own: 30 seconds and 5 rounds.
        if let Some(seconds) = number(b"timeout:") {
            self.timeout = Duration::from_secs(u64::from(seconds.clamp(1, 30)));
        }
        if let Some(rounds) = number(b"attempts:") {
            self.attempts = rounds.clamp(1, 5);
        }
        self.trust_ad |= word == b"trust-ad";
    }
}

/// The addresses that the hosts file's text gives for a name, in the order of the file.
pub fn hosts_addresses(text: &[u8], name: &[u8]) -> Vec<IpAddr> {
    hosts_lines(text)
        .filter(|(_, names)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
        .map(|(address, _)| address)
        .collect()
}

/// The names that the hosts file's text gives for an address, in the order of the file.
pub fn hosts_names(text: &[u8], address: IpAddr) -> Vec<BString> {
    hosts_lines(text)
        .filter(|(known, _)| *known == address)
        .flat_map(|(_, names)| names.into_iter().map(BString::from))
        .collect()
}

fn hosts_lines(text: &[u8]) -> impl Iterator<Item = (IpAddr, Vec<&[u8]>)> {
    text.lines().filter_map(|line| {
        let line = line.split_once_str("#").map_or(line, |(before, _)| before);
        let mut words = line.fields();
        let address = words.next()?.to_str().ok()?.parse().ok()?;
        Some((address, words.collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_options_are_read_and_the_rest_is_passed_over() {
        let conf = ResolvConf::parse(
            b"# x\nsearch a b\nnameserver 192.0.2.1\nnameserver ::1\noptions timeout:99 attempts:0 rotate\n",
        );
        assert_eq!(conf.servers, ["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        assert_eq!((conf.timeout, conf.attempts, conf.trust_ad), (Duration::from_secs(30), 1, false));
        assert!(ResolvConf::parse(b"options edns0 trust-ad\n").trust_ad);
        assert_eq!(ResolvConf::parse(b"").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn hosts_file_answers_in_both_directions_and_in_any_case() {
        let text = b"127.0.0.1 localhost # here\n::1 localhost ip6\nbad line\n10.0.0.1\tMail.Example mail\n";
        assert_eq!(hosts_addresses(text, b"LOCALHOST").len(), 2);
        assert_eq!(hosts_names(text, "10.0.0.1".parse().unwrap()), ["Mail.Example", "mail"]);
        assert!(hosts_addresses(text, b"here").is_empty());
    }
}
