//! HTTP as far as responders speak it: what is sent and what comes back, as bytes (no socket here).
//!
//! Questions go as RFC 5019 section 5 says: GET while the whole URL has at most 255 bytes, so that caches on the way
//! can answer, else POST. They are HTTP/1.0: one question, one answer, and the server closes. Answers of HTTP/1.1
//! are understood too, since some servers send nothing else (RFC 9112 sections 6 and 7). Redirections are not
//! followed: a responder that moved is named in the certificate or in the configuration.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// Longest answer of a responder: real ones have 300 bytes to 3 KiB.
pub const MAX_ANSWER: usize = 1024 * 1024;
/// Longest head of an answer: status line and fields.
const MAX_HEAD: usize = 32 * 1024;
/// Longest URL that is read.
const MAX_URL: usize = 2048;
/// Longest URL of a question by GET (RFC 5019 section 5).
const MAX_GET: usize = 255;
/// Longest line before a chunk: a length of 16 digits and an extension.
const MAX_CHUNK_LINE: usize = 256;

/// Where a responder listens: `http://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    /// A name, or an address without its brackets.
    pub host: String,
    /// Port; 80 if the URL names none.
    pub port: u16,
    /// Path and query; begins with `/`.
    target: String,
}

/// Why a text is no URL of a responder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Anything but `http://`: an answer is signed by itself, so responders do without TLS.
    #[error("it does not begin with http://")]
    Scheme,
    /// Longer than any real one.
    #[error("it is longer than {MAX_URL} bytes")]
    TooLong,
    /// Spaces, control characters, or bytes above 127.
    #[error("it contains a character that no URL has")]
    Character,
    /// Before the path stands no host, or what is not one.
    #[error("it names no host")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// `user:password@`.
    #[error("it holds a user name")]
    User,
}

/// Why an answer of a server is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not HTTP, or broken in its length fields or chunks.
    #[error("what the server sent is not HTTP: {0}")]
    NotHttp(&'static str),
    /// Another status than 200.
    #[error("the server answered {0}")]
    Status(String),
    /// More than the limit: [`MAX_ANSWER`], or for a list [`super::MAX_CRL_SIZE`].
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The connection ended in the middle.
    #[error("the connection ended in the middle of the answer")]
    CutShort,
}

impl Url {
    /// Reads a URL.
    pub fn parse(text: &[u8]) -> Result<Self, UrlError> {
        if text.len() > MAX_URL {
            return Err(UrlError::TooLong);
        }
        if !text.iter().all(u8::is_ascii_graphic) {
            return Err(UrlError::Character);
        }
        let text = std::str::from_utf8(text).map_err(|_| UrlError::Character)?;
        let after = match text.split_at_checked("http://".len()) {
            Some((scheme, after)) if scheme.eq_ignore_ascii_case("http://") => after,
            _ => return Err(UrlError::Scheme),
        };
        let without_fragment = after.split('#').next().unwrap_or_default();
        let end = without_fragment.find(['/', '?']).unwrap_or(without_fragment.len());
        let (authority, target) = without_fragment.split_at(end);
        if authority.contains('@') {
            return Err(UrlError::User);
        }
        let (host, port) = split_authority(authority)?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { host: host.to_owned(), port, target: format!("{slash}{target}") })
    }

    /// `host`, with brackets if it is an IPv6 address, and the port if it is not 80.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}{}", self.authority(), self.target)
    }
}

fn split_authority(authority: &str) -> Result<(&str, u16), UrlError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(UrlError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| UrlError::Host)?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(UrlError::Host),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(UrlError::Host);
    }
    match port.filter(|port| !port.is_empty()) {
        None => Ok((host, 80)),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => match port.parse() {
            Ok(number) if number > 0 => Ok((host, number)),
            _ => Err(UrlError::Port),
        },
        Some(_) => Err(UrlError::Port),
    }
}

/// The bytes that ask a responder about `question` (DER). `whole_url`: the request line names the whole URL, as a
/// proxy wants it.
pub fn question(url: &Url, question: &[u8], whole_url: bool) -> Vec<u8> {
    let place = |target: &str| match whole_url {
        true => format!("http://{}{target}", url.authority()),
        false => target.to_owned(),
    };
    let fields = fields(url, "application/ocsp-response");
    if let Some(target) = get_target(url, question) {
        return format!("GET {} HTTP/1.0\r\n{fields}\r\n", place(&target)).into_bytes();
    }
    let mut bytes = format!(
        "POST {} HTTP/1.0\r\n{fields}Content-Type: application/ocsp-request\r\nContent-Length: {}\r\n\r\n",
        place(&url.target),
        question.len()
    )
    .into_bytes();
    bytes.extend_from_slice(question);
    bytes
}

/// The bytes that ask for the revocation list at `url`. `whole_url` as in [`question`].
pub fn question_for_list(url: &Url, whole_url: bool) -> Vec<u8> {
    let place = if whole_url { url.to_string() } else { url.target.clone() };
    format!("GET {place} HTTP/1.0\r\n{}\r\n", fields(url, "application/pkix-crl, */*")).into_bytes()
}

fn fields(url: &Url, accept: &str) -> String {
    format!("Host: {}\r\nAccept: {accept}\r\nConnection: close\r\n", url.authority())
}

/// Path of a question by GET; none if it would be too long, or if the URL has a query of its own.
fn get_target(url: &Url, question: &[u8]) -> Option<String> {
    let mut target = url.target.clone();
    if target.contains('?') {
        return None;
    }
    if !target.ends_with('/') {
        target.push('/');
    }
    for character in STANDARD.encode(question).chars() {
        match character {
            '+' => target.push_str("%2B"),
            '/' => target.push_str("%2F"),
            '=' => target.push_str("%3D"),
            plain => target.push(plain),
        }
    }
    ("http://".len() + url.authority().len() + target.len() <= MAX_GET).then_some(target)
}

/// An answer while it comes in: each byte is looked at once, in whatever pieces they come.
#[derive(Debug)]
pub struct Answer {
    /// What came and was not understood yet: the head, or a piece of a chunk.
    bytes: Vec<u8>,
    head: Option<Length>,
    body: Vec<u8>,
    limit: usize,
}

impl Answer {
    /// One whose body has at most `limit` bytes.
    pub fn up_to(limit: usize) -> Self {
        Self { bytes: Vec::new(), head: None, body: Vec::new(), limit }
    }

    /// Takes what came, and gives the body once all of it is there. `ended`: the server has closed.
    pub fn take(&mut self, came: &[u8], ended: bool) -> Result<Option<Vec<u8>>, AnswerError> {
        self.bytes.extend_from_slice(came);
        if self.head.is_none() {
            let Some(head_end) = find(&self.bytes, b"\r\n\r\n") else {
                return match (self.bytes.len() > MAX_HEAD, ended) {
                    (true, _) => Err(AnswerError::NotHttp("its head has no end")),
                    (_, true) => Err(AnswerError::CutShort),
                    _ => Ok(None),
                };
            };
            self.head = Some(Head::parse(&self.bytes[..head_end])?.length);
            self.bytes.drain(..head_end + 4);
        }
        let whole = match self.head {
            Some(Length::Chunked) => {
                let (used, whole) = dechunk(&self.bytes, &mut self.body, self.limit)?;
                self.bytes.drain(..used);
                whole
            }
            Some(Length::Given(length)) => {
                self.body.append(&mut self.bytes);
                if length > self.limit {
                    return Err(AnswerError::TooLong(self.limit));
                }
                let whole = self.body.len() >= length;
                self.body.truncate(length);
                whole
            }
            Some(Length::ToTheEnd) | None => {
                self.body.append(&mut self.bytes);
                ended
            }
        };
        match whole {
            _ if self.body.len() > self.limit => Err(AnswerError::TooLong(self.limit)),
            true => Ok(Some(std::mem::take(&mut self.body))),
            false if ended => Err(AnswerError::CutShort),
            false => Ok(None),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Length {
    Given(usize),
    Chunked,
    ToTheEnd,
}

struct Head {
    length: Length,
}

impl Head {
    fn parse(head: &[u8]) -> Result<Self, AnswerError> {
        let text = std::str::from_utf8(head).map_err(|_| AnswerError::NotHttp("its head is not text"))?;
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = match status_line.split_once(' ') {
            Some((version, status)) if version.starts_with("HTTP/1.") => status,
            _ => return Err(AnswerError::NotHttp("no status line")),
        };
        if status.split(' ').next() != Some("200") {
            let shown = status.chars().filter(|c| !c.is_control()).take(100).collect();
            return Err(AnswerError::Status(shown));
        }
        let mut length = Length::ToTheEnd;
        for line in lines {
            let (name, value) =
                line.split_once(':').ok_or(AnswerError::NotHttp("a line of its head has no colon"))?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("transfer-encoding") {
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err(AnswerError::NotHttp("an unknown transfer encoding"));
                }
                length = Length::Chunked;
            } else if name.eq_ignore_ascii_case("content-length") && !matches!(length, Length::Chunked) {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let number = value.parse().ok().filter(|_| digits);
                length = Length::Given(number.ok_or(AnswerError::NotHttp("its length is not a number"))?);
            }
        }
        Ok(Self { length })
    }
}

/// Takes the chunks that are there (RFC 9112 section 7.1) into `body`; how many bytes that were, and whether the last
/// one was among them. Trailers are not waited for.
fn dechunk(bytes: &[u8], body: &mut Vec<u8>, limit: usize) -> Result<(usize, bool), AnswerError> {
    let mut rest = bytes;
    loop {
        let used = bytes.len() - rest.len();
        let Some(end) = find(&rest[..rest.len().min(MAX_CHUNK_LINE + 2)], b"\r\n") else {
            return match rest.len() > MAX_CHUNK_LINE {
                true => Err(AnswerError::NotHttp("the length of a chunk has no end")),
                false => Ok((used, false)),
            };
        };
        let digits = rest[..end].split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| usize::from_str_radix(digits, 16).ok())
            .ok_or(AnswerError::NotHttp("the length of a chunk is not a number"))?;
        if size == 0 {
            return Ok((used, true));
        }
        if size > limit - body.len() {
            return Err(AnswerError::TooLong(limit));
        }
        let Some((chunk, after)) = rest[end + 2..].split_at_checked(size) else { return Ok((used, false)) };
        match after.get(..2) {
            Some(b"\r\n") => {}
            Some(_) => return Err(AnswerError::NotHttp("a chunk is longer than its length")),
            None => return Ok((used, false)),
        }
        body.extend_from_slice(chunk);
        rest = &after[2..];
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn urls_are_read_and_shown() {
        for (text, host, port, shown) in [
            ("http://ocsp.test", "ocsp.test", 80, "http://ocsp.test/"),
            ("HTTP://ocsp.test:8080/a/b", "ocsp.test", 8080, "http://ocsp.test:8080/a/b"),
            ("http://[::1]:81?q=1#part", "::1", 81, "http://[::1]:81/?q=1"),
            ("http://127.0.0.1:/x", "127.0.0.1", 80, "http://127.0.0.1/x"),
        ] {
            let url = url(text);
            assert_eq!(
                (url.host.as_str(), url.port, url.to_string().as_str()),
                (host, port, shown),
                "{text}"
            );
        }
        for (text, error) in [
            (&b"https://ocsp.test/"[..], UrlError::Scheme),
            (b"ldap:///", UrlError::Scheme),
            (b"http:///path", UrlError::Host),
            (b"http://[::1/", UrlError::Host),
            (b"http://[name]/", UrlError::Host),
            (b"http://h:0/", UrlError::Port),
            (b"http://h:65536/", UrlError::Port),
            (b"http://h:+1/", UrlError::Port),
            (b"http://me@h/", UrlError::User),
            (b"http://h/\r\nX: y", UrlError::Character),
            (b"http://h/\xe4", UrlError::Character),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(Url::parse(&[b'a'; 3000]), Err(UrlError::TooLong));
    }

    #[test]
    fn a_short_question_goes_by_get_and_a_long_one_by_post() {
        let short =
            String::from_utf8(question(&url("http://ocsp.test/x"), &[0xfb, 0xff, 0x3e], false)).unwrap();
        assert!(short.starts_with("GET /x/%2B%2F8%2B HTTP/1.0\r\nHost: ocsp.test\r\n"), "{short}");
        let proxied = String::from_utf8(question(&url("http://[::1]:81"), b"abc", true)).unwrap();
        assert!(proxied.starts_with("GET http://[::1]:81/YWJj HTTP/1.0\r\nHost: [::1]:81\r\n"), "{proxied}");
        let long = question(&url("http://ocsp.test/x"), &[7; 200], false);
        let head = String::from_utf8_lossy(&long).into_owned();
        assert!(
            head.starts_with("POST /x HTTP/1.0\r\n") && head.contains("Content-Length: 200\r\n\r\n"),
            "{head}"
        );
        assert!(long.ends_with(&[7; 200]));
        assert!(question(&url("http://h/?q"), b"abc", false).starts_with(b"POST /?q HTTP/1.0\r\n"));
    }

    #[test]
    fn the_longest_get_has_255_bytes() {
        let url = url("http://ocsp.test/");
        let longest =
            (1..300).filter_map(|length| get_target(&url, &vec![b'a'; length])).map(|t| t.len()).max();
        assert!(
            matches!(longest, Some(length) if (252..=255).contains(&(length + "http://ocsp.test".len())))
        );
    }

    fn whole(text: &[u8]) -> Result<Option<Vec<u8>>, AnswerError> {
        Answer::up_to(MAX_ANSWER).take(text, true)
    }

    #[test]
    fn a_body_ends_where_its_length_its_chunks_or_the_connection_say() {
        let given = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef";
        assert_eq!(Answer::up_to(MAX_ANSWER).take(given, false), Ok(Some(b"abc".to_vec())));
        let chunked = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(Answer::up_to(MAX_ANSWER).take(chunked, false), Ok(Some(b"abc0123456789".to_vec())));
        assert_eq!(whole(b"HTTP/1.0 200 OK\r\n\r\nabc"), Ok(Some(b"abc".to_vec())));
        for cut in [&b""[..], b"HTTP/1.0 200 OK\r\nX: y\r\n", &given[..40], &chunked[..75]] {
            assert_eq!(whole(cut), Err(AnswerError::CutShort), "{}", String::from_utf8_lossy(cut));
        }
    }

    #[test]
    fn it_makes_no_difference_in_which_pieces_an_answer_comes() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        ] {
            let mut slowly = Answer::up_to(MAX_ANSWER);
            let got: Vec<_> = answer.iter().filter_map(|b| slowly.take(&[*b], false).unwrap()).collect();
            assert_eq!(got.first(), Some(&b"abc".to_vec()));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_with_its_reason() {
        for (answer, words) in [
            (&b"SSH-2.0-x\r\n\r\n"[..], "no status line"),
            (
                b"HTTP/1.1 301 Moved Permanently\r\nLocation: http://h/\r\n\r\n",
                "answered 301 Moved Permanently",
            ),
            (b"HTTP/1.1 503 \x1bx\r\n\r\n", "answered 503 x"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "its length is not a number"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", "longer than 1048576 bytes"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unknown transfer encoding"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "length of a chunk is not"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", "longer than its length"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                "longer than 1048576",
            ),
        ] {
            let error = whole(answer).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let endless = [&b"HTTP/1.1 200 OK\r\n"[..], &[b'x'; MAX_HEAD + 1]].concat();
        assert!(matches!(Answer::up_to(MAX_ANSWER).take(&endless, false), Err(AnswerError::NotHttp(_))));
        let huge = [&b"HTTP/1.0 200 OK\r\n\r\n"[..], &vec![b'x'; MAX_ANSWER + 1]].concat();
        assert_eq!(Answer::up_to(MAX_ANSWER).take(&huge, false), Err(AnswerError::TooLong(MAX_ANSWER)));
    }

    #[test]
    fn a_list_of_16_mib_in_small_pieces_is_read_in_time_in_proportion() {
        let limit = crate::ocsp::MAX_CRL_SIZE;
        let chunk = [&b"1000\r\n"[..], &[7; 0x1000], b"\r\n"].concat();
        let mut answer = Answer::up_to(limit);
        assert_eq!(answer.take(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false), Ok(None));
        let (mut held, mut most) = (0, 0);
        for _ in 0..limit / 0x1000 {
            for piece in chunk.chunks(1400) {
                assert_eq!(answer.take(piece, false), Ok(None));
                held = answer.bytes.len();
                most = most.max(held);
            }
        }
        // what was understood is not looked at again, which would be 16 MiB for each of 12,000 pieces
        assert!(held == 0 && most <= chunk.len(), "{held} bytes wait, {most} at most");
        let mut too_long = Answer::up_to(limit - 1);
        assert_eq!(too_long.take(b"HTTP/1.1 200 OK\r\n\r\n", false), Ok(None));
        assert_eq!(too_long.take(&vec![0; limit], false), Err(AnswerError::TooLong(limit - 1)));
        assert_eq!(answer.take(b"0\r\n\r\n", false).unwrap().map(|body| body.len()), Some(limit));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_pieces_make_no_difference(
            head in "HTTP/1\\.[01] 200 OK\r\n(Content-Length: [0-9]{1,3}\r\n|Transfer-Encoding: chunked\r\n)?\r\n",
            body in "([0-9a-f]{1,2}(;x)?\r\n|[a-f]{0,20}|\r\n|0\r\n\r\n){0,12}",
            cut in 1_usize..40,
        ) {
            let text = format!("{head}{body}");
            let at_once = Answer::up_to(200).take(text.as_bytes(), true);
            let mut slowly = Answer::up_to(200);
            let mut result = Ok(None);
            for piece in text.as_bytes().chunks(cut) {
                result = slowly.take(piece, false);
                if !matches!(result, Ok(None)) {
                    break;
                }
            }
            if result == Ok(None) {
                result = slowly.take(b"", true);
            }
            // a complete answer is taken before what is wrong behind it has come
            if at_once.is_ok() {
                proptest::prop_assert_eq!(result, at_once);
            }
        }
    }
}
