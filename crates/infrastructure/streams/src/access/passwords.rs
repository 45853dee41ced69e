//! A file of users, with their passwords and rules: that of upstream's `PasswordAuthHandler.java` and `StrongPasswordProcessor.java`.
//!
//! Each line is `USER:PASSWORD:RULES`, where the password is the hexadecimal form of the text `ITERATIONS:SALT:KEY`, of which salt and key are
//! hexadecimal again, and the key is PBKDF2 with HMAC-SHA-256, of 64 bytes. Lines that are empty or begin with `#` mean nothing.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use ring::{hmac, pbkdf2};
use tokio::sync::Semaphore;

use super::WAITING_MAX;
use super::rules::Rules;

const PBKDF2: pbkdf2::Algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
const KEY_BYTES: usize = 64;
const SALT_BYTES: usize = 32;

/// Of a new password. Upstream takes any number; its own is 5,000.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).expect("it is more than none");
/// More would keep a processor busy for seconds.
const ITERATIONS_MAX: u32 = 10_000_000;

/// Users by their names.
pub(super) type Accounts = HashMap<String, Account>;

/// One user.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) encrypted: Encrypted,
    pub(super) rules: Rules,
    /// What a password that was right is known again by.
    pub(super) known: Arc<OnceLock<hmac::Tag>>,
    /// Until it is known whether theirs is.
    pub(super) waiting: Arc<Semaphore>,
}

/// What a password is recognised by, slowly.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Encrypted {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    key: Vec<u8>,
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encrypted(…)")
    }
}

impl Encrypted {
    pub(super) fn new(password: &str) -> Self {
        let mut salt = vec![0; SALT_BYTES];
        rt::fill_random(&mut salt);
        let mut key = vec![0; KEY_BYTES];
        pbkdf2::derive(PBKDF2, ITERATIONS, &salt, password.as_bytes(), &mut key);
        Self {
            iterations: ITERATIONS,
            salt,
            key,
        }
    }

    /// A password that nobody has, to take as long as those of others.
    pub(super) fn of_nobody(others: &Accounts) -> Self {
        let iterations = others.values().map(|other| other.encrypted.iterations);
        Self {
            iterations: iterations.max().unwrap_or(ITERATIONS),
            salt: vec![0; SALT_BYTES],
            key: vec![0; KEY_BYTES],
        }
    }

    /// It takes milliseconds.
    pub(super) fn is_of(&self, password: &str) -> bool {
        let password = password.as_bytes();
        pbkdf2::verify(PBKDF2, self.iterations, &self.salt, password, &self.key).is_ok()
    }

    fn parse(text: &str) -> Option<Self> {
        let text = String::from_utf8(from_hexadecimal(text)?).ok()?;
        let mut parts = text.split(':');
        let iterations: NonZeroU32 = parts.next()?.parse().ok()?;
        let salt = from_hexadecimal(parts.next()?)?;
        let key = from_hexadecimal(parts.next()?)?;
        let is_whole = parts.next().is_none() && key.len() == KEY_BYTES;
        (is_whole && iterations.get() <= ITERATIONS_MAX).then_some(Self {
            iterations,
            salt,
            key,
        })
    }
}

impl fmt::Display for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, key) = (hexadecimal(&self.salt), hexadecimal(&self.key));
        let text = format!("{}:{salt}:{key}", self.iterations);
        f.write_str(&hexadecimal(text.as_bytes()))
    }
}

/// What is in a file. An account whose password has not changed is still known.
///
/// # Errors
/// The number of a line, from 1 on, and what is wrong with it.
pub(super) fn parse(text: &str, before: &Accounts) -> Result<Accounts, (usize, &'static str)> {
    let mut accounts = Accounts::new();
    for (idx, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |why| (idx + 1, why);
        let (user, mut account) = account(line).map_err(at)?;
        if let Some(known) = before.get(user)
            && known.encrypted == account.encrypted
        {
            account.known = Arc::clone(&known.known);
            account.waiting = Arc::clone(&known.waiting);
        }
        if accounts.insert(user.to_owned(), account).is_some() {
            return Err(at("this user is there already"));
        }
    }
    Ok(accounts)
}

fn account(line: &str) -> Result<(&str, Account), &'static str> {
    let mut fields = line.splitn(3, ':');
    let user = fields.next().filter(|user| !user.is_empty());
    let user = user.ok_or("a line is USER:PASSWORD:RULES")?;
    let encrypted = fields.next().and_then(Encrypted::parse);
    let encrypted = encrypted
        .ok_or("behind the user comes its password, as `cloudskin streams password` prints it")?;
    let rules = Rules::parse(fields.next().unwrap_or_default())?;
    let account = Account {
        encrypted,
        rules,
        known: Arc::default(),
        waiting: Arc::new(Semaphore::new(WAITING_MAX)),
    };
    Ok((user, account))
}

/// A line of such a file.
///
/// # Errors
/// What is wrong with the user or the rules.
pub fn line(user: &str, password: &str, rules: &str) -> Result<String, &'static str> {
    if user.is_empty() || user.starts_with('#') || user.contains([':', '\n', '\r']) {
        return Err("a user's name has no colon, and does not begin with #");
    }
    Rules::parse(rules)?;
    if rules.contains(['\n', '\r']) {
        return Err("rules are on one line");
    }
    Ok(format!("{user}:{}:{rules}", Encrypted::new(password)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let [high, low] = pair else { return None };
        u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Permission;

    /// Upstream's `config/passwd`: the password is `1111_aaaa`.
    const OF_UPSTREAM: &str = include_str!("../../tests/golden/passwd");

    #[test]
    fn the_file_of_upstream_is_understood() {
        let accounts = parse(OF_UPSTREAM, &Accounts::new()).expect("it is one");
        let admin = &accounts["admin"];
        assert!(admin.encrypted.is_of("1111_aaaa"));
        assert!(!admin.encrypted.is_of("1111_aaab"));
        assert!(!admin.encrypted.is_of(""));
        let permission = admin.rules.permission("prn::/scope:a/stream:b");
        assert_eq!(permission, Some(Permission::ReadUpdate));
        let written = format!("admin:{}:prn::*,READ_UPDATE;\n", admin.encrypted);
        assert_eq!(written, OF_UPSTREAM);
        assert!(!format!("{admin:?}").contains("633a"));
    }

    #[test]
    fn a_line_that_is_made_is_understood() {
        let made = line("eve", "pass:word ü", "prn::/scope:lab,READ").expect("it is made");
        let text = format!(
            "# users\n\n{made}\nbob:{}\n",
            Encrypted::of_nobody(&Accounts::new())
        );
        let accounts = parse(&text, &Accounts::new()).expect("it is a file");
        assert!(accounts["eve"].encrypted.is_of("pass:word ü"));
        assert!(!accounts["bob"].encrypted.is_of("pass:word ü"));
        assert_eq!(accounts["bob"].rules, Rules::default());
        let made = line("eve", "another", "").expect("it is made");
        let changed = parse(&format!("{text}#\n").replace("# users\n", &made), &accounts);
        assert_eq!(changed.expect_err("she is there twice").0, 2);
    }

    #[test]
    fn who_has_another_password_is_not_known_any_more() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let line = |user| line(user, "secret", "").expect("it is made");
        let (eve, bob) = (line("eve"), line("bob"));
        let accounts = parse(&format!("{eve}\n{bob}"), &Accounts::new()).expect("a file");
        for account in accounts.values() {
            account
                .known
                .set(hmac::sign(&key, b"x"))
                .expect("it is new");
        }
        let again = parse(&format!("{}\n{bob}", line("eve")), &accounts).expect("a file");
        assert!(again["eve"].known.get().is_none());
        assert!(again["bob"].known.get().is_some());
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let hex = |text: &str| hexadecimal(text.as_bytes());
        let key = "00".repeat(KEY_BYTES);
        for line in [
            "eve".to_owned(),
            "eve:".to_owned(),
            ":00:".to_owned(),
            "eve:xyz:".to_owned(),
            format!("eve:{}:", hex("5000:00")),
            format!("eve:{}:", hex(&format!("0:00:{key}"))),
            format!("eve:{}:", hex(&format!("10000001:00:{key}"))),
            format!("eve:{}:", hex(&format!("5000:0:{key}"))),
            format!("eve:{}:", hex(&format!("5000:00:{key}00"))),
            format!("eve:{}:", hex("5000:00:00")),
            format!("eve:{}:", hex(&format!("5000:00:{key}:"))),
            format!("eve:{}:*,READ", hex(&format!("5000:00:{key}"))),
        ] {
            let text = format!("#\n{line}");
            let (number, _) = parse(&text, &Accounts::new()).expect_err(&line);
            assert_eq!(number, 2);
        }
        for (user, rules) in [
            ("", ""),
            ("a:b", ""),
            ("#a", ""),
            ("a\nb", ""),
            ("a", "READ"),
        ] {
            line(user, "x", rules).expect_err(user);
        }
    }
}
