//! What is asked of a request's signature beside that it is right, which is left to the library.

use std::time::Duration;

use async_trait::async_trait;
use hyper::header;
use hyper::http::request::Parts;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::{Timestamp, TimestampFormat};
use s3s::host::{S3Host, VirtualHost};
use s3s::{S3ErrorCode, S3Result};

use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::payload::text;
use crate::signing::{Authorization, service_of};
use crate::text::from_form;
use crate::users::Users;

/// How far the clocks of clients may be wrong.
const SKEW: Duration = Duration::from_secs(15 * 60);
const PRESIGNED_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// Before the signature is computed. The library takes requests as signed whose signature leaves out what changes their meaning.
pub(crate) fn check(request: &Parts) -> Result<(), Fault> {
    let query = request.uri.query().unwrap_or("");
    if let Some(credential) = parameter(query, "X-Amz-Credential")? {
        return check_presigned(request, query, &credential);
    }
    let Some(authorization) = text(&request.headers, "authorization")? else {
        // Version 2 has the time of its end in the query. Without any signature it is refused later.
        return Ok(());
    };
    if authorization.starts_with("AWS ") {
        return check_date(request);
    }
    // The library understands more than that, and would take it as good.
    let authorization = Authorization::parse(authorization).ok_or(Fault::Authorization)?;
    if authorization.service != "s3" {
        return Err(Fault::AccessDenied);
    }
    check_signed_headers(request, authorization.signed_headers)
}

fn check_presigned(request: &Parts, query: &str, credential: &str) -> Result<(), Fault> {
    if service_of(credential) != Some("s3") {
        return Err(Fault::AccessDenied);
    }
    let expires = parameter(query, "X-Amz-Expires")?.unwrap_or_default();
    if expires.starts_with('-') {
        return Err(Fault::AccessDenied);
    }
    let seconds = expires
        .parse::<u64>()
        .map_err(|_| Fault::Expires("X-Amz-Expires is no number"))?;
    if !(1..=PRESIGNED_SECONDS_MAX).contains(&seconds) {
        return Err(Fault::Expires("X-Amz-Expires is not within a week"));
    }
    let signed = parameter(query, "X-Amz-SignedHeaders")?.unwrap_or_default();
    check_signed_headers(request, &signed)
}

/// Whoever stands between us and the client could add any that is not signed.
fn check_signed_headers(request: &Parts, signed: &str) -> Result<(), Fault> {
    let is_signed = |name: &str| {
        signed
            .split(';')
            .any(|other| other.eq_ignore_ascii_case(name))
    };
    let must_be = |name: &str| {
        name == "host" || (name.starts_with("x-amz-") && name != "x-amz-content-sha256")
    };
    let names = request.headers.keys().map(header::HeaderName::as_str);
    let mut unsigned = names.filter(|name| must_be(name) && !is_signed(name));
    if !is_signed("host") || unsigned.next().is_some() {
        return Err(Fault::HeadersNotSigned);
    }
    Ok(())
}

/// Version 2 signs its date, and the library does not look at it: a request could be sent again for ever.
fn check_date(request: &Parts) -> Result<(), Fault> {
    let headers = &request.headers;
    let date = match text(headers, "x-amz-date")? {
        Some(date) => Some(date),
        None => text(headers, "date")?,
    };
    let date = date.ok_or(Fault::AccessDenied)?;
    let date = date.replace("+0000", "GMT").replace("-0000", "GMT");
    let date =
        Timestamp::parse(TimestampFormat::HttpDate, &date).map_err(|_| Fault::AccessDenied)?;
    if date < Timestamp::default() {
        return Err(Fault::AccessDenied);
    }
    let now = rt::wall();
    if date < Timestamp::from(now - SKEW) || date > Timestamp::from(now + SKEW) {
        return Err(Fault::TimeTooSkewed);
    }
    Ok(())
}

/// Version 2 signs a bucket with a slash behind it, whether the path has one or not, and the library signs the path.
pub(crate) fn complete_path(request: &mut Parts) {
    let authorization = request.headers.get(header::AUTHORIZATION);
    let is_second = authorization.is_some_and(|value| value.as_bytes().starts_with(b"AWS "));
    let path = request.uri.path();
    if !is_second || path.len() < 2 || path[1..].contains('/') {
        return;
    }
    let query = request
        .uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    if let Ok(uri) = format!("{path}/{query}").parse() {
        request.uri = uri;
    }
}

/// Names may be encoded too.
fn parameter(query: &str, name: &str) -> Result<Option<String>, Fault> {
    const MALFORMED: Fault = Fault::Invalid("the query is not understood");
    for pair in query.split('&') {
        let (other, value) = pair.split_once('=').unwrap_or((pair, ""));
        if from_form(other).ok_or(MALFORMED)? == name {
            return from_form(value).ok_or(MALFORMED).map(Some);
        }
    }
    Ok(None)
}

/// After the signature has been found right.
pub(crate) struct Rules;

#[async_trait]
impl S3Access for Rules {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = context.s3_op().name().to_owned();
        let is_anonymous = context.credentials().is_none();
        if let Some(exchange) = context.extensions_mut().get::<Exchange>() {
            exchange.set_operation(operation);
        }
        if is_anonymous {
            return Err(Fault::AccessDenied.into());
        }
        if let Some(what) = not_implemented(context.headers()) {
            return Err(Fault::NotImplemented(what).into());
        }
        Ok(())
    }
}

/// What a request may ask for beside its operation and would not get. To say so is better than to forget an encryption or a lock.
fn not_implemented(headers: &hyper::HeaderMap) -> Option<&'static str> {
    const BEGINNINGS: [(&str, &str); 5] = [
        ("x-amz-server-side-encryption", "encryption"),
        ("x-amz-copy-source-server-side-encryption", "encryption"),
        ("x-amz-object-lock", "object lock"),
        ("x-amz-grant-", "access control lists"),
        ("x-amz-if-match-", "conditions on size or time"),
    ];
    const ALLOWED: [(&str, &[&str], &str); 6] = [
        (
            "x-amz-acl",
            &["private", "bucket-owner-full-control"],
            "access control lists",
        ),
        (
            "x-amz-object-ownership",
            &["BucketOwnerEnforced"],
            "access control lists",
        ),
        ("x-amz-storage-class", &["STANDARD"], "storage classes"),
        (
            "x-amz-bucket-object-lock-enabled",
            &["false", "False"],
            "object lock",
        ),
        ("x-amz-website-redirect-location", &[], "web sites"),
        ("x-amz-write-offset-bytes", &[], "appending"),
    ];
    headers.iter().find_map(|(name, value)| {
        let begins = BEGINNINGS
            .iter()
            .find(|(begin, _)| name.as_str().starts_with(begin));
        let differs = ALLOWED.iter().find(|(other, values, _)| {
            name == other && !values.iter().any(|allowed| value == allowed)
        });
        begins
            .map(|(_, what)| *what)
            .or(differs.map(|(_, _, what)| *what))
    })
}

#[async_trait]
impl S3Auth for Users {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        self.secret(access_key)
            .ok_or_else(|| S3ErrorCode::InvalidAccessKeyId.into())
    }
}

/// The names of this site. The library's own would take any other host as a bucket.
pub(crate) struct Domains(pub(crate) Vec<String>);

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        for domain in &self.0 {
            let Some(before) = name.len().checked_sub(domain.len()) else {
                continue;
            };
            let is_domain =
                name.is_char_boundary(before) && name[before..].eq_ignore_ascii_case(domain);
            if is_domain && let Some(bucket) = name[..before].strip_suffix('.') {
                return Ok(VirtualHost::new(domain).with_bucket(bucket));
            }
        }
        Ok(VirtualHost::new(name))
    }
}

#[cfg(test)]
mod tests;
