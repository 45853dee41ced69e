//! What is behind the question mark of an address.

use super::answers::Failure;

/// The values of these names, where they are there; others mean nothing.
///
/// # Errors
/// It is not encoded as it should be, or is there twice.
pub(super) fn values<const N: usize>(
    query: Option<&str>,
    names: [&str; N],
) -> Result<[Option<String>; N], Failure> {
    let mut found = [const { None }; N];
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        if let Some(idx) = names.iter().position(|it| *it == name) {
            let former = found[idx].replace(decode(value)?);
            if former.is_some() {
                return Err(Failure::bad(format!("{name} is there twice")));
            }
        }
    }
    Ok(found)
}

fn decode(text: &str) -> Result<String, Failure> {
    let wrong = || Failure::bad("the query is not encoded as it should be");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = char::from(rest.next()?).to_digit(16)?;
                    u8::try_from(digit).ok()
                };
                let (high, low) = (digit(), digit());
                high.ok_or_else(wrong)? << 4 | low.ok_or_else(wrong)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_decoded() {
        let of = |query| values(Some(query), ["from", "tag"]).expect("a query");
        assert_eq!(of(""), [None, None]);
        assert_eq!(of("x=1&tag=a%2Fb+c"), [None, Some("a/b c".to_owned())]);
        assert_eq!(
            of("from&tag=%C3%A9"),
            [Some(String::new()), Some("é".into())]
        );
        for wrong in ["tag=%", "tag=%4", "tag=%zz", "tag=%ff", "tag=a&tag=b"] {
            values(Some(wrong), ["tag"]).expect_err(wrong);
        }
    }
}
