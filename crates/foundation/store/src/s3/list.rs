//! Pages of a bucket as S3 writes them (`ListObjectsV2`), with the keys as they are: `ObjectStore` has no list of those that are no paths.

use serde::Deserialize;
use url::form_urlencoded;

/// What is listed. At most 1,000 items are told at once.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    pub prefix: &'a str,
    /// Keys that have it after the prefix are told as one prefix. An empty one is none.
    pub delimiter: &'a str,
    /// Those that come after this text.
    pub after: &'a str,
    pub items_max: usize,
}

/// What there is, each in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<Listed>,
    pub prefixes: Vec<String>,
    /// There is more after the last of both.
    pub is_cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub size: u64,
    /// Without quotation marks.
    pub etag: String,
    /// Since 1970.
    pub modified_ms: u64,
}

const ITEMS_MAX: usize = 1_000;

impl List<'_> {
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![
            ("list-type", "2".to_owned()),
            // XML cannot hold all keys.
            ("encoding-type", "url".to_owned()),
            ("max-keys", self.items_max.clamp(1, ITEMS_MAX).to_string()),
        ];
        for (name, text) in [
            ("prefix", self.prefix),
            ("delimiter", self.delimiter),
            ("start-after", self.after),
        ] {
            if !text.is_empty() {
                query.push((name, text.to_owned()));
            }
        }
        query
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    encoding_type: String,
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    contents: Vec<Contents>,
    #[serde(default)]
    common_prefixes: Vec<CommonPrefix>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    last_modified: String,
    #[serde(rename = "ETag")]
    etag: String,
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CommonPrefix {
    prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Complaint {
    code: String,
}

/// Why something was refused, in S3's words.
pub(super) fn code(body: &[u8]) -> Option<String> {
    let complaint: Complaint = quick_xml::de::from_str(std::str::from_utf8(body).ok()?).ok()?;
    let is_word = complaint.code.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_word && complaint.code.len() <= 64).then_some(complaint.code)
}

/// # Errors
/// It is no page, or none of what was asked for.
pub(super) fn parse(body: &[u8], of: &List<'_>) -> Result<Page, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let answer: Answer = quick_xml::de::from_str(text).map_err(|error| error.to_string())?;
    let is_encoded = answer.encoding_type == "url";
    let decode = |text: String| match is_encoded {
        true => decoded(&text),
        false => text,
    };
    let mut page = Page {
        is_cut: answer.is_truncated,
        ..Page::default()
    };
    for contents in answer.contents {
        let malformed = || format!("it was changed at {:?}", contents.last_modified);
        page.objects.push(Listed {
            modified_ms: since_1970_ms(&contents.last_modified).ok_or_else(malformed)?,
            key: decode(contents.key),
            size: contents.size,
            etag: contents.etag.trim_matches('"').to_owned(),
        });
    }
    let prefixes = answer.common_prefixes.into_iter();
    page.prefixes = prefixes.map(|common| decode(common.prefix)).collect();
    let texts = || {
        page.prefixes
            .iter()
            .chain(page.objects.iter().map(|object| &object.key))
    };
    if let Some(other) = texts().find(|text| !text.starts_with(of.prefix)) {
        return Err(format!("{other:?} does not begin with {:?}", of.prefix));
    }
    // Who asks for more goes on from the last one: it must not be the same for ever.
    if page.is_cut && texts().all(|text| text.as_str() <= of.after) {
        return Err("there is more, and nothing before that".to_owned());
    }
    Ok(page)
}

/// As forms are written: a blank may be a plus sign.
fn decoded(text: &str) -> String {
    let field = format!("={}", text.replace('&', "%26"));
    let mut pairs = form_urlencoded::parse(field.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(_, text)| text.into_owned())
}

/// Of `2009-10-12T17:50:30.123Z`. `None`: it is no time, or one before 1970.
fn since_1970_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, by: char| {
        let parts = text.split(by).map(|part| part.parse::<u64>().ok());
        parts.collect::<Option<Vec<_>>>()
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let ([year, month, day], [hour, minute, second]) = (
        numbers(date, '-')?.try_into().ok()?,
        numbers(time, ':')?.try_into().ok()?,
    );
    let is_date =
        (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years that begin in March, so that the day that not all have is their last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let digits = fraction.get(..fraction.len().min(3))?;
    let ms = format!("{digits:0<3}").parse::<u64>().ok()?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: List<'_> = List {
        prefix: "a",
        delimiter: "",
        after: "a1",
        items_max: 10,
    };

    fn page(items: &str) -> Result<Page, String> {
        let text = format!(
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{items}</ListBucketResult>"
        );
        parse(text.as_bytes(), &OF)
    }

    fn object(key: &str) -> String {
        format!(
            "<Contents><Key>{key}</Key><LastModified>1970-01-02T00:00:01.5Z</LastModified><ETag>&quot;e-2&quot;</ETag><Size>7</Size><Owner><ID>x</ID></Owner></Contents>"
        )
    }

    #[test]
    fn a_page_is_read_as_it_is_written() {
        let cut = "<IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>";
        let prefix = "<CommonPrefixes><Prefix>ab%2F</Prefix></CommonPrefixes>";
        let text = format!("{cut}{}{prefix}", object("a%2Fb+c%2B%C3%A9%26"));
        let expected = Page {
            objects: vec![Listed {
                key: "a/b c+é&".to_owned(),
                size: 7,
                etag: "e-2".to_owned(),
                modified_ms: 86_401_500,
            }],
            prefixes: vec!["ab/".to_owned()],
            is_cut: true,
        };
        assert_eq!(page(&text), Ok(expected));
        assert_eq!(page(""), Ok(Page::default()));
        let as_it_is = page(&object("a%2F")).expect("a page").objects;
        assert_eq!(as_it_is[0].key, "a%2F");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let cut = "<IsTruncated>true</IsTruncated>";
        for bad in [
            cut.to_owned(),
            format!("{cut}{}", object("a1")),
            object("b"),
            object("a").replace("1970", "70"),
            object("a").replace('7', "-7"),
            object("a").replace("<Size>7</Size>", ""),
            "<Contents>".to_owned(),
        ] {
            page(&bad).expect_err(&bad);
        }
        parse(b"\xff", &OF).expect_err("no text");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2009-10-12T17:50:30.000Z", Some(1_255_369_830_000)),
            ("2024-02-29T23:59:59.1239Z", Some(1_709_251_199_123)),
            ("2024-03-01T00:00:00Z", Some(1_709_251_200_000)),
            ("1969-12-31T23:59:59Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-01-01T24:00:00Z", None),
            ("2024-01-01T00:00:00", None),
            ("2024-01-01T00:00:00.é Z", None),
            ("", None),
        ] {
            assert_eq!(since_1970_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn only_a_word_is_taken_for_a_reason() {
        let error = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        assert_eq!(
            code(error("NoSuchBucket").as_bytes()).as_deref(),
            Some("NoSuchBucket")
        );
        assert_eq!(code(error("a\nb").as_bytes()), None);
        assert_eq!(code(b""), None);
    }
}
