use super::*;

#[test]
fn paths_and_parameters_are_escaped() {
    assert_eq!(escape("up{a=\"b\"}/ä"), "up%7Ba%3D%22b%22%7D%2F%C3%A4");
    assert_eq!((seconds(1_500), millis(1.5)), ("1.500".to_owned(), 1_500));
    assert_eq!(millis(1_700_000_000.123), 1_700_000_000_123);
}

#[test]
fn a_problem_is_told_with_its_fields() {
    let problem = crate::parse::<Scale>(br#"{"block":"a","replicas":1,"x":1,"y":2}"#);
    let text = Error::Problem(problem.expect_err("unknown fields")).to_string();
    assert_eq!(text, "/x: unknown field `x`\n/y: unknown field `y`");
}

#[test]
fn only_https_is_spoken() {
    Client::new("http://localhost", "t", &[]).expect_err("plain text");
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let nowhere = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let url = format!("https://{nowhere}/");
    let client = Client::new(&url, "t", b"no certificate").expect("a client");
    let error = client
        .ask_once(Request::get("/v1/sites", &[]))
        .expect_err("no server");
    assert!(
        error
            .to_string()
            .contains(&format!("reach https://{nowhere}")),
        "{error}"
    );
}
