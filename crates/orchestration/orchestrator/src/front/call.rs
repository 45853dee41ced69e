//! A request that was let in.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts as _, Path, Request};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, IF_MATCH, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, request};
use ids::Name;
use nbi::{Checked, parse_duration};
use tokio::time::{Instant, timeout_at};

use super::Front;
use super::answer::Refusal;
use crate::controller::Role;
use crate::controller::requests::{IDEMPOTENCY_KEY, is_idempotency_key};

/// Bodies but modules.
const BODY_BYTES_MAX: usize = 1 << 20;
const BODY_BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// Bodies and answers of pages.
pub(super) const PAGE_MAX: usize = 500;
const PAGE: usize = 100;

/// What an endpoint says about its requests.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) parameters: Vec<&'static str>,
    pub(super) consumes: Option<&'static str>,
    pub(super) produces: &'static str,
    /// Whether it is about what belongs to the platform.
    pub(super) wants_operator: bool,
}

/// Who asks for what.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) org: Name,
    pub(super) headers: HeaderMap,
    path: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
    consumes: Option<&'static str>,
    body: Body,
    patience: Duration,
}

impl FromRequest<Front> for Call {
    type Rejection = Refusal;

    async fn from_request(request: Request, front: &Front) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let (org, role) = authenticate(&parts.headers, front)?;
        let path = Path::<BTreeMap<String, String>>::from_request_parts(&mut parts, front).await;
        // What is no text is no name.
        let Path(path) = path.map_err(|_| Refusal::new(404, "no such path"))?;
        let request::Parts {
            uri,
            headers,
            extensions,
            ..
        } = parts;
        let Some(rules) = extensions.get::<Rules>() else {
            return Err(Refusal::new(500, "an endpoint without rules"));
        };
        if rules.wants_operator && role != Role::Operator {
            let detail = "sites belong to the platform: ask its operator, or with the token of one";
            return Err(Refusal::new(403, detail));
        }
        if !accepts(&headers, rules.produces) {
            let detail = format!(
                "this is shown as {} only: see the header Accept",
                rules.produces
            );
            return Err(Refusal::new(406, detail));
        }
        Ok(Self {
            org,
            query: parameters(uri.query().unwrap_or(""), &rules.parameters)?,
            path,
            headers,
            consumes: rules.consumes,
            body,
            patience: front.limits.patience,
        })
    }
}

fn authenticate(headers: &HeaderMap, front: &Front) -> Result<(Name, Role), Refusal> {
    let refuse = |detail: &str| Refusal::new(401, detail);
    let header = headers
        .get(AUTHORIZATION)
        .ok_or_else(|| refuse("say who asks: `Authorization: Bearer TOKEN`"))?;
    let token = header.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    let token = token.ok_or_else(|| refuse("this is not `Authorization: Bearer TOKEN`"))?;
    let caller = front.controller.authenticate(token);
    caller.ok_or_else(|| refuse("nobody here knows this token"))
}

/// Whether the caller reads such a body (RFC 9110, 12.5.1), leaving out which one it likes best.
fn accepts(headers: &HeaderMap, produces: &str) -> bool {
    let kind = produces.split('/').next().unwrap_or(produces);
    let is_accepted = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let wanted = parts.next().unwrap_or("").to_ascii_lowercase();
        let is_unwanted = parts.any(|part| {
            let quality = part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
            quality == Some(0.0)
        });
        !is_unwanted && (wanted == "*/*" || wanted == produces || wanted == format!("{kind}/*"))
    };
    let mut ranges = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("").split(','))
        .peekable();
    ranges.peek().is_none() || ranges.any(is_accepted)
}

/// The parameters of a query by name, each once, and each one that is described.
fn parameters(query: &str, known: &[&str]) -> Result<BTreeMap<String, String>, Refusal> {
    let mut found = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (unescape(name), unescape(value)) else {
            return Err(Refusal::new(
                400,
                "a parameter is not percent-encoded UTF-8",
            ));
        };
        let pointer = format!("?{}", name.chars().take(80).collect::<String>());
        if !known.contains(&name.as_str()) {
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            let detail = format!("no such parameter; here are: {known}");
            return Err(Refusal::new(400, detail).at(pointer));
        }
        if found.insert(name, value).is_some() {
            return Err(Refusal::new(400, "this parameter stands there twice").at(pointer));
        }
    }
    Ok(found)
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
                u8::try_from(value).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Where the next page begins, and how long it is.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) cursor: Option<String>,
    pub(super) limit: usize,
}

/// What If-Match and If-None-Match name (RFC 9110, 13.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tags {
    /// `*`
    Any,
    /// The opaque parts of a list that may be empty. Weak ones are left out: nothing here has one.
    These(Vec<String>),
}

impl Tags {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        let mut rest = text.trim_start_matches([' ', '\t', ',']);
        while !rest.is_empty() {
            let strong = rest.strip_prefix("W/").unwrap_or(rest);
            // There may be commas between the quotes.
            let (tag, after) = strong.strip_prefix('"')?.split_once('"')?;
            if strong.len() == rest.len() {
                tags.push(tag.to_owned());
            }
            let after = after.trim_start_matches([' ', '\t']);
            if !after.is_empty() && !after.starts_with(',') {
                return None;
            }
            rest = after.trim_start_matches([' ', '\t', ',']);
        }
        Some(Self::These(tags))
    }
}

/// On what conditions a change is asked for.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) if_match: Option<Tags>,
    pub(super) if_none_match: Option<Tags>,
    pub(super) idempotency_key: Option<String>,
}

impl Call {
    /// A part of the path that is a name: what is none, is not there.
    pub(super) fn name(&self, part: &str) -> Result<Name, Refusal> {
        let text = self.text(part);
        text.parse()
            .map_err(|error: ids::Malformed| Refusal::new(404, error.to_string()))
    }

    pub(super) fn text(&self, part: &str) -> &str {
        self.path.get(part).map_or("", String::as_str)
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A parameter that is read as a `T`.
    pub(super) fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.parameter(name) else {
            return Ok(None);
        };
        let value = text.parse().ok();
        let refusal = || Refusal::new(400, format!("this is {what}")).at(format!("?{name}"));
        value.ok_or_else(refusal).map(Some)
    }

    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Refusal> {
        let refuse =
            |error: nbi::Quantity| Refusal::new(400, error.to_string()).at(format!("?{name}"));
        self.parameter(name)
            .map(parse_duration)
            .transpose()
            .map_err(refuse)
    }

    pub(super) fn window(&self) -> Result<Window, Refusal> {
        let what = "a number from 1 to 500";
        let limit = self.parsed("limit", what)?.unwrap_or(PAGE);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Refusal::new(400, format!("this is {what}")).at("?limit"));
        }
        Ok(Window {
            cursor: self.parameter("cursor").map(str::to_owned),
            limit,
        })
    }

    /// On what conditions the change is asked for.
    pub(super) fn conditions(&self) -> Result<Conditions, Refusal> {
        let tags = |name: &HeaderName| -> Result<Option<Tags>, Refusal> {
            let wrong = || {
                Refusal::new(
                    400,
                    format!("`{name}` is `*` or ETags in quotes, as GET shows them"),
                )
            };
            let tags = self
                .header(name)?
                .map(|text| Tags::parse(text).ok_or_else(wrong));
            tags.transpose()
        };
        let idempotency_key = self.header(&HeaderName::from_static("idempotency-key"))?;
        if idempotency_key.is_some_and(|key| !is_idempotency_key(key)) {
            return Err(Refusal::new(400, IDEMPOTENCY_KEY));
        }
        Ok(Conditions {
            if_match: tags(&IF_MATCH)?,
            if_none_match: tags(&IF_NONE_MATCH)?,
            idempotency_key: idempotency_key.map(str::to_owned),
        })
    }

    /// A header that stands there once, as text.
    pub(super) fn header(&self, name: &HeaderName) -> Result<Option<&str>, Refusal> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(text.trim())),
            _ => Err(Refusal::new(400, format!("`{name}` is one line of ASCII"))),
        }
    }

    /// The whole body, read.
    pub(super) async fn body<T: Checked>(self) -> Result<T, Refusal> {
        let mut body = self.pieces(BODY_BYTES_MAX)?;
        let mut text = Vec::new();
        while let Some(piece) = body.next().await? {
            text.extend_from_slice(&piece);
        }
        Ok(nbi::parse(&text)?)
    }

    /// The body piece by piece.
    pub(super) fn pieces(self, bytes_max: usize) -> Result<Pieces, Refusal> {
        let wanted = self.consumes.unwrap_or_default();
        let kind = self.header(&CONTENT_TYPE)?.unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case(wanted) {
            return Err(Refusal::new(415, format!("the body is to be {wanted}")));
        }
        if self.body.size_hint().lower() > bytes_max as u64 {
            return Err(too_large(bytes_max));
        }
        // Who trickles does not hold a connection for ever: this is slower than any line.
        let longest = Duration::from_secs(bytes_max as u64 / BODY_BYTES_PER_SECOND_MIN);
        Ok(Pieces {
            body: self.body,
            patience: self.patience,
            end: Instant::from_std(rt::now()) + self.patience + longest,
            left: bytes_max,
            bytes_max,
        })
    }
}

/// A body on its way in.
#[derive(Debug)]
pub(super) struct Pieces {
    body: Body,
    patience: Duration,
    end: Instant,
    left: usize,
    bytes_max: usize,
}

impl Pieces {
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let mut body = std::pin::Pin::new(&mut self.body);
            let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context));
            let end = self.end.min(Instant::from_std(rt::now()) + self.patience);
            let Ok(frame) = timeout_at(end, frame).await else {
                return Err(Refusal::new(408, "the body stopped coming"));
            };
            let frame = match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(Refusal::new(400, "the body ends early")),
                Some(Ok(frame)) => frame,
            };
            // Trailers say nothing to us.
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            let Some(left) = self.left.checked_sub(piece.len()) else {
                return Err(too_large(self.bytes_max));
            };
            self.left = left;
            return Ok(Some(piece));
        }
    }
}

fn too_large(bytes_max: usize) -> Refusal {
    Refusal::new(413, format!("{bytes_max} bytes at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_media_accepts_what_is_in_it() {
        for (accept, produces, expected) in [
            ("*/*", "application/json", true),
            ("application/*", "application/json", true),
            (
                "text/html, application/json;q=0.5",
                "application/json",
                true,
            ),
            ("Application/JSON", "application/json", true),
            ("text/html", "application/json", false),
            ("application/json;q=0", "application/json", false),
            ("", "application/json", false),
            ("text/event-stream", "text/event-stream", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a header"));
            assert_eq!(accepts(&headers, produces), expected, "{accept}");
        }
        assert!(accepts(&HeaderMap::new(), "application/json"));
    }

    #[test]
    fn tags_are_a_star_or_a_list() {
        let these = |tags: &[&str]| {
            let owned = tags.iter().map(|tag| (*tag).to_owned());
            Some(Tags::These(owned.collect()))
        };
        for (text, expected) in [
            ("*", Some(Tags::Any)),
            ("", these(&[])),
            ("\"a\"", these(&["a"])),
            ("\"a\", W/\"b\" ,\"c\"", these(&["a", "c"])),
            ("\"a,b\",\"\"", these(&["a,b", ""])),
            ("a", None),
            ("\"a", None),
            ("\"a\" \"b\"", None),
            ("*, \"a\"", None),
        ] {
            assert_eq!(Tags::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn parameters_are_known_single_and_decoded() {
        let found = parameters("a=1%202+3&b=%C3%A4&&c", &["a", "b", "c"]).expect("all are known");
        let pairs: Vec<_> = found
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(pairs, [("a", "1 2 3"), ("b", "ä"), ("c", "")]);
        for bad in ["x=1", "a=1&a=2", "a=%", "a=%zz", "a=%ff"] {
            let refusal = parameters(bad, &["a"]).expect_err(bad);
            assert_eq!(refusal.status(), 400, "{bad}");
        }
    }
}
