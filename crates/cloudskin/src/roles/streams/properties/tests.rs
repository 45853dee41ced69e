use std::path::Path;

use super::*;

/// What the tests of upstream's client in Rust write: `integration_test/src/pravega_service.rs`.
const OF_RUST: &str = "
# as java-properties writes it
singlenode.security.auth.enable=true
singlenode.security.auth.pwdAuthHandler.accountsDb.location=./pravega/conf/passwd
singlenode.security.auth.credentials.username=admin
singlenode.security.auth.credentials.pwd=1111_aaaa
singlenode.security.tls.enable=true
singlenode.security.tls.privateKey.location=./pravega/conf/server-key.key
singlenode.security.tls.certificate.location=./pravega/conf/server-cert.crt
singlenode.security.tls.keyStore.location=./pravega/conf/server.keystore.jks
singlenode.security.tls.keyStore.pwd.location=./pravega/conf/server.keystore.jks.passwd
singlenode.security.tls.trustStore.location=./pravega/conf/client.truststore.jks
pravegaservice.service.published.host.nameOrIp=localhost
";

#[test]
fn what_the_tests_of_the_client_in_rust_write_is_understood() {
    let (config, unknown) = settings(OF_RUST).expect("settings");
    let tls = config.tls.expect("it is on");
    let auth = config.auth.expect("it is on");
    assert_eq!(auth.passwords, Path::new("./pravega/conf/passwd"));
    assert_eq!(auth.token_ttl, Duration::from_mins(10));
    assert_eq!(tls.key, Path::new("./pravega/conf/server-key.key"));
    assert_eq!(tls.certificate, Path::new("./pravega/conf/server-cert.crt"));
    assert_eq!(config.publish.as_deref(), Some("localhost"));
    assert_eq!(unknown, ["singlenode.security.tls.trustStore.location"]);

    let off = OF_RUST.replace("enable=true", "enable = false");
    let (config, _) = settings(&off).expect("settings");
    assert_eq!((config.tls, config.auth), (None, None));
}

#[test]
fn ports_are_those_of_upstream_if_nothing_else_is_said() {
    let listening = |text| {
        let (config, _) = settings(text).expect(text);
        let listen = [
            config.store.listen,
            config.controller.listen,
            config.rest.listen,
        ];
        assert!(listen.iter().all(|it| it.ip() == listen[0].ip()));
        (listen[0].ip().is_loopback(), listen.map(|it| it.port()))
    };
    assert_eq!(listening(""), (true, [6000, 9090, 9091]));
    let text = "singlenode.segmentstorePort: 1\nsinglenode.controller.rpc.port 2\n\
        pravegaservice.service.listener.host.nameOrIp = 0.0.0.0";
    assert_eq!(listening(text), (false, [1, 2, 9091]));
    let text = "singlenode.segmentstorePort=1\nsinglenode.segmentStore.port=3\n\
        singlenode.controller.rest.port=4";
    assert_eq!(listening(text), (true, [1, 9090, 4]));
}

#[test]
fn properties_are_those_of_java() {
    let check = |text, wanted: &[(&str, &str)]| {
        let found = parse(text).expect(text);
        let found: Vec<_> = found
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(found, wanted, "{text}");
    };
    check("", &[]);
    check("# a=b\n  ! c=d\n\n", &[]);
    check("a=b\na = c \n", &[("a", "c")]);
    check("a : b=c", &[("a", "b=c")]);
    check("a", &[("a", "")]);
    check("a b", &[("a", "b")]);
    check(r"a\:b\=c=d\\e\u0041", &[("a:b=c", r"d\eA")]);
    check(
        "a=b\\\n   c\nd=e\\\\\nf=g",
        &[("a", "bc"), ("d", r"e\"), ("f", "g")],
    );
    check("a=b\\", &[("a", "b")]);
    for text in [r"a=\u12", r"a=\uD800", r"a=\uXYZW"] {
        parse(text).expect_err(text);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for text in [
        "singlenode.segmentStore.port=70000",
        "singlenode.security.tls.enable=maybe",
        "singlenode.security.tls.enable=true",
        "singlenode.security.auth.enable=true",
        "pravegaservice.service.listener.host.nameOrIp=example.org",
    ] {
        settings(text).expect_err(text);
    }
    let old = OF_RUST.to_owned() + "singlenode.security.tls.protocolVersion=TLSv1.2";
    settings(&old).expect_err("an old version");
    let both = OF_RUST.to_owned() + "singlenode.security.tls.protocolVersion=TLSv1.2,TLSv1.3";
    settings(&both).expect("one of them");
}
