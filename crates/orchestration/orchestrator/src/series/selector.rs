//! Which series are wanted: the selectors of Prometheus' query language, and nothing else of it.

use std::fmt;

use ids::Labels;
use regex::{Regex, RegexBuilder};

const TEXT_BYTES_MAX: usize = 4096;
const MATCHERS_MAX: usize = 32;
/// What one compiled expression may take; a selector has at most [`MATCHERS_MAX`] of them.
const REGEX_BYTES_MAX: usize = 64 << 10;

/// The label under which a series' name is matched.
pub(crate) const NAME_LABEL: &str = "__name__";

/// `name{label="value",other=~"expression"}`, with `=`, `!=`, `=~` and `!~`; expressions match the whole value. A label that a series does
/// not have counts as empty.
#[derive(Clone, Debug)]
pub struct Selector {
    matchers: Vec<Matcher>,
}

#[derive(Clone, Debug)]
struct Matcher {
    label: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Equal(String),
    NotEqual(String),
    Matches(Regex),
    NotMatches(Regex),
}

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} at byte {at}; only selectors such as name{{label=\"value\",other=~\"a|b\"}} are served here: no functions, operators, \
     ranges or offsets"
)]
pub struct BadSelector {
    at: usize,
    what: String,
}

impl Selector {
    /// # Errors
    /// When the text is not a selector, or longer than it may be.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let mut parser = Parser { text, at: 0 };
        if text.len() > TEXT_BYTES_MAX {
            return Err(parser.bad(format_args!("more than {TEXT_BYTES_MAX} bytes")));
        }
        let selector = parser.selector()?;
        let is_wanting = |matcher: &Matcher| !matcher.test.accepts("");
        if selector.matchers.iter().any(is_wanting) {
            Ok(selector)
        } else {
            Err(parser.bad("no matcher that excludes the empty value"))
        }
    }

    /// The name that a series must have, if the selector names one.
    pub(super) fn name(&self) -> Option<&str> {
        self.matchers
            .iter()
            .find_map(|matcher| match &matcher.test {
                Test::Equal(name) if matcher.label == NAME_LABEL => Some(name.as_str()),
                _ => None,
            })
    }

    pub(super) fn accepts(&self, name: &str, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| {
            let value = match matcher.label.as_str() {
                NAME_LABEL => name,
                label => labels.get(label).map_or("", String::as_str),
            };
            matcher.test.accepts(value)
        })
    }
}

impl Test {
    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Equal(wanted) => value == wanted,
            Self::NotEqual(unwanted) => value != unwanted,
            Self::Matches(regex) => regex.is_match(value),
            Self::NotMatches(regex) => !regex.is_match(value),
        }
    }
}

pub(super) fn is_metric_name(text: &str) -> bool {
    is_word(text, |b| b == b'_' || b == b':')
}

pub(super) fn is_label_name(text: &str) -> bool {
    is_word(text, |b| b == b'_')
}

fn is_word(text: &str, is_extra: fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || is_extra(b))
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn selector(&mut self) -> Result<Selector, BadSelector> {
        let mut matchers = Vec::new();
        let name = self.word(true);
        if !name.is_empty() {
            matchers.push(Matcher {
                label: NAME_LABEL.to_owned(),
                test: Test::Equal(name.to_owned()),
            });
        }
        if self.take("{") {
            while !self.take("}") {
                matchers.push(self.matcher()?);
                if matchers.len() > MATCHERS_MAX {
                    return Err(self.bad(format_args!("more than {MATCHERS_MAX} matchers")));
                }
                if !self.take(",") && !self.rest().starts_with('}') {
                    return Err(self.unexpected());
                }
            }
        }
        if self.rest().is_empty() {
            Ok(Selector { matchers })
        } else {
            Err(self.unexpected())
        }
    }

    fn matcher(&mut self) -> Result<Matcher, BadSelector> {
        let label = self.word(false).to_owned();
        if label.is_empty() {
            return Err(self.unexpected());
        }
        // The longer operators first: `=` begins one of them.
        let operators = ["=~", "!~", "!=", "="];
        let Some(operator) = operators.into_iter().find(|operator| self.take(operator)) else {
            return Err(self.unexpected());
        };
        let value_at = self.at;
        let value = self.quoted()?;
        let regex = |value: &str| {
            RegexBuilder::new(&format!("^(?s:{value})$"))
                .size_limit(REGEX_BYTES_MAX)
                .dfa_size_limit(REGEX_BYTES_MAX)
                .build()
                .map_err(|_| BadSelector {
                    at: value_at,
                    what: "an expression that is malformed or too large".to_owned(),
                })
        };
        let test = match operator {
            "=~" => Test::Matches(regex(&value)?),
            "!~" => Test::NotMatches(regex(&value)?),
            "!=" => Test::NotEqual(value),
            _ => Test::Equal(value),
        };
        Ok(Matcher { label, test })
    }

    fn rest(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn take(&mut self, token: &str) -> bool {
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    fn word(&mut self, may_have_colons: bool) -> &'t str {
        let rest = self.rest();
        let belongs =
            |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (may_have_colons && b == b':');
        let len = rest.bytes().take_while(|b| belongs(*b)).count();
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            return "";
        }
        self.at += len;
        &rest[..len]
    }

    /// A string as Prometheus writes it: in double or single quotes with escapes, or raw between backquotes.
    fn quoted(&mut self) -> Result<String, BadSelector> {
        let Some(quote @ ('"' | '\'' | '`')) = self.rest().chars().next() else {
            return Err(self.unexpected());
        };
        let begin = self.at;
        let mut value = String::new();
        let mut chars = self.text[begin + 1..].char_indices();
        while let Some((idx, c)) = chars.next() {
            self.at = begin + 1 + idx;
            match c {
                c if c == quote => {
                    self.at += 1;
                    return Ok(value);
                }
                '\\' if quote != '`' => match chars.next().map(|(_, escaped)| escaped) {
                    Some(c @ ('\\' | '"' | '\'')) => value.push(c),
                    Some('n') => value.push('\n'),
                    Some('t') => value.push('\t'),
                    Some('r') => value.push('\r'),
                    _ => return Err(self.bad("an unknown escape")),
                },
                c => value.push(c),
            }
        }
        self.at = begin;
        Err(self.bad("a string without end"))
    }

    fn unexpected(&mut self) -> BadSelector {
        match self.rest().chars().next() {
            Some(c) => self.bad(format_args!("unexpected `{c}`")),
            None => self.bad("unexpected end"),
        }
    }

    fn bad(&self, what: impl fmt::Display) -> BadSelector {
        BadSelector {
            at: self.at,
            what: what.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(selector: &str, name: &str, labels: &[(&str, &str)]) -> bool {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let selector = Selector::parse(selector).expect(selector);
        selector.accepts(name, &labels.iter().map(owned).collect())
    }

    #[test]
    fn selectors_match_like_prometheus() {
        let edge = [("site", "edge"), ("rank", "0")];
        for (selector, expected) in [
            ("up", true),
            (" up { } ", true),
            ("down", false),
            (r#"up{site="edge"}"#, true),
            (r#"up{site="edge",}"#, true),
            (r#"up{site='edge', rank!="1"}"#, true),
            ("up{site=~`e.*`}", true),
            (r#"up{site=~"e"}"#, false),
            (r#"up{site=~"cloud|edge"}"#, true),
            (r#"up{site!~"cloud|edge"}"#, false),
            (r#"up{absent=""}"#, true),
            (r#"up{absent!=""}"#, false),
            (r#"{__name__=~"u.", site="edge"}"#, true),
            (r#"{__name__="up"}"#, true),
            (r#"up{site="a\"b"}"#, false),
        ] {
            assert_eq!(accepts(selector, "up", &edge), expected, "{selector}");
        }
        assert!(accepts(r#"a:b{x="\\\n"}"#, "a:b", &[("x", "\\\n")]));
    }

    #[test]
    fn what_is_not_a_selector_is_refused() {
        for (text, what) in [
            ("", "no matcher"),
            ("{}", "no matcher"),
            (r#"{a=""}"#, "no matcher"),
            (r#"{a=~".*"}"#, "no matcher"),
            ("rate(up[5m])", "unexpected `(` at byte 4"),
            ("up[5m]", "unexpected `[` at byte 2"),
            ("up offset 5m", "unexpected `o`"),
            ("up @ 3", "unexpected `@`"),
            ("up + up", "unexpected `+`"),
            ("1", "unexpected `1`"),
            (r#"up{a="b" c="d"}"#, "unexpected `c`"),
            (r#"up{a="b"#, "a string without end"),
            (r#"up{a="b""#, "unexpected end"),
            (r#"up{a=~"("}"#, "an expression that is malformed"),
            (r#"up{a=~"(a{1000}){1000}"}"#, "malformed or too large"),
            (r#"up{a="\x"}"#, "an unknown escape"),
            (r#"up{1a="x"}"#, "unexpected `1`"),
            (&"a".repeat(5000), "more than 4096 bytes"),
        ] {
            let error = Selector::parse(text).expect_err(text).to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
        let many = format!("up{{{}}}", r#"a="b","#.repeat(40));
        Selector::parse(&many).expect_err("many matchers");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in r#"[a-z{}="'`~!,\\ \PC]{0,60}"#) {
            Selector::parse(&text).ok();
        }
    }
}
