//! The text of a revocation list (RFC 5280 chapter 5), read where it lies: what is kept beside it are four bytes for each
//! entry. Nothing is judged here but what could never be used.

use super::crl::UnfitCrl;
use crate::tls::gnutls::crl::Signature;
use crate::tls::gnutls::der::{
    BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE, UTC_TIME, expect,
    split,
};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::cmp::Ordering;
use std::ops::Range;
use std::time::{Duration, SystemTime};

/// Object identifiers of extensions, 2.5.29.x.
const EXTENSION: [u8; 2] = [0x55, 0x1d];
/// `[0]` and `[1]` and so on, constructed or not, as they stand in an issuing distribution point.
const CONTEXT: u8 = 0x80;
const CONSTRUCTED: u8 = 0x20;
/// `[6]`, a URI among names.
const URI: u8 = 0x86;
/// Most extensions of a list or an entry that are looked at: real ones have five.
const MAX_EXTENSIONS: usize = 64;

/// Where the fields of a list lie in its text, and the few that are taken out.
#[derive(Debug)]
pub(super) struct Fields {
    /// What is signed.
    pub signed: Range<usize>,
    /// How.
    pub algorithm: Signature,
    /// The signature.
    pub signature: Range<usize>,
    /// The issuer's name, DER.
    pub issuer: Range<usize>,
    /// Made then.
    pub this_update: SystemTime,
    /// The next one is there by then.
    pub next_update: Option<SystemTime>,
    /// Where the entries begin, in the order of their serial numbers.
    pub entries: Vec<u32>,
    /// Of which certificates it speaks.
    pub scope: Scope,
}

/// Of which of its issuer's certificates a list speaks (issuing distribution point, RFC 5280 5.2.5).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Of those of users only.
    pub users: bool,
    /// Of those of authorities only.
    pub authorities: bool,
    /// Only of certificates that name one of these addresses; none: of all.
    pub points: Option<Vec<Vec<u8>>>,
}

/// Reads a list in DER.
pub(super) fn read(der: &[u8]) -> Result<Fields, UnfitCrl> {
    let place = |part: &[u8]| {
        let start = part.as_ptr().addr() - der.as_ptr().addr();
        start..start + part.len()
    };
    let (list, rest) = expect(der, SEQUENCE).ok_or_else(malformed)?;
    if !rest.is_empty() {
        return Err(UnfitCrl::Malformed("something follows the list"));
    }
    let (body, after) = expect(list, SEQUENCE).ok_or_else(malformed)?;
    let signed = &list[..list.len() - after.len()];
    let (outer, after) = expect(after, SEQUENCE).ok_or_else(malformed)?;
    let (bits, after) = expect(after, BIT_STRING).ok_or_else(malformed)?;
    let Some((&0, signature)) = bits.split_first().filter(|_| after.is_empty()) else {
        return Err(malformed());
    };
    let mut body = Body(body);
    // Version 1, which openssl writes by default, has neither the field nor extensions.
    if let Some((version, _)) = expect(body.0, INTEGER) {
        if version != [1] {
            return Err(UnfitCrl::Malformed("of a version that is not known"));
        }
        body.next(INTEGER)?;
    }
    let inner = body.next(SEQUENCE)?;
    if inner != outer {
        return Err(UnfitCrl::Malformed("two signature algorithms"));
    }
    let (id, _) = expect(inner, OBJECT_ID).ok_or_else(malformed)?;
    let algorithm = Signature::from_object_id(id).ok_or(UnfitCrl::Algorithm)?;
    let before = body.0;
    body.next(SEQUENCE)?;
    let issuer = &before[..before.len() - body.0.len()];
    let this_update = body.time()?.ok_or_else(malformed)?;
    let next_update = body.time()?;
    let entries = match expect(body.0, SEQUENCE) {
        Some((entries, after)) => {
            body.0 = after;
            read_entries(entries, der)?
        }
        None => Vec::new(),
    };
    let scope = match split(body.0) {
        None => Scope::default(),
        Some((tag, extensions, [])) if tag == CONTEXT | CONSTRUCTED => read_extensions(extensions)?,
        Some(_) => return Err(malformed()),
    };
    let (signed, signature, issuer) = (place(signed), place(signature), place(issuer));
    Ok(Fields { signed, algorithm, signature, issuer, this_update, next_update, entries, scope })
}

/// Where the issuer's name lies, in a list that may be of no use otherwise.
pub(super) fn issuer(der: &[u8]) -> Option<Range<usize>> {
    let (list, _) = expect(der, SEQUENCE)?;
    let (body, _) = expect(list, SEQUENCE)?;
    let body = expect(body, INTEGER).map_or(body, |(_, after)| after);
    let (_, name) = expect(body, SEQUENCE)?;
    let (_, after) = expect(name, SEQUENCE)?;
    let start = name.as_ptr().addr() - der.as_ptr().addr();
    Some(start..start + name.len() - after.len())
}

/// What is left of the signed part.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn next(&mut self, tag: u8) -> Result<&'a [u8], UnfitCrl> {
        let (contents, rest) = expect(self.0, tag).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(contents)
    }

    /// The next element, if it is a time.
    fn time(&mut self) -> Result<Option<SystemTime>, UnfitCrl> {
        let Some((tag @ (UTC_TIME | GENERALIZED_TIME), text, rest)) = split(self.0) else { return Ok(None) };
        self.0 = rest;
        time(tag, text).map(Some).ok_or(UnfitCrl::Malformed("an impossible time"))
    }
}

/// The places of all entries, sorted by serial number.
fn read_entries(mut rest: &[u8], der: &[u8]) -> Result<Vec<u32>, UnfitCrl> {
    let mut places = Vec::new();
    while !rest.is_empty() {
        let (contents, after) = expect(rest, SEQUENCE).ok_or_else(malformed)?;
        let place = rest.as_ptr().addr() - der.as_ptr().addr();
        places.push(u32::try_from(place).map_err(|_| malformed())?);
        let mut entry = Body(contents);
        entry.next(INTEGER)?;
        entry.time()?.ok_or_else(malformed)?;
        if !entry.0.is_empty() {
            let extensions = entry.next(SEQUENCE)?;
            check_entry_extensions(extensions)?;
        }
        rest = after;
    }
    let serial = |place: &u32| serial_at(der, *place).unwrap_or_default();
    places.sort_unstable_by(|a, b| compare(serial(a), serial(b)));
    places.shrink_to_fit();
    Ok(places)
}

/// Reason and date of invalidity change nothing; another issuer (an indirect list) or something unknown would.
fn check_entry_extensions(extensions: &[u8]) -> Result<(), UnfitCrl> {
    for_each_extension(extensions, |id, critical, _| match id {
        [0x55, 0x1d, 29] => Err(UnfitCrl::Indirect),
        [0x55, 0x1d, 21 | 24] => Ok(()),
        _ if critical => Err(UnfitCrl::UnknownExtension),
        _ => Ok(()),
    })
}

fn read_extensions(explicit: &[u8]) -> Result<Scope, UnfitCrl> {
    let mut scope = Scope::default();
    let (extensions, _) = expect(explicit, SEQUENCE).ok_or_else(malformed)?;
    for_each_extension(extensions, |id, critical, value| {
        match id.strip_prefix(&EXTENSION) {
            // delta CRL indicator
            Some([27]) => return Err(UnfitCrl::Delta),
            Some([28]) => scope = read_scope(value)?,
            // issuer's other names, number, where deltas are, issuer's key
            Some([18 | 20 | 46 | 35]) => {}
            _ if critical => return Err(UnfitCrl::UnknownExtension),
            _ => {}
        }
        Ok(())
    })?;
    Ok(scope)
}

fn for_each_extension<'a>(
    mut rest: &'a [u8],
    mut each: impl FnMut(&'a [u8], bool, &'a [u8]) -> Result<(), UnfitCrl>,
) -> Result<(), UnfitCrl> {
    let mut count = 0;
    while !rest.is_empty() {
        count += 1;
        if count > MAX_EXTENSIONS {
            return Err(UnfitCrl::Malformed("too many extensions"));
        }
        let (extension, after) = expect(rest, SEQUENCE).ok_or_else(malformed)?;
        let (id, mut value) = expect(extension, OBJECT_ID).ok_or_else(malformed)?;
        let mut critical = false;
        if let Some((truth, after)) = expect(value, BOOLEAN) {
            (critical, value) = (truth != [0], after);
        }
        let (value, _) = expect(value, OCTET_STRING).ok_or_else(malformed)?;
        each(id, critical, value)?;
        rest = after;
    }
    Ok(())
}

/// The issuing distribution point.
fn read_scope(value: &[u8]) -> Result<Scope, UnfitCrl> {
    let mut scope = Scope::default();
    let (mut rest, _) = expect(value, SEQUENCE).ok_or_else(malformed)?;
    while !rest.is_empty() {
        let (tag, contents, after) = split(rest).ok_or_else(malformed)?;
        let is_true = contents.first().is_some_and(|byte| *byte != 0);
        match tag & !CONSTRUCTED {
            CONTEXT => scope.points = Some(read_point(contents)?),
            0x81 => scope.users = is_true,
            0x82 => scope.authorities = is_true,
            // A list of some reasons says nothing of the others.
            0x83 => return Err(UnfitCrl::SomeReasons),
            0x84 if is_true => return Err(UnfitCrl::Indirect),
            0x85 if is_true => return Err(UnfitCrl::Attributes),
            0x84 | 0x85 => {}
            _ => return Err(malformed()),
        }
        rest = after;
    }
    Ok(scope)
}

/// The addresses among the names of a distribution point.
fn read_point(contents: &[u8]) -> Result<Vec<Vec<u8>>, UnfitCrl> {
    let mut points = Vec::new();
    let (tag, mut names, _) = split(contents).ok_or_else(malformed)?;
    // A name relative to the issuer's would be [1]; nobody has one, and no certificate is compared with it.
    if tag != CONTEXT | CONSTRUCTED {
        return Ok(points);
    }
    while !names.is_empty() && points.len() < MAX_EXTENSIONS {
        let (tag, name, after) = split(names).ok_or_else(malformed)?;
        if tag == URI {
            points.push(name.to_vec());
        }
        names = after;
    }
    Ok(points)
}

/// The serial number of the entry that begins there.
pub(super) fn serial_at(der: &[u8], place: u32) -> Option<&[u8]> {
    let (entry, _) = expect(der.get(place as usize..)?, SEQUENCE)?;
    expect(entry, INTEGER).map(|(serial, _)| serial)
}

/// Since when the certificate of that entry is revoked.
pub(super) fn date_at(der: &[u8], place: u32) -> Option<SystemTime> {
    let (entry, _) = expect(der.get(place as usize..)?, SEQUENCE)?;
    let (_, rest) = expect(entry, INTEGER)?;
    let (tag, text, _) = split(rest)?;
    time(tag, text)
}

/// The order of serial numbers; zeros in front do not count.
pub(super) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |number: &[u8]| number.iter().take_while(|byte| **byte == 0).count();
    let (a, b) = (&a[significant(a)..], &b[significant(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// UTCTime and GeneralizedTime as RFC 5280 4.1.2.5 wants them: to the second, and UTC.
fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |range: Range<usize>| std::str::from_utf8(digits.get(range)?).ok()?.parse::<i16>().ok();
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(0..2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, 2)
        }
        (GENERALIZED_TIME, 14) => (number(0..4)?, 4),
        _ => return None,
    };
    let part = |at: usize| i8::try_from(number(rest + 2 * at..rest + 2 * at + 2)?).ok();
    let civil = DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    let seconds = TimeZone::UTC.to_timestamp(civil).ok()?.as_second();
    // What was before 1970 is as good as then.
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn malformed() -> UnfitCrl {
    UnfitCrl::Malformed("not the DER of a list")
}
