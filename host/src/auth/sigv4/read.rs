//! The reading of a signature, from the `Authorization` header or from the query.

use std::collections::BTreeSet;

use http::header::AUTHORIZATION;
use time::{Date, Month, Time};

use super::canonical::{parameters, unhex};
use super::{ALGORITHM, HASH, Signature, SignatureFault, SignedRequest, TERMINATOR};

/// The longest time for which a request can be presigned: seven days, as AWS has it.
const MAX_EXPIRES_S: u64 = 7 * 86_400;

/// The names of the query parameters that make a presigned request begin so.
const QUERY_PREFIX: &str = "X-Amz-";

const DATE_HEADER: &str = "x-amz-date";
const HASH_HEADER: &str = "x-amz-content-sha256";

/// The parts of a signature as they are written.
#[derive(Default)]
struct Parts {
    credential: Option<String>,
    date: Option<String>,
    expires: Option<String>,
    signed_headers: Option<String>,
    tag: Option<String>,
}

pub(super) fn read<'a>(
    request: SignedRequest<'a>,
    service: &'static str,
) -> Result<Option<Signature<'a>>, SignatureFault> {
    let in_header = of_header(&request)?;
    let in_query = of_query(&request)?;
    let (parts, presigned) = match (in_header, in_query) {
        (None, None) => return Ok(None),
        (Some(parts), None) => (parts, false),
        (None, Some(parts)) => (parts, true),
        (Some(_), Some(_)) => return malformed("it stands in a header and in the query"),
    };
    let time_text = need(parts.date, "no date")?;
    let time = seconds(&time_text).ok_or(SignatureFault::Malformed("the date"))?;
    let credential = need(parts.credential, "no Credential")?;
    let (key_id, date, region) =
        scope(&credential, service).ok_or(SignatureFault::Malformed("the Credential"))?;
    if !time_text.starts_with(date) {
        return malformed("the Credential is of another day than the date");
    }
    let expires = match (presigned, parts.expires) {
        (false, _) => None,
        (true, expires) => {
            let text = need(expires, "no X-Amz-Expires")?;
            let seconds = decimal(&text).filter(|seconds| (1..=MAX_EXPIRES_S).contains(seconds));
            Some(seconds.ok_or(SignatureFault::Malformed(
                "X-Amz-Expires is not 1 to 604800",
            ))?)
        }
    };
    let tag = need(parts.tag, "no Signature")?;
    let signed_headers = need(parts.signed_headers, "no SignedHeaders")?;
    check_signed_headers(&request, &signed_headers)?;
    Ok(Some(Signature {
        request,
        key_id: key_id.to_owned(),
        date: date.to_owned(),
        region: region.to_owned(),
        service,
        time,
        expires,
        tag: unhex(tag.as_bytes()).ok_or(SignatureFault::Malformed("the Signature"))?,
        declared_hash: declared_hash(&request)?,
        time_text,
        signed_headers,
    }))
}

/// Reads `Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…` and `x-amz-date`.
fn of_header(request: &SignedRequest<'_>) -> Result<Option<Parts>, SignatureFault> {
    let mut values = request.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let Some(listed) = value.as_bytes().strip_prefix(ALGORITHM.as_bytes()) else {
        return Ok(None);
    };
    if values.next().is_some() {
        return malformed("Authorization occurs twice");
    }
    let Some(listed) = str::from_utf8(listed)
        .ok()
        .and_then(|listed| listed.strip_prefix(' '))
    else {
        return malformed("Authorization");
    };
    let mut parts = Parts::default();
    for part in listed.split(',') {
        let (name, value) = part.trim().split_once('=').unwrap_or_default();
        let place = match name {
            "Credential" => &mut parts.credential,
            "SignedHeaders" => &mut parts.signed_headers,
            "Signature" => &mut parts.tag,
            _ => return malformed("Authorization has a part that is not known"),
        };
        set(place, value)?;
    }
    let mut dates = request.headers.get_all(DATE_HEADER).iter();
    let date = dates.next().and_then(|date| date.to_str().ok());
    if dates.next().is_some() {
        return malformed("x-amz-date occurs twice");
    }
    parts.date = date.map(str::to_owned);
    Ok(Some(parts))
}

/// Reads the `X-Amz-…` parameters of a presigned request.
fn of_query(request: &SignedRequest<'_>) -> Result<Option<Parts>, SignatureFault> {
    if !request.query.contains(QUERY_PREFIX) {
        return Ok(None);
    }
    let parameters = parameters(request.query).ok_or(SignatureFault::Malformed("the query"))?;
    let mut parts = Parts::default();
    let (mut algorithm, mut others) = (None, BTreeSet::new());
    for (name, value) in parameters {
        let (Ok(name), Ok(value)) = (String::from_utf8(name), String::from_utf8(value)) else {
            return malformed("the query is not UTF-8");
        };
        let Some(own) = name.strip_prefix(QUERY_PREFIX) else {
            continue;
        };
        let place = match own {
            "Algorithm" => &mut algorithm,
            "Credential" => &mut parts.credential,
            "Date" => &mut parts.date,
            "Expires" => &mut parts.expires,
            "SignedHeaders" => &mut parts.signed_headers,
            "Signature" => &mut parts.tag,
            // A session token, for one. It is signed like any other parameter.
            other if others.insert(other.to_owned()) => continue,
            _ => return malformed("a part occurs twice"),
        };
        set(place, &value)?;
    }
    match algorithm.as_deref() {
        Some(ALGORITHM) => Ok(Some(parts)),
        Some(_) => malformed("the algorithm is not AWS4-HMAC-SHA256"),
        None if parts.tag.is_some() => malformed("no X-Amz-Algorithm"),
        None => Ok(None),
    }
}

/// Splits a credential: `ID/YYYYMMDD/REGION/SERVICE/aws4_request`. Any region will do: a gateway has none.
fn scope<'c>(credential: &'c str, service: &str) -> Option<(&'c str, &'c str, &'c str)> {
    let mut parts = credential.split('/');
    let (key_id, date, region) = (parts.next()?, parts.next()?, parts.next()?);
    let rest = (parts.next()?, parts.next()?, parts.next());
    let is_valid = rest == (service, TERMINATOR, None)
        && !key_id.is_empty()
        && !region.is_empty()
        && date.len() == 8;
    is_valid.then_some((key_id, date, region))
}

/// Checks that the names are sorted, that their headers are there, and that none is left out that must be signed.
fn check_signed_headers(
    request: &SignedRequest<'_>,
    signed_headers: &str,
) -> Result<(), SignatureFault> {
    let mut last = "";
    for name in signed_headers.split(';') {
        if name <= last || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return malformed("SignedHeaders are not sorted names in lower case");
        }
        if name != "host" && !request.headers.contains_key(name) {
            return malformed("a signed header is not there");
        }
        last = name;
    }
    let is_signed = |wanted: &str| signed_headers.split(';').any(|name| name == wanted);
    if !is_signed("host") {
        return malformed("the Host is not signed");
    }
    for name in request.headers.keys() {
        if name.as_str().starts_with("x-amz-") && !is_signed(name.as_str()) {
            return malformed("an x-amz- header is not signed");
        }
    }
    Ok(())
}

fn declared_hash(request: &SignedRequest<'_>) -> Result<Option<[u8; HASH]>, SignatureFault> {
    let mut values = request.headers.get_all(HASH_HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let hash = unhex(value.as_bytes());
            Ok(Some(hash.ok_or(SignatureFault::Malformed(
                "x-amz-content-sha256 is not the SHA-256 of a body",
            ))?))
        }
        (Some(_), Some(_)) => malformed("x-amz-content-sha256 occurs twice"),
    }
}

/// Reads `YYYYMMDDTHHMMSSZ`, in seconds since the Unix epoch.
fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    if date.len() != 8 || time.len() != 6 {
        return None;
    }
    let number = |part: Option<&str>| decimal(part?);
    let small = |part: Option<&str>| u8::try_from(number(part)?).ok();
    let year = i32::try_from(number(date.get(..4))?).ok()?;
    let month = Month::try_from(small(date.get(4..6))?).ok()?;
    let day = Date::from_calendar_date(year, month, small(date.get(6..))?).ok()?;
    let (hour, minute, second) = (time.get(..2), time.get(2..4), time.get(4..));
    let time = Time::from_hms(small(hour)?, small(minute)?, small(second)?).ok()?;
    let at = day.with_time(time).assume_utc().unix_timestamp();
    u64::try_from(at).ok()
}

/// Reads a number of digits alone.
fn decimal(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn set(place: &mut Option<String>, value: &str) -> Result<(), SignatureFault> {
    match place.replace(value.to_owned()) {
        None => Ok(()),
        Some(_) => malformed("a part occurs twice"),
    }
}

fn need(part: Option<String>, missing: &'static str) -> Result<String, SignatureFault> {
    part.ok_or(SignatureFault::Malformed(missing))
}

fn malformed<T>(what: &'static str) -> Result<T, SignatureFault> {
    Err(SignatureFault::Malformed(what))
}
