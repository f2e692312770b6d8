//! One request for the numbers and its answer, as bytes: just enough of HTTP (RFC 9110, RFC 9112) for who collects
//! metrics, and a clear refusal for everything else.

use crate::metrics::CONTENT_TYPE;
use bstr::ByteSlice;

/// Longest request: collectors send some hundred bytes.
pub const MAX_REQUEST: usize = 8 * 1024;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The numbers (HEAD: their length only).
    Metrics {
        /// With their text.
        body: bool,
    },
    /// Something that is refused.
    Bad(Refusal),
    /// Not yet clear: more has to be read.
    Incomplete,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP.
    Malformed,
    /// Another path.
    NotFound,
    /// Another method.
    Method,
    /// Too long.
    TooLong,
    /// Too slow.
    TooSlow,
    /// Another HTTP.
    Version,
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::Method => "405 Method Not Allowed",
            Self::TooSlow => "408 Request Timeout",
            Self::TooLong => "431 Request Header Fields Too Large",
            Self::Version => "505 HTTP Version Not Supported",
        }
    }
}

/// Reads what has come so far.
pub fn read(bytes: &[u8]) -> Request {
    // Who speaks TLS, or nothing like HTTP, need not be heard out.
    if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
        return Request::Bad(Refusal::Malformed);
    }
    let end = bytes.find(b"\r\n\r\n").into_iter().chain(bytes.find(b"\n\n")).min();
    match end {
        Some(end) if end <= MAX_REQUEST => read_head(&bytes[..end]),
        None if bytes.len() <= MAX_REQUEST => Request::Incomplete,
        _ => Request::Bad(Refusal::TooLong),
    }
}

fn read_head(head: &[u8]) -> Request {
    let mut lines = head.lines();
    let words: Vec<&[u8]> = lines.next().unwrap_or_default().split(|byte| *byte == b' ').collect();
    let &[method, target, version] = words.as_slice() else { return Request::Bad(Refusal::Malformed) };
    let is_current = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ if version.starts_with(b"HTTP/") => return Request::Bad(Refusal::Version),
        _ => return Request::Bad(Refusal::Malformed),
    };
    let mut has_host = false;
    for line in lines {
        let Some((name, _)) = line.split_once_str(b":") else { return Request::Bad(Refusal::Malformed) };
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_graphic()) {
            return Request::Bad(Refusal::Malformed);
        }
        has_host |= name.eq_ignore_ascii_case(b"host");
    }
    if is_current && !has_host {
        return Request::Bad(Refusal::Malformed);
    }
    if !matches!(method, b"GET" | b"HEAD") {
        return Request::Bad(Refusal::Method);
    }
    // Collectors may add parameters, which change nothing.
    match target.split(|byte| *byte == b'?').next() {
        Some(b"/metrics") => Request::Metrics { body: method == b"GET" },
        _ => Request::Bad(Refusal::NotFound),
    }
}

/// The answer with the numbers.
pub fn metrics(text: &str, body: bool) -> Vec<u8> {
    let length = text.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n"
    );
    [head.as_bytes(), if body { text.as_bytes() } else { b"" }].concat()
}

/// The answer to what is refused.
pub fn refusal(refusal: Refusal) -> Vec<u8> {
    let status = refusal.status();
    let allow = if refusal == Refusal::Method { "Allow: GET, HEAD\r\n" } else { "" };
    let body = format!("{status}: the numbers are at /metrics\n");
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{allow}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_numbers_are_served_and_every_refusal_has_its_status() {
        let all = Request::Metrics { body: true };
        assert_eq!(read(b"GET /metrics HTTP/1.0\r\n\r\n"), all);
        assert_eq!(read(b"GET /metrics?name=x HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\nrest"), all);
        assert_eq!(read(b"GET /metrics HTTP/1.0\nA: b\n\n"), all);
        assert_eq!(read(b"HEAD /metrics HTTP/1.0\r\n\r\n"), Request::Metrics { body: false });
        for (text, refusal) in [
            (&b"GET /metrics HTTP/1.1\r\n\r\n"[..], Refusal::Malformed),
            (b"GET /metrics HTTP/1.1\r\nHost localhost\r\n\r\n", Refusal::Malformed),
            (b"GET /metrics HTTP/1.1\r\nHost : localhost\r\n\r\n", Refusal::Malformed),
            (b"GET  /metrics HTTP/1.0\r\n\r\n", Refusal::Malformed),
            (b"GET /metrics\r\n\r\n", Refusal::Malformed),
            (b"\x16\x03\x01", Refusal::Malformed),
            (b"get /metrics HTTP/1.0\r\n\r\n", Refusal::Malformed),
            (b"GET /metrics FTP/1.0\r\n\r\n", Refusal::Malformed),
            (b"GET /metrics HTTP/2.0\r\n\r\n", Refusal::Version),
            (b"GET / HTTP/1.0\r\n\r\n", Refusal::NotFound),
            (b"GET /metrics/../x HTTP/1.0\r\n\r\n", Refusal::NotFound),
            (b"POST /metrics HTTP/1.0\r\n\r\n", Refusal::Method),
        ] {
            assert_eq!(read(text), Request::Bad(refusal), "{:?}", text.as_bstr());
        }
    }

    #[test]
    fn a_request_is_waited_for_up_to_its_limit() {
        assert_eq!(read(b""), Request::Incomplete);
        assert_eq!(read(b"GET /metrics HTTP/1.0\r\n"), Request::Incomplete);
        let mut long = b"GET /metrics HTTP/1.0\r\nA: ".to_vec();
        long.resize(MAX_REQUEST, b'x');
        assert_eq!(read(&long), Request::Incomplete);
        long.push(b'x');
        assert_eq!(read(&long), Request::Bad(Refusal::TooLong));
        long.extend_from_slice(b"\r\n\r\n");
        assert_eq!(read(&long), Request::Bad(Refusal::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_the_reader_and_what_is_clear_stays_so(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            more in "[ -~\r\n]{0,80}",
        ) {
            for start in [&b""[..], b"GET /metrics HTTP/1.1\r\n", b"HEAD /metrics?x HTTP/1.0\r\nA: b\r\n\r\n"] {
                let text = [start, &bytes].concat();
                let first = read(&text);
                if first != Request::Incomplete {
                    proptest::prop_assert_eq!(read(&[&text[..], more.as_bytes()].concat()), first);
                }
            }
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let text = String::from_utf8(metrics("# EOF\n", true)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nContent-Length: 6\r\n"),
            "{head}"
        );
        assert_eq!(body, "# EOF\n");
        assert!(metrics("# EOF\n", false).ends_with(b"\r\n\r\n"));
        assert!(refusal(Refusal::Method).contains_str("\r\nAllow: GET, HEAD\r\n"));
    }
}
