//! A blocking stub resolver (RFC 1035, RFC 6891, RFC 6840): one question to the name servers of
//! resolv.conf(5), over UDP and, if cut short, over TCP.
//!
//! Every wait has a deadline. DO is sent, and AD where `trust-ad` stands in resolv.conf: then a validating resolver's word
//! is seen, and counts.

use super::resolv_conf::{ResolvConf, hosts_addresses, hosts_names};
use super::{Answer, Mx, Resolver, Tlsa};
use bstr::{BString, ByteSlice};
use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, ParsedName, Rtype, StreamTarget, ToName};
use domain::rdata::AllRecordData;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What we accept over UDP: fits an unfragmented IPv6 packet (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1232;
/// Records of one answer beyond this are not used: a mail server needs a handful.
const MAX_RECORDS: usize = 500;

type Query = StreamTarget<Vec<u8>>;
type Record<'a> = domain::base::Record<ParsedName<&'a [u8]>, AllRecordData<&'a [u8], ParsedName<&'a [u8]>>>;

/// Asks the name servers of resolv.conf.
#[derive(Clone, Debug)]
pub struct Stub {
    conf: ResolvConf,
    hosts_file: PathBuf,
    ipv6: bool,
    /// DO is sent (`dns_dnssec_ok`).
    dnssec_ok: bool,
}

impl Stub {
    /// As the system is configured: `/etc/resolv.conf` and `/etc/hosts`. `ipv6`: IPv6 addresses are looked up.
    pub fn system(ipv6: bool) -> Self {
        Self::new(ResolvConf::system(), PathBuf::from("/etc/hosts"), ipv6)
    }

    /// With these servers and this hosts file.
    pub fn new(conf: ResolvConf, hosts_file: PathBuf, ipv6: bool) -> Self {
        Self { conf, hosts_file, ipv6, dnssec_ok: true }
    }

    /// Signatures are not asked for (`dns_dnssec_ok = 0`). A resolver that was asked for its word still gives it.
    pub fn without_signatures(self) -> Self {
        Self { dnssec_ok: false, ..self }
    }

    fn hosts_text(&self) -> Vec<u8> {
        std::fs::read(&self.hosts_file).unwrap_or_default()
    }

    /// Asks one question; `pick` takes what it can use from each record of the answer.
    fn ask<T>(&self, name: &[u8], rtype: Rtype, pick: impl Fn(&Record) -> Option<T>) -> Answer<T> {
        let text = name.to_str_lossy();
        let Ok(name) = Name::<Vec<u8>>::vec_from_str(&text) else {
            return Answer::NoName; // no name that DNS could hold
        };
        let mut reason = String::from("no name server answered");
        for _ in 0..self.conf.attempts {
            for server in &self.conf.servers {
                match self.ask_server(*server, &name, rtype) {
                    Ok(bytes) => match judge(&bytes, rtype, self.conf.trust_ad, &pick) {
                        Answer::TryLater(why) => reason = format!("{server}: {why}"),
                        answer => {
                            let words = match &answer {
                                Answer::Found { .. } => "found",
                                _ => "not found",
                            };
                            log::debug!(target: "dns", "{text} {rtype} at {server}: {words}");
                            return answer;
                        }
                    },
                    Err(error) => reason = format!("{server}: {error}"),
                }
            }
        }
        log::debug!(target: "dns", "{text} {rtype}: {reason}");
        Answer::TryLater(reason)
    }

    fn ask_server(&self, server: SocketAddr, name: &Name<Vec<u8>>, rtype: Rtype) -> io::Result<Vec<u8>> {
        let query = question(name, rtype, self.conf.trust_ad, self.dnssec_ok)?;
        let limit = self.conf.timeout;
        let answer = ask_udp(server, &query, limit)?;
        let cut_short = Message::from_octets(answer.as_slice()).is_ok_and(|message| message.header().tc());
        if cut_short { ask_tcp(server, &query, limit) } else { Ok(answer) }
    }
}

impl Resolver for Stub {
    fn addresses(&self, name: &[u8]) -> Answer<IpAddr> {
        if let Some(address) = name.to_str().ok().and_then(|text| text.parse().ok()) {
            return Answer::Found { records: vec![address], secure: false, alias_of: None };
        }
        let mut known = hosts_addresses(&self.hosts_text(), name);
        known.retain(|address| self.ipv6 || address.is_ipv4());
        known.sort_by_key(IpAddr::is_ipv4); // IPv6 first, as Exim orders them
        if !known.is_empty() {
            return Answer::Found { records: known, secure: false, alias_of: None };
        }
        self.addresses_in_dns(name)
    }

    fn addresses_in_dns(&self, name: &[u8]) -> Answer<IpAddr> {
        let v4 = self.ask(name, Rtype::A, |record| match record.data() {
            AllRecordData::A(a) => Some(IpAddr::V4(a.addr())),
            _ => None,
        });
        if !self.ipv6 || matches!(v4, Answer::NoName) {
            return v4;
        }
        let v6 = self.ask(name, Rtype::AAAA, |record| match record.data() {
            AllRecordData::Aaaa(a) => Some(IpAddr::V6(a.addr())),
            _ => None,
        });
        join(v4, v6)
    }

    /// DNS first, /etc/hosts for what it does not have: `host_lookup_order = bydns:byaddr`.
    fn names(&self, address: IpAddr) -> Answer<BString> {
        let Ok(name) = Name::<Vec<u8>>::reverse_from_addr(address) else { return Answer::NoName };
        let answer = self.ask(name.to_string().as_bytes(), Rtype::PTR, |record| match record.data() {
            AllRecordData::Ptr(ptr) => Some(host_name(ptr.ptrdname())),
            _ => None,
        });
        if !matches!(answer, Answer::NoData | Answer::NoName) {
            return answer;
        }
        let known = hosts_names(&self.hosts_text(), address);
        match known.is_empty() {
            true => answer,
            false => Answer::Found { records: known, secure: false, alias_of: None },
        }
    }

    fn mx(&self, domain: &[u8]) -> Answer<Mx> {
        self.ask(domain, Rtype::MX, |record| match record.data() {
            AllRecordData::Mx(mx) => {
                Some(Mx { preference: mx.preference(), exchange: host_name(mx.exchange()) })
            }
            _ => None,
        })
    }

    fn txt(&self, name: &[u8]) -> Answer<BString> {
        self.ask(name, Rtype::TXT, |record| match record.data() {
            AllRecordData::Txt(txt) => Some(txt.text::<Vec<u8>>().into()),
            _ => None,
        })
    }

    fn tlsa(&self, name: &[u8]) -> Answer<Tlsa> {
        self.ask(name, Rtype::TLSA, tlsa_of)
    }
}

fn tlsa_of(record: &Record) -> Option<Tlsa> {
    match record.data() {
        AllRecordData::Tlsa(tlsa) => Some(Tlsa {
            usage: tlsa.usage().to_int(),
            selector: tlsa.selector().to_int(),
            matching: tlsa.matching_type().to_int(),
            data: tlsa.data().to_vec(),
        }),
        _ => None,
    }
}

/// Lower case, without the last dot.
fn host_name(name: &impl ToName) -> BString {
    let text = name.to_vec().to_string().to_ascii_lowercase();
    text.trim_end_matches('.').into()
}

/// IPv6 first, as the default address selection does; a failure counts only if nothing was found.
fn join(v4: Answer<IpAddr>, v6: Answer<IpAddr>) -> Answer<IpAddr> {
    match (v4, v6) {
        (
            Answer::Found { records: four, secure: a, alias_of },
            Answer::Found { records: mut six, secure: b, alias_of: other },
        ) => {
            six.extend(four);
            // Two answers that name two ends are one that changed between the questions: nobody vouches for both.
            Answer::Found { records: six, secure: a && b && alias_of == other, alias_of }
        }
        (found @ Answer::Found { .. }, _) | (_, found @ Answer::Found { .. }) => found,
        (later @ Answer::TryLater(_), _) | (_, later @ Answer::TryLater(_)) => later,
        (four, _) => four,
    }
}

fn judge<T>(bytes: &[u8], rtype: Rtype, trust_ad: bool, pick: &impl Fn(&Record) -> Option<T>) -> Answer<T> {
    let Ok(message) = Message::from_octets(bytes) else { return Answer::TryLater("answer too short".into()) };
    match message.header().rcode() {
        Rcode::NOERROR => {}
        Rcode::NXDOMAIN => return Answer::NoName,
        other => return Answer::TryLater(other.to_string()),
    }
    let owner = message.canonical_name();
    let Ok(section) = message.answer() else { return Answer::TryLater("malformed answer".into()) };
    let mut records = Vec::new();
    for record in section.limit_to::<AllRecordData<_, _>>() {
        // A broken answer says nothing: "there is no such record" would be final.
        let Ok(record) = record else { return Answer::TryLater("malformed answer".into()) };
        let asked = record.rtype() == rtype && owner.as_ref().is_none_or(|name| record.owner() == name);
        if asked && records.len() < MAX_RECORDS {
            records.extend(pick(&record));
        }
    }
    if records.is_empty() {
        return Answer::NoData;
    }
    let asked = message.sole_question().ok().map(|question| host_name(question.qname()));
    let alias_of = owner.as_ref().map(host_name).filter(|owner| asked.as_ref() != Some(owner));
    Answer::Found { records, secure: trust_ad && message.header().ad(), alias_of }
}

fn question(name: &Name<Vec<u8>>, rtype: Rtype, ad: bool, dnssec_ok: bool) -> io::Result<Query> {
    let full = |_| io::Error::other("question does not fit");
    let mut builder = MessageBuilder::from_target(StreamTarget::new_vec()).map_err(io::Error::other)?;
    let header = builder.header_mut();
    header.set_rd(true);
    header.set_ad(ad);
    header.set_random_id();
    let mut builder = builder.question();
    builder.push((name, rtype)).map_err(full)?;
    let mut builder = builder.additional();
    builder
        .opt(|opt| {
            opt.set_udp_payload_size(UDP_PAYLOAD);
            opt.set_dnssec_ok(dnssec_ok);
            Ok(())
        })
        .map_err(full)?;
    Ok(builder.finish())
}

/// A reply to this very question, from the server it was put to (the socket is connected).
fn is_answer(query: &Query, bytes: &[u8]) -> bool {
    match (Message::from_octets(bytes), Message::from_octets(query.as_dgram_slice())) {
        (Ok(answer), Ok(query)) => answer.is_answer(&query),
        _ => false,
    }
}

fn ask_udp(server: SocketAddr, query: &Query, limit: Duration) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.send(query.as_dgram_slice())?;
    let deadline = Instant::now() + limit;
    let mut buffer = vec![0; usize::from(UDP_PAYLOAD)];
    loop {
        socket.set_read_timeout(Some(remaining(deadline)?))?;
        let length = socket.recv(&mut buffer)?;
        // A late or forged datagram with another id is passed over; the deadline stays.
        if is_answer(query, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

fn ask_tcp(server: SocketAddr, query: &Query, limit: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + limit;
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_write_timeout(Some(remaining(deadline)?))?;
    stream.write_all(query.as_stream_slice())?;
    let mut length = [0; 2];
    read_until(&mut stream, &mut length, deadline)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    read_until(&mut stream, &mut answer, deadline)?;
    if is_answer(query, &answer) { Ok(answer) } else { Err(io::Error::other("answer to another question")) }
}

fn read_until(stream: &mut TcpStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        match stream.read(buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => buffer = &mut buffer[count..],
        }
    }
    Ok(())
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::base::iana::Class;
    use domain::rdata::{A, Aaaa, Cname, Mx as MxData, Ptr, Tlsa, Txt};
    use std::net::TcpListener;

    /// A name server on loopback: answers each question by the first letter of its name.
    fn serve(questions: usize) -> SocketAddr {
        // The port of the one may be taken with the other.
        let (udp, tcp) = std::iter::repeat_with(|| {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
            Some((udp, tcp))
        })
        .take(50)
        .find_map(|pair| pair)
        .unwrap();
        let address = udp.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            for _ in 0..questions {
                let (length, peer) = udp.recv_from(&mut buffer).unwrap();
                let reply = reply_to(&buffer[..length], false);
                udp.send_to(&reply, peer).unwrap();
                if Message::from_octets(reply).unwrap().header().tc() {
                    let (mut stream, _) = tcp.accept().unwrap();
                    let mut size = [0; 2];
                    stream.read_exact(&mut size).unwrap();
                    let mut query = vec![0; usize::from(u16::from_be_bytes(size))];
                    stream.read_exact(&mut query).unwrap();
                    let reply = reply_to(&query, true);
                    stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
                    stream.write_all(&reply).unwrap();
                }
            }
        });
        address
    }

    fn reply_to(query: &[u8], tcp: bool) -> Vec<u8> {
        let query = Message::from_octets(query).unwrap();
        let question = query.sole_question().unwrap();
        let name = question.qname().to_vec();
        let text = name.to_string();
        let rcode = match text.as_bytes()[0] {
            b'n' => Rcode::NXDOMAIN,
            b'x' => Rcode::SERVFAIL,
            _ => Rcode::NOERROR,
        };
        let mut answer = MessageBuilder::new_vec().start_answer(&query, rcode).unwrap();
        answer.header_mut().set_ad(text.starts_with("secure"));
        if text.starts_with('t') && !tcp {
            answer.header_mut().set_tc(true);
        } else if rcode == Rcode::NOERROR && !text.starts_with('e') {
            match question.qtype() {
                Rtype::A => answer.push((name, Class::IN, 60, A::from_octets(192, 0, 2, 7))).unwrap(),
                Rtype::AAAA => answer.push((name, Class::IN, 60, Aaaa::new(Ipv6Addr::LOCALHOST))).unwrap(),
                Rtype::MX => {
                    let exchange = Name::<Vec<u8>>::vec_from_str("Mail.Example.").unwrap();
                    answer.push((name, Class::IN, 60, MxData::new(10, exchange))).unwrap();
                }
                Rtype::PTR => {
                    let host = Name::<Vec<u8>>::vec_from_str("host.example.").unwrap();
                    answer.push((name, Class::IN, 60, Ptr::new(host))).unwrap();
                }
                Rtype::TLSA => {
                    let end = Name::<Vec<u8>>::vec_from_str("End.Example.").unwrap();
                    answer.push((name, Class::IN, 60, Cname::new(end.clone()))).unwrap();
                    let tlsa = Tlsa::new(3.into(), 1.into(), 1.into(), vec![9_u8; 32]);
                    answer.push((end, Class::IN, 60, tlsa)).unwrap();
                }
                _ => answer
                    .push((name, Class::IN, 60, Txt::<Vec<u8>>::build_from_slice(b"v=x").unwrap()))
                    .unwrap(),
            }
        }
        answer.finish()
    }

    fn stub(server: SocketAddr) -> Stub {
        let timeout = Duration::from_millis(500);
        let conf = ResolvConf { servers: vec![server], timeout, attempts: 1, trust_ad: true };
        Stub::new(conf, PathBuf::from("/nonexistent"), true)
    }

    #[test]
    fn found_nodata_nxdomain_and_servfail_are_told_apart() {
        let stub = stub(serve(7));
        let found = stub.addresses(b"found.example");
        let expected = ["::1".parse().unwrap(), "192.0.2.7".parse().unwrap()];
        assert_eq!(found, Answer::Found { records: expected.to_vec(), secure: false, alias_of: None });
        assert_eq!(stub.mx(b"empty.example"), Answer::NoData);
        assert_eq!(stub.addresses(b"no.example"), Answer::NoName);
        assert!(matches!(stub.txt(b"x.example"), Answer::TryLater(why) if why.contains("SERVFAIL")));
        let Answer::Found { records, secure, .. } = stub.mx(b"found.example") else { panic!() };
        assert_eq!((records[0].exchange.as_bstr(), secure), (b"mail.example".as_bstr(), false));
        assert!(
            matches!(stub.names("192.0.2.7".parse().unwrap()), Answer::Found { records, .. } if records[0] == "host.example")
        );
    }

    #[test]
    fn the_hosts_file_gives_ipv6_first_and_none_where_it_is_disabled() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"127.0.0.1 localhost\n::1 localhost ip6-localhost\n").unwrap();
        let found = |ipv6| {
            let conf = ResolvConf { servers: Vec::new(), ..ResolvConf::parse(b"") };
            match Stub::new(conf, file.path().to_owned(), ipv6).addresses(b"localhost") {
                Answer::Found { records, .. } => records.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(found(true), ["::1", "127.0.0.1"]);
        assert_eq!(found(false), ["127.0.0.1"]);
    }

    #[test]
    fn the_ad_bit_is_seen_and_a_cut_answer_is_asked_for_again_over_tcp() {
        let stub = stub(serve(2));
        assert!(matches!(stub.mx(b"secure.example"), Answer::Found { secure: true, .. }));
        assert!(matches!(stub.txt(b"tcp.example"), Answer::Found { records, .. } if records == ["v=x"]));
    }

    #[test]
    fn without_trust_in_the_name_server_nothing_is_secure_and_its_word_is_not_asked_for() {
        let trusting = stub(serve(1));
        let wary = Stub { conf: ResolvConf { trust_ad: false, ..trusting.conf.clone() }, ..trusting };
        assert!(matches!(wary.mx(b"secure.example"), Answer::Found { secure: false, .. }));
        let name = Name::<Vec<u8>>::vec_from_str("x.example").unwrap();
        for (ad, dnssec_ok) in [(false, true), (true, false)] {
            let query = question(&name, Rtype::MX, ad, dnssec_ok).unwrap();
            let query = Message::from_octets(query.as_dgram_slice()).unwrap();
            assert_eq!((query.header().ad(), query.opt().unwrap().dnssec_ok()), (ad, dnssec_ok));
        }
        assert!(!wary.without_signatures().dnssec_ok);
    }

    #[test]
    fn tlsa_records_are_found_at_the_end_of_an_alias_whose_name_is_told() {
        let stub = stub(serve(3));
        let record = super::Tlsa { usage: 3, selector: 1, matching: 1, data: vec![9; 32] };
        let alias_of = Some("end.example".into());
        let expected = Answer::Found { records: vec![record], secure: true, alias_of };
        assert_eq!(stub.tlsa(b"secure.example"), expected);
        assert_eq!(stub.tlsa(b"no.example"), Answer::NoName);
        assert!(matches!(stub.tlsa(b"x.example"), Answer::TryLater(_)));
    }

    #[test]
    fn silence_is_try_later_within_the_deadline() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let started = Instant::now();
        assert!(matches!(stub(silent.local_addr().unwrap()).mx(b"x.example"), Answer::TryLater(_)));
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    fn good_answer() -> Vec<u8> {
        good_answer_of(Rtype::A)
    }

    /// The answer to a question for a record of `found.example`, whole.
    fn good_answer_of(rtype: Rtype) -> Vec<u8> {
        let name = Name::<Vec<u8>>::vec_from_str("found.example.").unwrap();
        let mut query = MessageBuilder::new_vec().question();
        query.push((name, rtype)).unwrap();
        reply_to(&query.finish(), true)
    }

    fn addresses_of(answer: &[u8]) -> Answer<IpAddr> {
        judge(answer, Rtype::A, true, &|record: &Record| match record.data() {
            AllRecordData::A(a) => Some(IpAddr::V4(a.addr())),
            _ => None,
        })
    }

    #[test]
    fn an_answer_cut_short_is_try_later_not_no_such_record() {
        let answer = good_answer();
        assert!(matches!(addresses_of(&answer), Answer::Found { .. }));
        for end in 0..answer.len() {
            let judged = addresses_of(&answer[..end]);
            assert!(matches!(judged, Answer::TryLater(_)), "{end} of {}: {judged:?}", answer.len());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_breaks_the_resolver(changes in proptest::collection::vec((0_usize..200, 0_u8..), 1..8)) {
            for rtype in [Rtype::A, Rtype::TLSA] {
                let mut answer = good_answer_of(rtype);
                for (at, byte) in &changes {
                    let at = at % answer.len();
                    answer[at] = *byte;
                }
                let _ = addresses_of(&answer);
                let _ = judge(&answer, Rtype::TLSA, true, &tlsa_of);
            }
        }
    }
}
