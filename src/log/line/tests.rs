//! Lines recorded from Exim 4.96, made again from their events.

use super::*;
use crate::text::Value;

const CIPHER: &str = "TLS1.3:ECDHE_SECP256R1__ECDSA_SECP256R1_SHA256__AES_256_GCM:256";

fn id(text: &str) -> MessageId {
    MessageId::parse(text.as_bytes()).unwrap()
}

fn all_of_exim() -> Selectors {
    Selectors::parse(b"+all -tls_ocsp").unwrap()
}

fn tls() -> TlsInfo {
    TlsInfo { cipher: CIPHER.into(), peer_dn: Value::tainted("CN=localhost,O=x"), ..TlsInfo::default() }
}

#[test]
fn arrival_lines_are_exims() {
    let tls = TlsInfo { certificate_verified: true, sni: Some(Value::tainted("sni.example")), ..tls() };
    let origin = Origin {
        host: "127.0.0.1:36324".parse().ok(),
        helo: Some("client.example".into()),
        interface: Some((std::net::Ipv4Addr::LOCALHOST.into(), 4125)),
        protocol: "esmtpsa".into(),
        authenticator: Some("plain".into()),
        authenticated_id: Some("joe".into()),
        tls: Some(tls),
        ..Origin::default()
    };
    let (id, sender) = (id("1xVV28-0007Rd-0s"), Address::new("joe", "test.example"));
    let arrival = Arrival {
        id: &id,
        fake: false,
        sender: &sender,
        raw_sender: &Address::new("s", "x.example"),
        about: None,
        origin: &origin,
        pipelining: "L.-".into(),
        chunking: false,
        size: 531,
        body_8bitmime: 0,
        receive_time: Duration::from_millis(1),
        message_id: Some("20261123142840.028619@vm".into()),
        message_id_created: false,
        subject: Some("test Mon, 23 Nov 2026 14:28:40 +0000".into()),
        recipients: &[Address::new("a", "y.example")],
        top_bit_prints: false,
    };
    let line = Event::Arrival(arrival.clone()).line(all_of_exim());
    assert_eq!(
        line,
        format!(
            "1xVV28-0007Rd-0s <= joe@test.example H=(client.example) [127.0.0.1]:36324 I=[127.0.0.1]:4125 \
             P=esmtpsa L.- X={CIPHER} CV=yes DN=\"CN=localhost,O=x\" SNI=sni.example A=plain:joe S=531 M8S=0 \
             RT=0.001s id=20261123142840.028619@vm T=\"test Mon, 23 Nov 2026 14:28:40 +0000\" \
             from <s@x.example> for a@y.example"
        )
    );
    let line = Event::Arrival(arrival).line(Selectors::parse(b"+tls_ocsp").unwrap());
    assert_eq!(
        line,
        format!(
            "1xVV28-0007Rd-0s <= joe@test.example H=(client.example) [127.0.0.1] P=esmtpsa X={CIPHER} CV=yes \
             OCSP=none A=plain:joe S=531 id=20261123142840.028619@vm"
        )
    );
}

#[test]
fn a_local_bounce_has_its_reference() {
    let (new, old) = (id("1xVVES-0006gn-1a"), id("1xVVES-0006gj-1N"));
    let origin = Origin { ident: Some("Debian-exim".into()), protocol: "local".into(), ..Origin::default() };
    let arrival = Arrival {
        id: &new,
        fake: false,
        sender: &Address::null(),
        raw_sender: &Address::null(),
        about: Some(&old),
        origin: &origin,
        pipelining: "".into(),
        chunking: false,
        size: 1687,
        body_8bitmime: 0,
        receive_time: Duration::ZERO,
        message_id: Some("E1xVVES-0006gn-1a@out.test.example".into()),
        message_id_created: true,
        subject: Some("Mail delivery failed".into()),
        recipients: &[],
        top_bit_prints: false,
    };
    let line = Event::Arrival(arrival).line(Selectors::default());
    assert_eq!(line, "1xVVES-0006gn-1a <= <> R=1xVVES-0006gj-1N U=Debian-exim P=local S=1687");
}

fn delivery<'a>(id: &'a MessageId, sender: &'a Address, flag: Flag, shown: &str) -> Delivery<'a> {
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    Delivery {
        id,
        flag,
        shown: shown.into(),
        parents: Vec::new(),
        by_parent: false,
        original: None,
        is_discarded: false,
        sender,
        return_path: Some("s@good.example".into()),
        router: "r".into(),
        transport: "smtp".into(),
        size: Some(277),
        host: Some(DeliveryHost {
            name: "127.0.0.1".into(),
            address: Some(address),
            secure: false,
            port: 4125,
            continued: false,
            interface: Some((address, 35956)),
        }),
        tls: None,
        pipelined: true,
        chunking: false,
        confirmation: "".into(),
        queue_time: Some(Duration::from_millis(57)),
        delivery_time: Some(Duration::from_millis(17)),
        errno: 0,
        error: b"".as_bstr(),
        reason: "".into(),
    }
}

#[test]
fn delivery_lines_are_exims() {
    let (id, sender, tls) = (id("1xVVES-0006ga-0t"), Address::new("s", "good.example"), tls());
    let success = Delivery {
        original: Some("x@alias.example".into()),
        tls: Some(&tls),
        confirmation: "250- 10 byte\n250 OK id=1".into(),
        ..delivery(&id, &sender, Flag::Delivered, "c@remote.example")
    };
    assert_eq!(
        Event::Delivery(success.clone()).line(all_of_exim()),
        format!(
            "1xVVES-0006ga-0t => c@remote.example <x@alias.example> F=<s@good.example> P=<s@good.example> R=r \
             T=smtp S=277 H=127.0.0.1 [127.0.0.1]:4125 I=[127.0.0.1]:35956 X={CIPHER} CV=no \
             DN=\"CN=localhost,O=x\" L C=\"250- 10 byte\\\\n250 OK id=1\" QT=0.057s DT=0.017s"
        )
    );
    let discarded = Delivery {
        original: Some("x@alias.example".into()),
        is_discarded: true,
        transport: "".into(),
        size: None,
        host: None,
        pipelined: false,
        queue_time: None,
        delivery_time: None,
        ..delivery(&id, &sender, Flag::Delivered, ":blackhole:")
    };
    assert_eq!(
        Event::Delivery(discarded).line(all_of_exim()),
        "1xVVES-0006ga-0t => :blackhole: <x@alias.example> R=r"
    );
    assert_eq!(
        Event::Delivery(success).line(Selectors::default()),
        format!(
            "1xVVES-0006ga-0t => c@remote.example <x@alias.example> R=r T=smtp H=127.0.0.1 [127.0.0.1] \
             X={CIPHER} CV=no C=\"250- 10 byte\\\\n250 OK id=1\""
        )
    );
}

#[test]
fn failures_and_deferrals_are_exims() {
    let (id, sender) = (id("1xVVES-0006ga-0t"), Address::new("s", "good.example"));
    let defer = Delivery {
        errno: -44,
        delivery_time: Some(Duration::ZERO),
        reason: "SMTP error from remote mail server after RCPT TO:<later@remote.example>: 451 later".into(),
        ..delivery(&id, &sender, Flag::Deferred, "later@remote.example")
    };
    assert_eq!(
        Event::Delivery(defer).line(all_of_exim()),
        "1xVVES-0006ga-0t == later@remote.example R=r T=smtp defer (-44) H=127.0.0.1 [127.0.0.1]:4125 \
         I=[127.0.0.1]:35956 DT=0.000s: SMTP error from remote mail server after \
         RCPT TO:<later@remote.example>: 451 later"
    );
    let fail = Delivery {
        return_path: None,
        transport: "".into(),
        host: None,
        delivery_time: Some(Duration::ZERO),
        reason: "no such user".into(),
        ..delivery(&id, &sender, Flag::Failed, "r4@fail.example")
    };
    assert_eq!(
        Event::Delivery(fail).line(all_of_exim()),
        "1xVVES-0006ga-0t ** r4@fail.example F=<s@good.example> R=r: no such user DT=0.000s"
    );
    let completed = Event::Completed { id: &id, queue_time: Duration::from_secs(225) };
    assert_eq!(completed.line(all_of_exim()), "1xVVES-0006ga-0t Completed QT=3m45s");
}
