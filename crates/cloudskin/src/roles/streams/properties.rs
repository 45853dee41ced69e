//! Settings as upstream's standalone server has them: `SingleNodeConfig.java`, of a file such as its `config/standalone-config.properties`.
//!
//! Files that they name are found from where the process was started, as upstream finds them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Of the store, the controller and its REST interface, if nothing is said.
const PORTS: [u16; 3] = [6000, 9090, 9091];

/// `Config.java`, `PROPERTY_ACCESS_TOKEN_TTL_SECONDS`.
const TOKEN_TTL_SECONDS: u64 = 600;

/// What upstream has in the file and this server needs not: a user for itself, and stores of keys in Java's format beside the ones in PEM.
const NEEDLESS: [&str; 2] = [
    "singlenode.security.auth.credentials.",
    "singlenode.security.tls.keyStore.",
];

/// The settings, and the names of properties that mean nothing here.
pub(super) fn settings(text: &str) -> anyhow::Result<(streams::Config, Vec<String>)> {
    let mut properties = Properties(parse(text)?);
    let mut config = streams::Config::default();
    let listener = properties.take(&["pravegaservice.service.listener.host.nameOrIp"]);
    let address = match listener.as_deref() {
        None | Some("" | "localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(address) => address
            .parse()
            .with_context(|| format!("{address} is no address to listen at"))?,
    };
    let [store, controller, rest] = [
        [
            "singlenode.segmentStore.port",
            "singlenode.segmentstorePort",
        ],
        [
            "singlenode.controller.rpc.port",
            "singlenode.controllerPort",
        ],
        [
            "singlenode.controller.rest.port",
            "singlenode.restServerPort",
        ],
    ];
    let store = properties.parse(&store)?.unwrap_or(PORTS[0]);
    let controller = properties.parse(&controller)?.unwrap_or(PORTS[1]);
    config.store.listen = SocketAddr::new(address, store);
    config.controller.listen = SocketAddr::new(address, controller);
    let rest = properties.parse(&rest)?.unwrap_or(PORTS[2]);
    config.rest.listen = SocketAddr::new(address, rest);
    config.publish = properties
        .take(&["pravegaservice.service.published.host.nameOrIp"])
        .filter(|host| !host.is_empty());
    config.tls = tls(&mut properties)?;
    config.auth = auth(&mut properties)?;
    let unknown = properties.0.into_keys();
    let unknown =
        unknown.filter(|name| !NEEDLESS.iter().any(|needless| name.starts_with(needless)));
    Ok((config, unknown.collect()))
}

fn tls(properties: &mut Properties) -> anyhow::Result<Option<streams::Tls>> {
    let versions = properties.take(&["singlenode.security.tls.protocolVersion"]);
    let certificate = properties.file(&[
        "singlenode.security.tls.certificate.location",
        "singlenode.certFile",
    ]);
    let key = properties.file(&[
        "singlenode.security.tls.privateKey.location",
        "singlenode.keyFile",
    ]);
    if !properties.is_on(&["singlenode.security.tls.enable", "singlenode.enableTls"])? {
        return Ok(None);
    }
    if versions.is_some_and(|versions| !versions.contains("TLSv1.3")) {
        bail!("singlenode.security.tls.protocolVersion: TLSv1.3 is the one that is spoken");
    }
    Ok(Some(streams::Tls {
        certificate: certificate.context("singlenode.security.tls.certificate.location?")?,
        key: key.context("singlenode.security.tls.privateKey.location?")?,
    }))
}

fn auth(properties: &mut Properties) -> anyhow::Result<Option<streams::Auth>> {
    let passwords = properties.file(&[
        "singlenode.security.auth.pwdAuthHandler.accountsDb.location",
        "singlenode.passwdFile",
    ]);
    let ttl = properties.parse(&["controller.security.auth.delegationToken.ttl.seconds"])?;
    if !properties.is_on(&["singlenode.security.auth.enable", "singlenode.enableAuth"])? {
        return Ok(None);
    }
    let wanted = "singlenode.security.auth.pwdAuthHandler.accountsDb.location?";
    Ok(Some(streams::Auth {
        passwords: passwords.context(wanted)?,
        token_key: None,
        token_ttl: Duration::from_secs(ttl.unwrap_or(TOKEN_TTL_SECONDS)),
    }))
}

/// Those that nobody has asked for yet.
struct Properties(BTreeMap<String, String>);

impl Properties {
    /// What one of these names has. Older names are behind, and go before, as in `TypedProperties.java`.
    fn take(&mut self, names: &[&str]) -> Option<String> {
        let values = names.iter().rev().map(|name| self.0.remove(*name));
        values.fold(None, Option::or)
    }

    fn parse<T: std::str::FromStr>(&mut self, names: &[&str]) -> anyhow::Result<Option<T>> {
        let Some(value) = self.take(names) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => bail!("{} cannot be {value:?}", names[0]),
        }
    }

    /// `TypedProperties.java`, `parseBoolean`.
    fn is_on(&mut self, names: &[&str]) -> anyhow::Result<bool> {
        let value = self.take(names).map(|value| value.to_ascii_lowercase());
        match value.as_deref() {
            Some("true" | "yes" | "1") => Ok(true),
            None | Some("false" | "no" | "0") => Ok(false),
            Some(value) => bail!("{} cannot be {value:?}: it is true or false", names[0]),
        }
    }

    fn file(&mut self, names: &[&str]) -> Option<PathBuf> {
        let path = self.take(names).filter(|path| !path.is_empty());
        path.map(PathBuf::from)
    }
}

/// As `java.util.Properties` reads them: a later one goes before an earlier one of the same name.
fn parse(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut properties = BTreeMap::new();
    let mut lines = text.lines().map(str::trim_start).zip(1..);
    while let Some((line, number)) = lines.next() {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut line = line.to_owned();
        // A backslash at the end that is not itself escaped: the next line belongs to this one.
        while line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1 {
            line.pop();
            line.push_str(lines.next().map_or("", |(line, _)| line));
        }
        let (name, value) = split(&line);
        let unescaped = |text| unescape(text).with_context(|| format!("understand line {number}"));
        let value = unescaped(value)?;
        properties.insert(unescaped(name)?, value.trim().to_owned());
    }
    Ok(properties)
}

/// A name ends at the first blank, `=` or `:` that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    let end = line.find(|char: char| {
        let ends = !is_escaped && (char.is_whitespace() || char == '=' || char == ':');
        is_escaped = !is_escaped && char == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, rest.trim_start())
}

fn unescape(text: &str) -> anyhow::Result<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            plain.push(char);
            continue;
        }
        plain.push(match chars.next() {
            Some('t') => '\t',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('f') => '\u{c}',
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                let char = code.and_then(char::from_u32).filter(|_| digits.len() == 4);
                char.context("\\u has four hexadecimal digits behind it, of one character")?
            }
            Some(other) => other,
            None => bail!("nothing follows a backslash"),
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests;
